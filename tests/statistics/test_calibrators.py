from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit, logit

from mgmt_ray.base import MgmtError, stream
from mgmt_ray.statistics.calibrators import (
    AS_PREDICTED,
    CALIBRATION_VERSIONS,
    FIT_COLUMNS,
    PRIOR_CORRECTED,
    TEMPERATURE_SCALED,
    TEMPERATURES,
    THRESHOLD_CHOSEN,
    Recalibrated,
    choose_threshold,
    fit_temperature,
    logits,
    prior_shift,
    recalibrate,
)
from mgmt_ray.training.metrics import criterion_m
from tests.statistics.conftest import split_predictions


@pytest.fixture(scope="module")
def validation() -> pd.DataFrame:
    return split_predictions("validation", outers=(0, 1), subjects=range(80))


@pytest.fixture(scope="module")
def test() -> pd.DataFrame:
    return split_predictions("test", outers=(0, 1), shared=20)


@pytest.fixture(scope="module")
def recalibrated(validation: pd.DataFrame, test: pd.DataFrame) -> Recalibrated:
    return recalibrate(validation, test)


def of(table: pd.DataFrame, network: str, outer: int) -> pd.DataFrame:
    return table[(table["network"] == network) & (table["outer_fold"] == outer)].sort_values(
        "subject"
    )


def test_everything_is_fitted_on_the_validation_subjects_of_the_outer_split(
    recalibrated: Recalibrated, validation: pd.DataFrame
) -> None:
    assert tuple(recalibrated.fits.columns) == FIT_COLUMNS
    assert len(recalibrated.fits) == 4
    for fit in recalibrated.fits.itertuples():
        rows_of_split = of(validation, fit.network, fit.outer_fold)
        labels, p = rows_of_split["label"].to_numpy(), rows_of_split["probability"].to_numpy()
        assert fit.threshold == choose_threshold(labels, p)
        assert fit.prevalence == pytest.approx(0.4)
        assert fit.prior_shift == pytest.approx(logit(0.4))
        assert fit.prior_threshold == pytest.approx(0.6)
        assert fit.temperature == fit_temperature(labels, logit(p) + logit(0.4))
    assert recalibrated.fits["threshold"].nunique() == 4


def test_each_outer_split_maps_its_own_test_subjects_and_shared_ones_are_averaged(
    recalibrated: Recalibrated, test: pd.DataFrame
) -> None:
    fits = recalibrated.fits.set_index(["network", "outer_fold"])
    for network, rows in recalibrated.probabilities.groupby("network"):
        parts = []
        for outer in (0, 1):
            rows_of_split, fit = (
                of(test, network, outer).set_index("subject"),
                fits.loc[(network, outer)],
            )
            z = logit(rows_of_split["probability"])
            parts.append(
                pd.DataFrame(
                    {
                        AS_PREDICTED: rows_of_split["probability"],
                        THRESHOLD_CHOSEN: expit(z - logit(fit["threshold"])),
                        PRIOR_CORRECTED: expit(z + logit(0.4)),
                        TEMPERATURE_SCALED: expit((z + logit(0.4)) / fit["temperature"]),
                    }
                )
            )
        expected = pd.concat(parts).groupby("subject").mean()
        assert len(expected) == 57 + 37
        result = rows.set_index("subject")[list(expected.columns)]
        assert result.index.is_monotonic_increasing
        pd.testing.assert_frame_equal(result, expected, rtol=1e-9)


def test_nothing_is_fitted_on_test_subjects(
    recalibrated: Recalibrated, validation: pd.DataFrame, test: pd.DataFrame
) -> None:
    other = test.assign(label=1 - test["label"], probability=stream(5, "test").random(len(test)))
    pd.testing.assert_frame_equal(recalibrate(validation, other).fits, recalibrated.fits)
    # and the mapping of one subject does not depend on who else is tested
    fewer = recalibrate(validation, test[test["subject"] < "test0_010"]).probabilities
    whole = recalibrated.probabilities
    same = whole[whole["subject"].isin(fewer["subject"])].reset_index(drop=True)
    assert len(fewer) == 20
    pd.testing.assert_frame_equal(fewer, same)


