from __future__ import annotations

import time
import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.special import expit, logit
from sklearn.metrics import brier_score_loss

from mgmt_ray.base import stream
from mgmt_ray.statistics.calibration import (
    CALIBRATION_COLUMNS,
    calibration_table,
    intercept_at_slope_1,
    logistic_recalibration,
)
from mgmt_ray.statistics.calibrators import CALIBRATION_VERSIONS, Recalibrated, recalibrate
from mgmt_ray.statistics.intervals import bootstrap_weights
from mgmt_ray.statistics.reliability import expected_calibration_error
from mgmt_ray.training.metrics import unit_weights
from tests.statistics.conftest import split_predictions


@pytest.fixture(scope="module")
def recalibrated() -> Recalibrated:
    validation = split_predictions("validation", subjects=range(130))
    return recalibrate(validation, split_predictions("test"))


@pytest.fixture(scope="module")
def table(recalibrated: Recalibrated) -> pd.DataFrame:
    return calibration_table(recalibrated)


def test_the_table_has_each_version_with_its_intervals(
    table: pd.DataFrame, recalibrated: Recalibrated
) -> None:
    assert tuple(table.columns) == CALIBRATION_COLUMNS
    assert table["version"].tolist() == list(CALIBRATION_VERSIONS) * 2
    assert set(table["num_subjects"]) == {57}
    for row in table.itertuples():
        rows = recalibrated.probabilities[recalibrated.probabilities["network"] == row.network]
        p = rows[row.version]
        assert row.brier == pytest.approx(brier_score_loss(rows["label"], p))
        assert row.brier_low < row.brier < row.brier_high
        assert row.slope_low < row.slope < row.slope_high
        assert row.intercept_low < row.intercept < row.intercept_high
        in_the_large = (
            row.intercept_at_slope_1_low,
            row.intercept_at_slope_1,
            row.intercept_at_slope_1_high,
        )
        assert in_the_large == tuple(sorted(in_the_large))
        assert in_the_large[0] < in_the_large[2]
        assert row.ece == expected_calibration_error(rows["label"].to_numpy(), p.to_numpy())


def test_slopes_and_intercepts_follow_from_what_was_applied(table: pd.DataFrame) -> None:
    for _, rows in table.groupby("network"):
        plain, prior, scaled = (r._asdict() for r in rows.itertuples())
        assert (plain["temperature"], plain["prior_shift"], prior["temperature"]) == (1, 0, 1)
        assert prior["prior_shift"] == scaled["prior_shift"] == pytest.approx(logit(0.4))
        # adding s to all log-odds keeps b and lowers a by b·s, dividing by T multiplies b with T
        assert prior["slope"] == pytest.approx(plain["slope"])
        shifted = plain["intercept"] - plain["slope"] * logit(0.4)
        assert prior["intercept"] == pytest.approx(shifted)
        in_the_large = plain["intercept_at_slope_1"] - logit(0.4)
        assert prior["intercept_at_slope_1"] == pytest.approx(in_the_large)
        assert scaled["slope"] == pytest.approx(plain["slope"] * scaled["temperature"])
        assert scaled["intercept"] == pytest.approx(prior["intercept"])
        # validation and test were made too extreme by 2, about so much is undone
        assert 1.2 < scaled["temperature"] < 4
        assert abs(scaled["slope"] - 1) < abs(plain["slope"] - 1)
        assert scaled["brier"] < plain["brier"]


@pytest.mark.parametrize("outers", [(0,), (0, 1)])
def test_estimates_and_bounds_are_those_of_regressions_of_the_resamples(
    outers: tuple[int, ...],
) -> None:
    recalibrated = recalibrate(
        split_predictions("validation", outers=outers, subjects=range(130)),
        split_predictions("test", outers=outers, shared=30),
    )
    table = calibration_table(recalibrated)
    for row in table.to_dict("records"):
        rows = recalibrated.probabilities[recalibrated.probabilities["network"] == row["network"]]
        labels = rows["label"].to_numpy()
        drawn = bootstrap_weights(labels, 42, stratified=False)
        weights = np.concatenate([unit_weights(len(labels)), drawn])
        fitted = logistic_recalibration(labels, logit(rows[row["version"]].to_numpy()), weights)
        log_odds = logit(rows[row["version"]].to_numpy())
        fitted = (*fitted, intercept_at_slope_1(labels, log_odds, weights))
        for name, values in zip(
            ("slope", "intercept", "intercept_at_slope_1"), fitted, strict=True
        ):
            expected = [values[0], *np.percentile(values[1:], [2.5, 97.5])]
            estimates = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
            assert estimates == pytest.approx(expected, rel=1e-6)


def test_separated_classes_have_a_brier_score_and_no_slope(recalibrated: Recalibrated) -> None:
    rows = recalibrated.probabilities
    separated = Recalibrated(
        rows.assign(**{"as predicted": 0.2 + 0.6 * rows["label"]}), recalibrated.fits
    )
    row = calibration_table(separated).iloc[0]
    assert row["brier"] == pytest.approx(0.04)
    names = [f"{m}{b}" for m in ("slope", "intercept") for b in ("", "_low", "_high")]
    assert row[names].isna().all()


