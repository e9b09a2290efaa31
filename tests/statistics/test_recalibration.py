from __future__ import annotations

import warnings

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit

from mgmt_ray.base import stream
from mgmt_ray.statistics.intervals import bootstrap_weights
from mgmt_ray.statistics.recalibration import intercept_at_slope_1, logistic_recalibration
from mgmt_ray.training.metrics import once

LABELS = (np.arange(57) < 24).astype(int)


def test_slope_and_intercept_are_those_of_logistic_regression_in_statsmodels() -> None:
    draws = stream(0, "test")
    for scale, shift in ((1.0, 0.0), (0.01, 2.0), (30.0, -4.0)):
        z = scale * (draws.normal(size=57) + LABELS) + shift
        slope, intercept = logistic_recalibration(LABELS, z, once(57))
        model = sm.GLM(LABELS, sm.add_constant(z), family=sm.families.Binomial())
        fitted = model.fit(tol=1e-13, maxiter=200)
        assert (intercept[0], slope[0]) == pytest.approx(tuple(fitted.params), rel=1e-6)


@pytest.mark.parametrize("strength", [0.0, 1.0, 2.5])
def test_every_resample_is_that_of_a_weighted_regression_in_statsmodels(strength: float) -> None:
    draws = stream(1, "test")
    z = draws.normal(size=57) + strength * (LABELS - 0.5)
    weights = bootstrap_weights(LABELS, seed=1, num_resamples=150)
    slope, intercept = logistic_recalibration(LABELS, z, weights)
    for row, drawn in enumerate(weights):
        one, zero = (z[np.equal(LABELS, label) & (drawn > 0)] for label in (1, 0))
        separated = one.min() >= zero.max() or zero.min() >= one.max()
        assert np.isnan(slope[row]) == np.isnan(intercept[row]) == separated
        if not separated:
            model = sm.GLM(
                LABELS, sm.add_constant(z), family=sm.families.Binomial(), freq_weights=drawn
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it speaks of what is nearly separated
                fitted = model.fit(tol=1e-13, maxiter=500)
            # near separation statsmodels stops on the deviance, which is flat there
            assert (intercept[row], slope[row]) == pytest.approx(tuple(fitted.params), rel=1e-4)


def test_nearly_separated_resamples_still_have_the_estimate_where_the_gradient_is_zero() -> None:
    draws = stream(2, "test")
    z = draws.normal(size=57) + 4.0 * (LABELS - 0.5)
    weights = bootstrap_weights(LABELS, seed=2, num_resamples=2000)
    slope, intercept = logistic_recalibration(LABELS, z, weights)
    found = ~np.isnan(slope)
    assert 100 < found.sum() < 2000
    p = expit(intercept[found, None] + slope[found, None] * z)
    gradient = (weights[found] * (LABELS - p)) @ np.stack([np.ones(57), z], axis=1)
    # 57 terms of up to 1; the steps end at 1e-9
    assert np.abs(gradient).max() < 1e-6


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.01, 2.0), (6.0, -1.0)])
def test_calibration_in_the_large_is_statsmodels_regression_with_an_offset(
    scale: float, shift: float
) -> None:
    draws = stream(5, "test")
    z = np.clip(scale * (draws.normal(size=57) + LABELS) + shift, -13.8, 13.8)
    weights = np.concatenate([once(57), bootstrap_weights(LABELS, seed=5, num_resamples=40)])
    found = intercept_at_slope_1(LABELS, z, weights)
    for value, drawn in zip(found, weights, strict=True):
        model = sm.GLM(
            LABELS, np.ones((57, 1)), family=sm.families.Binomial(), offset=z, freq_weights=drawn
        )
        fitted = model.fit(tol=1e-13, maxiter=200)
        assert value == pytest.approx(fitted.params[0], rel=1e-6, abs=1e-8)


def test_calibration_in_the_large_is_found_where_plain_newton_steps_would_run_away() -> None:
    # 40 sure of one class and 17 of the other, of whom all are wrong: p·(1 − p) is 1e-6 at first
    z = np.where(np.arange(57) < 40, 13.8, -13.8)
    labels = (z < 0).astype(int)
    weights = np.concatenate([once(57), bootstrap_weights(labels, seed=6, num_resamples=200)])
    found = intercept_at_slope_1(labels, z, weights)
    chance = expit(found[:, None] + z)
    # the last step is below 1e-9, and curvature below 57
    assert np.abs((weights * (labels - chance)).sum(axis=1)).max() < 1e-6


def test_one_class_has_no_calibration_in_the_large_and_separated_classes_have() -> None:
    weights = np.stack([LABELS, np.ones(57, dtype=int)])
    found = intercept_at_slope_1(LABELS, np.where(LABELS == 1, 1.0, -1.0), weights)
    assert np.isnan(found).tolist() == [True, False]


@pytest.mark.parametrize(
    "z",
    [
        np.where(LABELS == 1, 1.0, -1.0),
        np.where(LABELS == 1, -1.0, 1.0),
        np.full(57, 0.3),
        # they share one value and overlap nowhere else
        np.where(LABELS == 1, np.arange(57) % 3, -(np.arange(57) % 3)).astype(float),
    ],
)
def test_separated_classes_and_equal_log_odds_have_no_estimate(z: np.ndarray) -> None:
    slope, intercept = logistic_recalibration(LABELS, z, once(57))
    assert np.isnan(slope).all()
    assert np.isnan(intercept).all()


def test_a_resample_of_one_class_has_no_estimate() -> None:
    z = stream(3, "test").normal(size=57)
    weights = np.stack([LABELS, np.ones(57, dtype=int)])
    slope, _ = logistic_recalibration(LABELS, z, weights)
    assert np.isnan(slope).tolist() == [True, False]


def test_whole_newton_steps_reach_the_estimate_for_outliers_of_any_size() -> None:
    draws = stream(4, "test")
    tried = 0
    for _ in range(300):
        number = int(draws.integers(6, 60))
        labels = (draws.random(number) < draws.uniform(0.05, 0.95)).astype(int)
        z = draws.standard_t(1, size=number) + draws.uniform(0, 6) * labels
        one, zero = z[labels == 1], z[labels == 0]
        if len(one) and len(zero) and zero.max() > one.min() and one.max() > zero.min():
            slope, intercept = logistic_recalibration(labels, z, once(number))
            rest = labels - expit(intercept[0] + slope[0] * z)
            assert abs(rest.sum()) < 1e-6
            assert abs((rest * z).sum()) < 1e-6 * np.abs(z).max()
            tried += 1
    assert tried > 200