def test_temperature_and_prior_leave_the_order_within_an_outer_split_alone() -> None:
    result = recalibrate(split_predictions("validation"), split_predictions("test"))
    for _, rows in result.probabilities.groupby("network"):
        order = rows[AS_PREDICTED].rank()
        for version in (*CALIBRATION_VERSIONS, THRESHOLD_CHOSEN):
            assert (rows[version].rank() == order).all()


def test_the_training_prior_of_each_row_is_corrected() -> None:
    result = recalibrate(
        split_predictions("validation", subjects=range(50), prior=0.4),
        split_predictions("test", prior=0.4),
    )
    np.testing.assert_allclose(result.fits["prior_shift"], 0.0, atol=1e-12)
    rows = result.probabilities
    np.testing.assert_allclose(rows[PRIOR_CORRECTED], rows[AS_PREDICTED], rtol=1e-9)


@pytest.mark.parametrize("fault", ["class", "split"])
def test_without_validation_subjects_of_both_classes_nothing_is_fitted(
    fault: str, validation: pd.DataFrame, test: pd.DataFrame
) -> None:
    lost = validation["outer_fold"] == 1
    if fault == "class":
        lost &= validation["label"] == 1
    with pytest.raises(MgmtError, match="best overall, outer split 1: no validation subjects of b"):
        recalibrate(validation[~lost], test)


def plain_threshold(labels: np.ndarray, p: np.ndarray) -> float:
    """The same choice, one candidate after the other."""
    best, chosen = (-1.0, 0.0), 0.5
    values = sorted(set(p.tolist()))
    for a, b in pairwise(values):
        t = (a + b) / 2
        sen = sum(x >= t for x in p[labels == 1]) / sum(labels == 1)
        spe = sum(x < t for x in p[labels == 0]) / sum(labels == 0)
        order = (round(criterion_m(sen, spe), 12), -abs(t - 0.5))
        if sen > 0.5 and spe > 0.5 and order > best:
            best, chosen = order, t
    return chosen


def test_the_threshold_is_the_one_that_a_plain_search_finds() -> None:
    draws = stream(0, "test")
    chosen = []
    for _ in range(60):
        labels = (np.arange(57) < 24).astype(int)
        # rounded: ties between subjects
        p = np.round(expit(draws.normal(size=57) + 0.8 * labels - 1.0), 2)
        chosen.append(choose_threshold(labels, p))
        assert chosen[-1] == pytest.approx(plain_threshold(labels, p), abs=1e-12)
    assert len(set(chosen)) > 20


def test_of_equally_good_thresholds_the_nearest_to_one_half_is_taken() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert choose_threshold(labels, np.array([0.1, 0.1, 0.1, 0.4, 0.4, 0.4])) == 0.25
    # 0.15 and 0.85: SEN 1, SPE 2/3 and SEN 2/3, SPE 1 differ in M, so the lower one
    p = np.array([0.1, 0.1, 0.2, 0.1, 0.9, 0.9])
    assert choose_threshold(labels, p) == pytest.approx(0.55)
    # an unmethylated one at 0.3 and a methylated one below it, M the same on both sides of 0.35
    p = np.array([0.1, 0.1, 0.3, 0.4, 0.45, 0.7])
    assert choose_threshold(labels, p) == pytest.approx(0.35)
    p = np.array([0.0, 0.2, 0.2, 0.8, 0.8, 1.0])
    assert choose_threshold(labels, p) == pytest.approx(0.5)


