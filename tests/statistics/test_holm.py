from __future__ import annotations

import numpy as np
from statsmodels.stats.multitest import multipletests

from mgmt_ray.base import stream
from mgmt_ray.statistics.holm import holm


def test_corrected_values_are_those_of_statsmodels() -> None:
    draws = stream(0, "holm")
    for size in range(1, 41):
        p = draws.random(size).round(2) ** 2  # with ties, 0 and 1
        np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], rtol=1e-12)


def test_tests_that_were_not_made_are_not_counted() -> None:
    corrected = holm(np.array([np.nan, 0.01, 0.04, np.nan, 0.03]))
    np.testing.assert_allclose(corrected, [np.nan, 0.03, 0.06, np.nan, 0.06])


def test_nothing_is_corrected_to_nothing() -> None:
    assert holm(np.array([])).shape == (0,)
    assert np.isnan(holm(np.array([np.nan]))).all()
