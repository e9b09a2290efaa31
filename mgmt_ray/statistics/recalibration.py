"""Calibration slope and intercept: the logistic regression of labels on log-odds."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.special import expit

MOST_STEPS = 100
_STEP_TOLERANCE = 1e-9


def logistic_recalibration(
    labels: Integer[np.ndarray, " subject"],
    log_odds: Float[np.ndarray, " subject"],
    weights: Integer[np.ndarray, "resample subject"],
) -> tuple[Float[np.ndarray, " resample"], Float[np.ndarray, " resample"]]:
    """Slope b and intercept a of logit P(methylated) = a + b·log_odds, by maximum likelihood.

    Cox 1958, "Two further applications of a model for binary regression". Perfectly calibrated
    probabilities have b = 1 and a = 0; b below 1 means too extreme ones. Both are fitted together,
    so that a is not "calibration in the large" (which fixes b at 1). Newton's method (iteratively
    reweighted least squares) for all resamples at once.

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
    active = np.flatnonzero(_overlap(labels, log_odds, weights))
    if not len(active):
        return slope, intercept
    centre = float(log_odds.mean())
    scaled = (log_odds - centre) / deviation
    fitted = _newton(labels, scaled, weights[active].astype(float))
    slope[active] = fitted[:, 1] / deviation
    intercept[active] = fitted[:, 0] - slope[active] * centre
    return slope, intercept


def _overlap(
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
    for _ in range(MOST_STEPS):
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