def test_equal_m_is_settled_by_the_distance_to_one_half() -> None:
    # Two thresholds: 0.25 has SEN 4/4, SPE 2/4; 0.6 has 3/4, SPE 4/4; scaled so that M is equal:
    # 0.6·a + 0.4·b with (a, b) = (1, 0.6) and (0.8, 0.9) gives 0.84 both.
    labels = np.array([1] * 10 + [0] * 10)
    p = np.array([0.4] * 2 + [0.9] * 8 + [0.4] * 3 + [0.1] * 6 + [0.95])
    assert criterion_m(1.0, 0.6) == pytest.approx(criterion_m(0.8, 0.9))
    assert choose_threshold(labels, p) == pytest.approx(0.65)
    assert choose_threshold(labels, p - 0.15) == pytest.approx(0.5)
    assert choose_threshold(labels, np.minimum(p + 0.25, 0.99)) == pytest.approx(0.5)


@pytest.mark.parametrize("p", [np.full(6, 0.3), np.array([0.9, 0.8, 0.7, 0.1, 0.2, 0.3])])
def test_where_no_threshold_qualifies_one_half_stays(p: np.ndarray) -> None:
    assert choose_threshold(np.array([0, 0, 0, 1, 1, 1]), p) == 0.5


def test_a_threshold_between_neighbouring_numbers_does_not_call_the_lower() -> None:
    low = 0.6
    for lower in (low, np.nextafter(low, 1)):
        upper = np.nextafter(lower, 1)
        t = choose_threshold(np.array([0, 1]), np.array([lower, upper]))
        assert lower < t <= upper


def test_the_shift_is_bayes_rule_with_another_prior() -> None:
    p, prior, prevalence = np.array([0.2, 0.5, 0.9]), np.full(3, 0.5), np.full(3, 0.4)
    ones = p * prevalence / prior
    others = (1 - p) * (1 - prevalence) / (1 - prior)
    shifted = expit(logits(p) + prior_shift(prior, prevalence))
    np.testing.assert_allclose(shifted, ones / (ones + others), rtol=1e-12)
    np.testing.assert_allclose(prior_shift(prevalence, prevalence), 0.0)


def test_the_temperature_is_the_one_that_gradient_descent_finds() -> None:
    draws = stream(1, "test")
    for sharpness in (0.3, 1.0, 4.0):
        labels = (np.arange(150) < 60).astype(int)
        z = sharpness * (draws.normal(size=150) + labels - 0.5)
        log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
        step = torch.optim.LBFGS([log_temperature], max_iter=200, tolerance_grad=1e-12)
        scores, target = torch.from_numpy(z), torch.from_numpy(labels).double()

        def closure(
            scores: torch.Tensor = scores,
            target: torch.Tensor = target,
            t: torch.Tensor = log_temperature,
            step: torch.optim.Optimizer = step,
        ) -> torch.Tensor:
            step.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(scores / t.exp(), target)
            loss.backward()
            return loss

        step.step(closure)
        # the minimum is flat: a search by values finds it to the root of the rounding, 1e-8
        assert fit_temperature(labels, z) == pytest.approx(log_temperature.exp().item(), rel=1e-4)


def test_probabilities_made_too_extreme_get_their_factor_as_temperature() -> None:
    draws = stream(2, "test")
    z = draws.normal(0, 1.5, 20_000)
    labels = (draws.random(20_000) < expit(z)).astype(int)
    # measured over 20 seeds: deviation 0.05 of 3
    assert fit_temperature(labels, 3 * z) == pytest.approx(3.0, abs=0.2)


def test_a_temperature_without_an_end_stops_at_its_bound() -> None:
    labels = np.array([0, 0, 1, 1])
    separated = np.array([-1.0, -2.0, 1.0, 2.0])
    assert fit_temperature(labels, separated) == pytest.approx(TEMPERATURES[0], rel=1e-3)
    assert fit_temperature(labels, -separated) == pytest.approx(TEMPERATURES[1], rel=1e-3)
    assert fit_temperature(labels, np.zeros(4)) == 1.0
