"""Calibration slope and intercepts: logistic regressions of labels on log-odds."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.special import expit, logit

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
    active = np.flatnonzero(_overlap(labels, log_odds, weights))
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
    for _ in range(MOST_STEPS):
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
