"""What is fitted on validation before test probabilities are used: see ``adapted`` for where."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Integer
from scipy.optimize import minimize_scalar
from scipy.special import logit

from mgmt_ray.selection.criterion import qualifies
from mgmt_ray.training.metrics import THRESHOLD, criterion_m

TEMPERATURES = (0.01, 100.0)
"""Between these the temperature is looked for. Classes that validation separates perfectly would
have 0; probabilities that tell nothing, or the wrong way round, infinity."""

_EDGE = 1e-6


def choose_threshold(
    labels: Integer[np.ndarray, " subject"], probabilities: Float[np.ndarray, " subject"]
) -> float:
    """The threshold of the highest M = 0.6·SEN + 0.4·SPE (Schmitz et al. 2024, eq. 4).

    As for epochs, a threshold must qualify with both rates above 0.5; where none does 0.5 stays.
    Candidates are the midpoints between neighbouring distinct probabilities: all that call anybody
    differently. Of equal ones the nearest to 0.5 wins, of two equally near the lower.

    Args:
        labels: 1 methylated, 0 unmethylated; both there.
        probabilities: of methylation, as predicted for validation.

    Returns:
        In [0, 1]; a probability of at least this much counts as methylated.
    """
    values, place = np.unique(probabilities, return_inverse=True)
    positives = np.bincount(place, weights=labels, minlength=len(values))
    negatives = np.bincount(place, weights=1 - labels, minlength=len(values))
    # candidate i lies between values i and i + 1
    sen = 1 - np.cumsum(positives)[:-1] / positives.sum()
    spe = np.cumsum(negatives)[:-1] / negatives.sum()
    between = (values[:-1] + values[1:]) / 2
    # The mean of two neighbours in floating point may be the lower one, which must not be called.
    thresholds = np.where(between > values[:-1], between, values[1:]).tolist()
    candidates = [
        # Equal in exact arithmetic must be equal here.
        (round(criterion_m(a, b), 12), -abs(t - THRESHOLD), -t)
        for t, a, b in zip(thresholds, sen.tolist(), spe.tolist(), strict=True)
        if qualifies(a, b)
    ]
    return float(-max(candidates)[2]) if candidates else THRESHOLD


def logits(probabilities: Float[np.ndarray, " *any"]) -> Float[np.ndarray, " *any"]:
    """Log-odds; a probability counts as at least 1e-6 away from 0 and 1.

    No model here knows a subject better than one in a million, and a single 0 or 1 would else
    outweigh everybody in what is fitted.
    """
    clipped: np.ndarray = logit(np.clip(probabilities, _EDGE, 1 - _EDGE))
    return clipped


def prior_shift(
    prior: Float[np.ndarray, " subject"], prevalence: Float[np.ndarray, " subject"]
) -> Float[np.ndarray, " subject"]:
    """What a logit moves by when the share of methylated is another than in training.

    logit(prevalence) − logit(prior): eq. 2.4 of Saerens, Latinne and Decaestecker 2002 for two
    classes, as a difference of log-odds.

    Args:
        prior: share of methylated that the model was trained with, strictly between 0 and 1.
        prevalence: share where it is used, strictly between 0 and 1.
    """
    return np.asarray(logit(prevalence) - logit(prior))


def fit_temperature(
    labels: Integer[np.ndarray, " subject"], log_odds: Float[np.ndarray, " subject"]
) -> float:
    """The T for which sigmoid(log_odds / T) has the least cross-entropy.

    Temperature scaling (Guo et al. 2017, sec. 4.2) for two classes. It leaves the order of
    subjects, and with it AUC, alone; above 1 it makes probabilities less sure.

    Args:
        labels: 1 methylated, 0 unmethylated.
        log_odds: of validation; finite.

    Returns:
        Within :data:`TEMPERATURES`; 1 where all log-odds are 0, which none would change.
    """
    if not log_odds.any():
        return 1.0
    signed = np.where(labels == 1, log_odds, -log_odds)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -signed / math.exp(log_temperature)).mean())

    bounds = (math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1]))
    # As a function of 1/T the loss is convex, so of log T it has one minimum.
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(math.exp(found.x))
