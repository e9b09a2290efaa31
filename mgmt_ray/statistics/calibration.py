"""Calibration of the test probabilities: Brier score, slope, intercepts and ECE.

:func:`logistic_recalibration` and :func:`intercept_at_slope_1` fit all bootstrap resamples at once;
:func:`calibration_table` applies them to each version that :mod:`.calibrators` makes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.special import expit, logit

from mgmt_ray.statistics.calibrators import (
    AS_PREDICTED,
    CALIBRATION_VERSIONS,
    TEMPERATURE_SCALED,
    Recalibrated,
    logits,
    mean_fits,
)
from mgmt_ray.statistics.intervals import (
    Draws,
    Interval,
    Labels,
    PerResample,
    PerSubject,
    bootstrap_weights,
    column_names,
    interval_columns,
    percentile_interval,
)
from mgmt_ray.statistics.reliability import expected_calibration_error
from mgmt_ray.training.metrics import brier, unit_weights

MAX_NEWTON_STEPS = 100
_STEP_TOLERANCE = 1e-9
_LINE_TOLERANCE = 1e-9
"""Of log-odds up to 14, from probabilities exact to 1e-16 that are at least 1e-6 off 0 and 1."""

WITH_INTERVALS: tuple[str, ...] = ("brier", "slope", "intercept", "intercept_at_slope_1")
CALIBRATION_COLUMNS: tuple[str, ...] = (
    *("network", "ensemble", "version", "temperature", "prior_shift"),
    *column_names(*WITH_INTERVALS),
    *("ece", "num_subjects"),
)
"""``temperature`` and ``prior_shift`` are what the version applied, as a mean over outer splits;
1 and 0 where it applied none. ``intercept`` is fitted together with the slope,
``intercept_at_slope_1`` with the slope fixed at 1: calibration in the large."""


def logistic_recalibration(
    labels: Labels, log_odds: PerSubject, weights: Draws
) -> tuple[PerResample, PerResample]:
    """Fit slope b and intercept a of logit P(methylated) = a + b·log_odds by maximum likelihood.

    Cox 1958, "Two further applications of a model for binary regression". Perfectly calibrated
    probabilities have b = 1 and a = 0; b below 1 means that they are too extreme. Both are fitted
    together, so that a is not "calibration in the large" (see :func:`intercept_at_slope_1`).
    Newton's method (iteratively reweighted least squares) for all resamples at once.

    Returns:
        Slopes and intercepts; NaN for a resample without a finite estimate: one class only, all
        log-odds equal, or classes that a cut-off in the log-odds separates (they overlap in one
        value at most), for which the likelihood has no maximum (Albert and Anderson 1984).

    >>> labels = np.array([0, 0, 1, 0, 1, 1])
    >>> log_odds = np.array([-2.0, -1.0, -0.5, 1.0, 1.0, 2.0])
    >>> sample = np.ones((1, 6), dtype=int)
    >>> slope, intercept = logistic_recalibration(labels, log_odds, sample)
    >>> slope.round(2), intercept.round(2)
    (array([0.99]), array([-0.1]))
    """
    slope = np.full(len(weights), np.nan)
    intercept = np.full(len(weights), np.nan)
    active = np.flatnonzero(_classes_overlap(labels, log_odds, weights))
    if not len(active):
        return slope, intercept
    centre, std = float(log_odds.mean()), float(log_odds.std())
    scaled = (log_odds - centre) / std
    fitted = _newton(labels, scaled, weights[active].astype(float))
    slope[active] = fitted[:, 1] / std
    intercept[active] = fitted[:, 0] - slope[active] * centre
    return slope, intercept


def intercept_at_slope_1(labels: Labels, log_odds: PerSubject, weights: Draws) -> PerResample:
    """Fit a of logit P(methylated) = a + log_odds by maximum likelihood: calibration in the large.

    The log-odds are an offset, so that their slope is 1 (Van Calster et al. 2019, "Calibration: the
    Achilles heel of predictive analytics"). Above 0, probabilities are too low on the whole; it is
    0 where their mean is the share of methylated. Newton's method for all resamples at once; a step
    that would leave the interval known to hold the estimate goes to the interval's middle. NaN for
    a resample of one class only.

    >>> labels, sample = np.array([1, 1, 1, 0]), np.ones((1, 4), dtype=int)
    >>> intercept_at_slope_1(labels, np.zeros(4), sample).round(3)  # log(3 / 1)
    array([1.099])
    """
    share = (weights @ labels) / weights.sum(axis=1)
    fitted = np.full(len(weights), np.nan)
    active = np.flatnonzero((share > 0) & (share < 1))
    centre = logit(share[active])
    low, high = centre - log_odds.max(), centre - log_odds.min()
    fitted[active] = centre - (weights[active] @ log_odds) / weights[active].sum(axis=1)
    for _ in range(MAX_NEWTON_STEPS):
        if not len(active):
            return fitted
        current = fitted[active]
        p, drawn = expit(current[:, None] + log_odds), weights[active]
        gradient = (drawn * (labels - p)).sum(axis=1)
        low, high = np.where(gradient > 0, current, low), np.where(gradient < 0, current, high)
        updated = current + gradient / (drawn * p * (1 - p)).sum(axis=1)
        updated = np.where((updated < low) | (updated > high), (low + high) / 2, updated)
        fitted[active] = updated
        moving = np.abs(updated - current) > _STEP_TOLERANCE * (1 + np.abs(current))
        active, low, high = active[moving], low[moving], high[moving]
    fitted[active] = np.nan
    return fitted


def _classes_overlap(
    labels: Labels, log_odds: PerSubject, weights: Draws
) -> Bool[np.ndarray, " resample"]:
    """Return whether, in each resample, each class has a subject above one of the other class."""
    lowest, highest = [], []
    for label in (0, 1):
        drawn = weights[:, labels == label] > 0
        values = log_odds[labels == label]
        lowest.append(np.where(drawn, values, np.inf).min(axis=1, initial=np.inf))
        highest.append(np.where(drawn, values, -np.inf).max(axis=1, initial=-np.inf))
    return (highest[0] > lowest[1]) & (highest[1] > lowest[0])


def _newton(
    labels: Labels, scaled: PerSubject, weights: Float[np.ndarray, "resample subject"]
) -> Float[np.ndarray, "resample 2"]:
    """Fit intercept and slope of each resample; NaN where the steps do not converge."""
    design = np.stack([np.ones_like(scaled), scaled], axis=1)
    products = np.stack([np.ones_like(scaled), scaled, scaled**2], axis=1)
    fitted = np.zeros((len(weights), 2))
    active = np.arange(len(weights))
    for _ in range(MAX_NEWTON_STEPS):
        p = expit(fitted[active] @ design.T)
        drawn = weights[active]
        gradient = (drawn * (labels - p)) @ design
        h00, h01, h11 = ((drawn * p * (1 - p)) @ products).T
        determinant = h00 * h11 - h01**2
        step = np.stack(
            [
                (h11 * gradient[:, 0] - h01 * gradient[:, 1]) / determinant,
                (h00 * gradient[:, 1] - h01 * gradient[:, 0]) / determinant,
            ],
            axis=1,
        )
        length = np.abs(step).max(axis=1)
        fitted[active] += step
        active = active[length > _STEP_TOLERANCE * (1 + np.abs(fitted[active]).max(axis=1))]
        if not len(active):
            return fitted
    fitted[active] = np.nan
    return fitted


def calibration_table(recalibrated: Recalibrated, seed: int = 42) -> pd.DataFrame:
    """Return Brier score, slope, both intercepts (all with intervals) and ECE of each version.

    Bootstrap over subjects, not stratified: an intercept measures the share of methylated, so this
    share must vary. What was fitted on validation is not fitted again.

    Returns:
        :data:`CALIBRATION_COLUMNS`. Slope and intercept are NaN where they have no finite estimate
        (see :func:`logistic_recalibration`), their bounds where more than a fortieth of the
        resamples has none.
    """
    fits = mean_fits(recalibrated.fits)
    drawn: dict[bytes, Draws] = {}
    rows: list[dict[str, object]] = []
    for key, labels, probabilities in recalibrated.models():
        if labels.tobytes() not in drawn:
            drawn[labels.tobytes()] = bootstrap_weights(labels, seed, stratified=False)
        versions = {version: probabilities[version] for version in CALIBRATION_VERSIONS}
        intervals = _intervals(labels, versions, drawn[labels.tobytes()])
        fit = fits[key["network"], key["ensemble"]]
        rows += [
            {
                **key,
                "version": version,
                "temperature": fit["temperature"] if version == TEMPERATURE_SCALED else 1.0,
                "prior_shift": fit["prior_shift"] if version != AS_PREDICTED else 0.0,
                **interval_columns(intervals[version]),
                "ece": expected_calibration_error(labels, p),
                "num_subjects": len(labels),
            }
            for version, p in versions.items()
        ]
    return pd.DataFrame(rows, columns=list(CALIBRATION_COLUMNS))


def _intervals(
    labels: Labels, versions: Mapping[str, PerSubject], weights: Draws
) -> dict[str, dict[str, Interval]]:
    """Intervals by version and metric."""
    rows = np.concatenate([unit_weights(len(labels)), weights])  # the sample, then its resamples
    intervals: dict[str, dict[str, Interval]] = {}
    fitted: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    for version, p in versions.items():
        log_odds = logits(p)
        converted = None if fitted is None else _convert_fit(log_odds, *fitted)
        slope, intercept = converted or logistic_recalibration(labels, log_odds, rows)
        fitted = fitted or (log_odds, slope, intercept)
        errors = brier(labels, p, rows)
        intervals[version] = {
            "brier": percentile_interval(float(errors[0]), errors[1:]),
            "slope": _cautious_interval(slope),
            "intercept": _cautious_interval(intercept),
            "intercept_at_slope_1": _cautious_interval(
                intercept_at_slope_1(labels, log_odds, rows)
            ),
        }
    return intervals


def _convert_fit(
    log_odds: PerSubject,
    fitted_log_odds: PerSubject,
    slope: Float[np.ndarray, " row"],
    intercept: Float[np.ndarray, " row"],
) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]] | None:
    """Convert slope and intercept of fitted log-odds x to those of log-odds z = c + d·x.

    One outer split shifts and scales all subjects alike, so that one regression serves all
    versions: a + b·x = (a − b·c/d) + (b/d)·z. None where z is not linear in x.
    """
    x = fitted_log_odds
    x_range = np.ptp(x)
    if x_range == 0:
        return None
    lowest, highest = int(np.argmin(x)), int(np.argmax(x))
    d = (log_odds[highest] - log_odds[lowest]) / x_range
    c = log_odds[lowest] - d * x[lowest]
    if d == 0 or np.abs(c + d * x - log_odds).max() > _LINE_TOLERANCE:
        return None
    return slope / d, intercept - slope / d * c


def _cautious_interval(values: Float[np.ndarray, " row"]) -> Interval:
    """Interval in which a resample without an estimate lies below and above the bounds."""
    value, resampled = float(values[0]), values[1:]
    if np.isnan(value):
        return Interval(value, value, value)
    with np.errstate(invalid="ignore"):  # between two infinite resamples
        low = percentile_interval(value, np.nan_to_num(resampled, nan=-np.inf)).low
        high = percentile_interval(value, np.nan_to_num(resampled, nan=np.inf)).high
    return Interval(value, *(b if np.isfinite(b) else float("nan") for b in (low, high)))
