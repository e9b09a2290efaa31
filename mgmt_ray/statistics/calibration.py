"""Calibration of each version of the test probabilities: Brier score, slope, intercepts, ECE."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Integer
from scipy.special import expit, logit

from mgmt_ray.statistics.calibrators import (
    CALIBRATION_VERSIONS,
    PRIOR_CORRECTED,
    TEMPERATURE_SCALED,
    Recalibrated,
    logits,
    mean_fits,
)
from mgmt_ray.statistics.intervals import (
    Interval,
    bootstrap_weights,
    column_names,
    interval_columns,
    percentile_interval,
)
from mgmt_ray.statistics.reliability import expected_calibration_error
from mgmt_ray.training.metrics import brier, unit_weights

MAX_STEPS = 100
_STEP_TOLERANCE = 1e-9


def logistic_recalibration(
    labels: Integer[np.ndarray, " subject"],
    log_odds: Float[np.ndarray, " subject"],
    weights: Integer[np.ndarray, "resample subject"],
) -> tuple[Float[np.ndarray, " resample"], Float[np.ndarray, " resample"]]:
    """Slope b and intercept a of logit P(methylated) = a + b·log_odds, by maximum likelihood.

    Cox 1958, "Two further applications of a model for binary regression". Perfectly calibrated
    probabilities have b = 1 and a = 0; b below 1 means too extreme ones. Both are fitted together,
    so that a is not "calibration in the large" (see :func:`intercept_at_slope_1`). Newton's method
    (iteratively reweighted least squares) for all resamples at once.

    Args:
        labels: 1 methylated, 0 unmethylated.
        log_odds: finite.
        weights: times that each subject was drawn.

    Returns:
        Slopes and intercepts; NaN for a resample that has no finite estimate: one class only, all
        log-odds equal, or classes that some log-odds separates (no overlap but at one value), for
        which the likelihood grows without end (Albert and Anderson 1984).
    """
    deviation = float(log_odds.std())
    slope = np.full(len(weights), np.nan)
    intercept = np.full(len(weights), np.nan)
    active = np.flatnonzero(_classes_overlap(labels, log_odds, weights))
    if not len(active):
        return slope, intercept
    centre = float(log_odds.mean())
    scaled = (log_odds - centre) / deviation
    fitted = _newton(labels, scaled, weights[active].astype(float))
    slope[active] = fitted[:, 1] / deviation
    intercept[active] = fitted[:, 0] - slope[active] * centre
    return slope, intercept


def intercept_at_slope_1(
    labels: Integer[np.ndarray, " subject"],
    log_odds: Float[np.ndarray, " subject"],
    weights: Integer[np.ndarray, "resample subject"],
) -> Float[np.ndarray, " resample"]:
    """Calibration in the large: a of logit P(methylated) = a + log_odds, by maximum likelihood.

    The log-odds are an offset, so that their slope is 1 (Van Calster et al. 2019, "Calibration: the
    Achilles heel of predictive analytics"). Above 0, probabilities are too low on the whole; it is
    0 where their mean is the share of methylated. Newton's method for all resamples at once; a step
    that would leave what is known to hold the estimate goes to its middle.

    Args:
        labels: 1 methylated, 0 unmethylated.
        log_odds: finite.
        weights: times that each subject was drawn.

    Returns:
        NaN for a resample of one class only.
    """
    share = (weights @ labels) / weights.sum(axis=1)
    fitted = np.full(len(weights), np.nan)
    active = np.flatnonzero((share > 0) & (share < 1))
    centre = logit(share[active])
    low, high = centre - log_odds.max(), centre - log_odds.min()
    fitted[active] = centre - (weights[active] @ log_odds) / weights[active].sum(axis=1)
    for _ in range(MAX_STEPS):
        if not len(active):
            return fitted
        at = fitted[active]
        chance, drawn = expit(at[:, None] + log_odds), weights[active]
        gradient = (drawn * (labels - chance)).sum(axis=1)
        low, high = np.where(gradient > 0, at, low), np.where(gradient < 0, at, high)
        there = at + gradient / (drawn * chance * (1 - chance)).sum(axis=1)
        there = np.where((there < low) | (there > high), (low + high) / 2, there)
        fitted[active] = there
        going = np.abs(there - at) > _STEP_TOLERANCE * (1 + np.abs(at))
        active, low, high = active[going], low[going], high[going]
    fitted[active] = np.nan
    return fitted


def _classes_overlap(
    labels: Integer[np.ndarray, " subject"],
    log_odds: Float[np.ndarray, " subject"],
    weights: Integer[np.ndarray, "resample subject"],
) -> Bool[np.ndarray, " resample"]:
    """Whether each class of a resample has somebody above somebody of the other."""
    lowest, highest = [], []
    for label in (0, 1):
        drawn = weights[:, labels == label] > 0
        values = log_odds[labels == label]
        lowest.append(np.where(drawn, values, np.inf).min(axis=1, initial=np.inf))
        highest.append(np.where(drawn, values, -np.inf).max(axis=1, initial=-np.inf))
    return (highest[0] > lowest[1]) & (highest[1] > lowest[0])


def _newton(
    labels: Integer[np.ndarray, " subject"],
    scaled: Float[np.ndarray, " subject"],
    weights: Float[np.ndarray, "resample subject"],
) -> Float[np.ndarray, "resample 2"]:
    """Intercept and slope of each resample; NaN where the steps do not end."""
    first = np.stack([np.ones_like(scaled), scaled], axis=1)
    second = np.stack([np.ones_like(scaled), scaled, scaled**2], axis=1)
    fitted = np.zeros((len(weights), 2))
    active = np.arange(len(weights))
    for _ in range(MAX_STEPS):
        chance = expit(fitted[active] @ first.T)
        drawn = weights[active]
        gradient = (drawn * (labels - chance)) @ first
        h00, h01, h11 = ((drawn * chance * (1 - chance)) @ second).T
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


_LINE_TOLERANCE = 1e-9
"""Of log-odds up to 14, from probabilities exact to 1e-16 that are at least 1e-6 off 0 and 1."""

WITH_INTERVALS: tuple[str, ...] = ("brier", "slope", "intercept", "intercept_at_slope_1")
CALIBRATION_COLUMNS: tuple[str, ...] = (
    "network",
    "ensemble",
    "version",
    "temperature",
    "prior_shift",
    *column_names(*WITH_INTERVALS),
    "ece",
    "num_subjects",
)
"""``temperature`` and ``prior_shift`` are what the version applied, their mean over outer splits;
1 and 0 where it applied none. ``intercept`` is fitted together with the slope,
``intercept_at_slope_1`` with the slope fixed at 1: calibration in the large."""


def calibration_table(recalibrated: Recalibrated, seed: int = 42) -> pd.DataFrame:
    """Brier score, slope, both intercepts and ECE of each version, all but ECE with intervals.

    Bootstrap over subjects, not stratified: the share of methylated is what an intercept measures,
    and must vary. What was fitted on validation stays as it is.

    Args:
        recalibrated: see :func:`.recalibrated.recalibrate`.
        seed: of the bootstrap.

    Returns:
        :data:`CALIBRATION_COLUMNS`. Slope and intercept are NaN where they have no finite estimate
        (see :func:`.recalibration.logistic_recalibration`), their bounds where more than a
        fortieth of the resamples has none.
    """
    fits = mean_fits(recalibrated.fits)
    drawn: dict[bytes, Int[np.ndarray, "resample subject"]] = {}
    rows: list[dict[str, object]] = []
    for (network, name), group in recalibrated.probabilities.groupby(
        ["network", "ensemble"], sort=False
    ):
        labels = group["label"].to_numpy(dtype=np.int64)
        if labels.tobytes() not in drawn:
            drawn[labels.tobytes()] = bootstrap_weights(labels, seed, stratified=False)
        versions = {
            version: group[version].to_numpy(dtype=float) for version in CALIBRATION_VERSIONS
        }
        intervals = _intervals(labels, versions, drawn[labels.tobytes()])
        rows += [
            {
                "network": network,
                "ensemble": name,
                "version": version,
                **_apply_version(version, fits[str(network), str(name)]),
                **interval_columns(intervals[version]),
                "ece": expected_calibration_error(labels, p),
                "num_subjects": len(labels),
            }
            for version, p in versions.items()
        ]
    return pd.DataFrame(rows, columns=list(CALIBRATION_COLUMNS))


def _apply_version(version: str, fit: Mapping[str, float]) -> dict[str, float]:
    scaled = version == TEMPERATURE_SCALED
    shifted = scaled or version == PRIOR_CORRECTED
    return {
        "temperature": fit["temperature"] if scaled else 1.0,
        "prior_shift": fit["prior_shift"] if shifted else 0.0,
    }


def _intervals(
    labels: Integer[np.ndarray, " subject"],
    versions: Mapping[str, Float[np.ndarray, " subject"]],
    weights: Int[np.ndarray, "resample subject"],
) -> dict[str, dict[str, Interval]]:
    """By version and metric; what is resampled comes after the sample itself."""
    rows = np.concatenate([unit_weights(len(labels)), weights])
    found: dict[str, dict[str, Interval]] = {}
    fitted: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    for version, p in versions.items():
        log_odds = logits(p)
        known = None if fitted is None else _fit_from_line(log_odds, *fitted)
        slope, intercept = known or logistic_recalibration(labels, log_odds, rows)
        fitted = fitted or (log_odds, slope, intercept)
        errors = brier(labels, p, rows)
        found[version] = {
            "brier": percentile_interval(float(errors[0]), errors[1:]),
            "slope": _defined_interval(slope),
            "intercept": _defined_interval(intercept),
            "intercept_at_slope_1": _defined_interval(intercept_at_slope_1(labels, log_odds, rows)),
        }
    return found


def _fit_from_line(
    log_odds: Float[np.ndarray, " subject"],
    others: Float[np.ndarray, " subject"],
    slope: Float[np.ndarray, " row"],
    intercept: Float[np.ndarray, " row"],
) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]] | None:
    """Slope and intercept from those of other log-odds, if these are a line of the others.

    One outer split shifts and scales all subjects alike, and one regression then serves all
    versions: with z = c + d·others, a + b·others = (a − b·c/d) + (b/d)·z. None if it is no line.
    """
    spread = np.ptp(others)
    if spread == 0:
        return None
    lowest, highest = int(np.argmin(others)), int(np.argmax(others))
    d = (log_odds[highest] - log_odds[lowest]) / spread
    c = log_odds[lowest] - d * others[lowest]
    if d == 0 or np.abs(c + d * others - log_odds).max() > _LINE_TOLERANCE:
        return None
    return slope / d, intercept - slope / d * c


def _defined_interval(values: Float[np.ndarray, " row"]) -> Interval:
    """Of the first value, from the others.

    A resample without an estimate counts as below the lower and above the upper bound.
    """
    value, resampled = float(values[0]), values[1:]
    if np.isnan(value):
        return Interval(value, value, value)
    with np.errstate(invalid="ignore"):  # between two infinite resamples
        low = percentile_interval(value, np.nan_to_num(resampled, nan=-np.inf)).low
        high = percentile_interval(value, np.nan_to_num(resampled, nan=np.inf)).high
    return Interval(value, *(b if np.isfinite(b) else float("nan") for b in (low, high)))
