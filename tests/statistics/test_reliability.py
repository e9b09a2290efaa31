from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from statsmodels.stats.proportion import proportion_confint

from mgmt_ray.base import stream
from mgmt_ray.statistics.calibrators import recalibrate
from mgmt_ray.statistics.reliability import (
    RELIABILITY_COLUMNS,
    expected_calibration_error,
    reliability_bins,
    reliability_table,
)
from tests.statistics.conftest import split_predictions


def test_bins_are_those_of_scikit_learn_where_all_are_of_one_size() -> None:
    draws = stream(0, "test")
    p, labels = draws.random(100), (draws.random(100) < 0.4).astype(int)
    bins = reliability_bins(labels, p)
    shares, means = calibration_curve(labels, p, n_bins=10, strategy="quantile")
    assert [b.count for b in bins] == [10] * 10
    np.testing.assert_allclose([b.share.value for b in bins], shares)
    np.testing.assert_allclose([b.mean_probability for b in bins], means)
    low, high = proportion_confint([10 * s for s in shares], 10, method="beta")
    np.testing.assert_allclose([b.share.low for b in bins], np.nan_to_num(low), atol=1e-12)
    np.testing.assert_allclose([b.share.high for b in bins], np.nan_to_num(high, nan=1.0))


@pytest.mark.parametrize(("number", "bins"), [(5, 1), (19, 1), (20, 2), (57, 5), (400, 10)])
def test_the_paper_size_has_five_bins_and_no_bin_has_fewer_than_ten(number: int, bins: int) -> None:
    p = stream(1, "test").random(number)
    counts = [b.count for b in reliability_bins(np.zeros(number, dtype=int), p)]
    assert len(counts) == bins
    assert sum(counts) == number
    assert max(counts) - min(counts) <= 1
    assert min(counts) >= min(10, number)


def test_equal_probabilities_share_a_bin_whatever_the_order_of_subjects() -> None:
    draws = stream(2, "test")
    p, labels = np.round(draws.random(60), 1), (draws.random(60) < 0.5).astype(int)
    bins = reliability_bins(labels, p)
    for _ in range(5):
        order = draws.permutation(60)
        again = reliability_bins(labels[order], p[order])
        assert [(b.count, b.share) for b in again] == [(b.count, b.share) for b in bins]
    assert len(reliability_bins(labels, np.full(60, 0.4))) == 1


def test_the_calibration_error_is_its_definition_written_out() -> None:
    draws = stream(3, "test")
    p, labels = draws.random(57), (draws.random(57) < 0.4).astype(int)
    order = np.argsort(p)
    slow = sum(
        len(part) / 57 * abs(p[part].mean() - labels[part].mean())
        for part in np.array_split(order, 5)
    )
    assert expected_calibration_error(labels, p) == pytest.approx(slow)
    assert expected_calibration_error(labels, np.full(57, labels.mean())) == pytest.approx(0)


def test_perfect_calibration_has_the_error_that_the_docstring_says() -> None:
    draws = stream(4, "test")
    errors = []
    for _ in range(300):
        p = draws.random(57)
        errors.append(expected_calibration_error((draws.random(57) < p).astype(int), p))
    # the standard error of this mean is 0.002
    assert np.mean(errors) == pytest.approx(0.1, abs=0.02)


def test_the_table_has_the_bins_of_each_version() -> None:
    recalibrated = recalibrate(split_predictions("validation"), split_predictions("test"))
    table = reliability_table(recalibrated)
    assert tuple(table.columns) == RELIABILITY_COLUMNS
    assert len(table) == 2 * 3 * 5
    assert (table.groupby(["network", "version"])["count"].sum() == 57).all()
    assert table["bin"].tolist() == [1, 2, 3, 4, 5] * 6
    assert (
        (table["low"] <= table["share_methylated"]) & (table["share_methylated"] <= table["high"])
    ).all()