def test_bounds_are_open_where_too_many_resamples_are_separated(recalibrated: Recalibrated) -> None:
    rows = recalibrated.probabilities
    p = 0.3 + 0.4 * rows["label"] + 0.002 * (rows["subject"].rank() % 10)
    p = p.where(rows["subject"] != "test0_000", 0.3)  # the one that makes the classes overlap
    row = calibration_table(
        Recalibrated(rows.assign(**{"as predicted": p}), recalibrated.fits)
    ).iloc[0]
    assert np.isfinite(row["slope"])
    # a third of the resamples lacks that subject
    assert np.isnan([row["slope_low"], row["slope_high"]]).all()


def test_ensembles_take_a_fraction_of_a_second_each(recalibrated: Recalibrated) -> None:
    rows = [recalibrated.probabilities.assign(ensemble=f"e{i}") for i in range(5)]
    fits = [recalibrated.fits.assign(ensemble=f"e{i}") for i in range(5)]
    many = Recalibrated(pd.concat(rows, ignore_index=True), pd.concat(fits, ignore_index=True))
    started = time.process_time()
    assert len(calibration_table(many)) == 30
    # measured: 0.1 s each; regressions fitted one after the other would take a minute each
    assert time.process_time() - started < 10


LABELS = (np.arange(57) < 24).astype(int)


@pytest.mark.parametrize(
    ("strength", "scale", "shift"),
    [(0.0, 1.0, 0.0), (1.0, 1.0, 0.0), (2.5, 1.0, 0.0), (1.0, 0.01, 2.0), (1.0, 30.0, -4.0)],
)
def test_every_resample_is_that_of_a_weighted_regression_in_statsmodels(
    strength: float, scale: float, shift: float
) -> None:
    draws = stream(1, "test")
    z = scale * (draws.normal(size=57) + strength * (LABELS - 0.5)) + shift
    resamples = bootstrap_weights(LABELS, seed=1, num_resamples=60)
    weights = np.concatenate([unit_weights(57), resamples])
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
    defined = ~np.isnan(slope)
    assert 100 < defined.sum() < 2000
    p = expit(intercept[defined, None] + slope[defined, None] * z)
    gradient = (weights[defined] * (LABELS - p)) @ np.stack([np.ones(57), z], axis=1)
    # 57 terms of up to 1; the steps end at 1e-9
    assert np.abs(gradient).max() < 1e-6


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.01, 2.0), (6.0, -1.0)])
def test_calibration_in_the_large_is_statsmodels_regression_with_an_offset(
    scale: float, shift: float
) -> None:
    draws = stream(5, "test")
    z = np.clip(scale * (draws.normal(size=57) + LABELS) + shift, -13.8, 13.8)
    weights = np.concatenate(
        [unit_weights(57), bootstrap_weights(LABELS, seed=5, num_resamples=40)]
    )
    estimates = intercept_at_slope_1(LABELS, z, weights)
    for value, drawn in zip(estimates, weights, strict=True):
        model = sm.GLM(
            LABELS, np.ones((57, 1)), family=sm.families.Binomial(), offset=z, freq_weights=drawn
        )
        fitted = model.fit(tol=1e-13, maxiter=200)
        assert value == pytest.approx(fitted.params[0], rel=1e-6, abs=1e-8)


def test_calibration_in_the_large_is_found_where_plain_newton_steps_would_run_away() -> None:
    # 40 sure of one class and 17 of the other, of whom all are wrong: p·(1 − p) is 1e-6 at first
    z = np.where(np.arange(57) < 40, 13.8, -13.8)
    labels = (z < 0).astype(int)
    weights = np.concatenate(
        [unit_weights(57), bootstrap_weights(labels, seed=6, num_resamples=200)]
    )
    estimates = intercept_at_slope_1(labels, z, weights)
    chance = expit(estimates[:, None] + z)
    # the last step is below 1e-9, and curvature below 57
    assert np.abs((weights * (labels - chance)).sum(axis=1)).max() < 1e-6


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
    slope, intercept = logistic_recalibration(LABELS, z, unit_weights(57))
    assert np.isnan(slope).all()
    assert np.isnan(intercept).all()


def test_a_resample_of_one_class_has_no_estimate_and_separated_classes_an_intercept() -> None:
    z = stream(3, "test").normal(size=57)
    weights = np.stack([LABELS, np.ones(57, dtype=int)])
    slope, _ = logistic_recalibration(LABELS, z, weights)
    assert np.isnan(slope).tolist() == [True, False]
    estimates = intercept_at_slope_1(LABELS, np.where(LABELS == 1, 1.0, -1.0), weights)
    assert np.isnan(estimates).tolist() == [True, False]


def test_whole_newton_steps_reach_the_estimate_for_outliers_of_any_size() -> None:
    draws = stream(4, "test")
    tried = 0
    for _ in range(300):
        number = int(draws.integers(6, 60))
        labels = (draws.random(number) < draws.uniform(0.05, 0.95)).astype(int)
        z = draws.standard_t(1, size=number) + draws.uniform(0, 6) * labels
        one, zero = z[labels == 1], z[labels == 0]
        if len(one) and len(zero) and zero.max() > one.min() and one.max() > zero.min():
            slope, intercept = logistic_recalibration(labels, z, unit_weights(number))
            rest = labels - expit(intercept[0] + slope[0] * z)
            assert abs(rest.sum()) < 1e-6
            assert abs((rest * z).sum()) < 1e-6 * np.abs(z).max()
            tried += 1
    assert tried > 200
