from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from mgmt_ray.base import MgmtError, stream
from mgmt_ray.statistics.adapted import (
    AS_PREDICTED,
    CALIBRATION_VERSIONS,
    FIT_COLUMNS,
    PRIOR_CORRECTED,
    TEMPERATURE_SCALED,
    THRESHOLD_CHOSEN,
    Adapted,
    adapt,
    mean_fits,
)
from mgmt_ray.statistics.fitted import choose_threshold, fit_temperature
from tests.statistics.conftest import SplitPredictions


@pytest.fixture(scope="module")
def validation(make_split_predictions: SplitPredictions) -> pd.DataFrame:
    return make_split_predictions("validation", outers=(0, 1), subjects=range(80))


@pytest.fixture(scope="module")
def test(make_split_predictions: SplitPredictions) -> pd.DataFrame:
    return make_split_predictions("test", outers=(0, 1), shared=20)


@pytest.fixture(scope="module")
def adapted(validation: pd.DataFrame, test: pd.DataFrame) -> Adapted:
    return adapt(validation, test)


def of(table: pd.DataFrame, network: str, outer: int) -> pd.DataFrame:
    return table[(table["network"] == network) & (table["outer"] == outer)].sort_values("subject")


def test_everything_is_fitted_on_the_validation_subjects_of_the_outer_split(
    adapted: Adapted, validation: pd.DataFrame
) -> None:
    assert tuple(adapted.fits.columns) == FIT_COLUMNS
    assert len(adapted.fits) == 4
    for fit in adapted.fits.itertuples():
        own = of(validation, fit.network, fit.outer)
        labels, p = own["label"].to_numpy(), own["probability"].to_numpy()
        assert fit.threshold == choose_threshold(labels, p)
        assert fit.prevalence == pytest.approx(0.4)
        assert fit.prior_shift == pytest.approx(logit(0.4))
        assert fit.prior_threshold == pytest.approx(0.6)
        assert fit.temperature == fit_temperature(labels, logit(p) + logit(0.4))
    assert adapted.fits["threshold"].nunique() == 4


def test_each_outer_split_maps_its_own_test_subjects_and_shared_ones_are_averaged(
    adapted: Adapted, test: pd.DataFrame
) -> None:
    fits = adapted.fits.set_index(["network", "outer"])
    for network, rows in adapted.probabilities.groupby("network"):
        parts = []
        for outer in (0, 1):
            own, fit = of(test, network, outer).set_index("subject"), fits.loc[(network, outer)]
            z = logit(own["probability"])
            parts.append(
                pd.DataFrame(
                    {
                        AS_PREDICTED: own["probability"],
                        THRESHOLD_CHOSEN: expit(z - logit(fit["threshold"])),
                        PRIOR_CORRECTED: expit(z + logit(0.4)),
                        TEMPERATURE_SCALED: expit((z + logit(0.4)) / fit["temperature"]),
                    }
                )
            )
        expected = pd.concat(parts).groupby("subject").mean()
        assert len(expected) == 57 + 37
        found = rows.set_index("subject")[list(expected.columns)]
        assert found.index.is_monotonic_increasing
        pd.testing.assert_frame_equal(found, expected, rtol=1e-9)


def test_nothing_is_fitted_on_test_subjects(
    adapted: Adapted, validation: pd.DataFrame, test: pd.DataFrame
) -> None:
    other = test.assign(label=1 - test["label"], probability=stream(5, "test").random(len(test)))
    pd.testing.assert_frame_equal(adapt(validation, other).fits, adapted.fits)
    # and the mapping of one subject does not depend on who else is tested
    fewer = adapt(validation, test[test["subject"] < "test0_010"]).probabilities
    whole = adapted.probabilities
    same = whole[whole["subject"].isin(fewer["subject"])].reset_index(drop=True)
    assert len(fewer) == 20
    pd.testing.assert_frame_equal(fewer, same)


def test_temperature_and_prior_leave_the_order_within_an_outer_split_alone(
    make_split_predictions: SplitPredictions,
) -> None:
    found = adapt(make_split_predictions("validation"), make_split_predictions("test"))
    for _, rows in found.probabilities.groupby("network"):
        order = rows[AS_PREDICTED].rank()
        for version in (*CALIBRATION_VERSIONS, THRESHOLD_CHOSEN):
            assert (rows[version].rank() == order).all()


def test_the_training_prior_of_each_row_is_corrected(
    make_split_predictions: SplitPredictions,
) -> None:
    found = adapt(
        make_split_predictions("validation", subjects=range(50), prior=0.4),
        make_split_predictions("test", prior=0.4),
    )
    np.testing.assert_allclose(found.fits["prior_shift"], 0.0, atol=1e-12)
    rows = found.probabilities
    np.testing.assert_allclose(rows[PRIOR_CORRECTED], rows[AS_PREDICTED], rtol=1e-9)


def test_the_mean_over_outer_splits_is_told(adapted: Adapted) -> None:
    means = mean_fits(adapted.fits)
    own = adapted.fits[adapted.fits["network"] == "random"]
    assert means["random", "best overall"]["temperature"] == own["temperature"].mean()


@pytest.mark.parametrize("fault", ["class", "split"])
def test_without_validation_subjects_of_both_classes_nothing_is_fitted(
    fault: str, validation: pd.DataFrame, test: pd.DataFrame
) -> None:
    lost = validation["outer"] == 1
    if fault == "class":
        lost &= validation["label"] == 1
    with pytest.raises(MgmtError, match="best overall, outer split 1: no validation subjects of b"):
        adapt(validation[~lost], test)
