"""Test probabilities as what was fitted on validation maps them; nothing is fitted on test.

Per network, ensemble and outer split three things are fitted on the training subjects, predicted
out of fold: a threshold, the shift from the training prior to their prevalence, and a temperature.
They map the test probabilities of that outer split only; a subject that several outer splits test
has the mean of its mapped probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Integer
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from mgmt_ray.base import MgmtError
from mgmt_ray.selection.criterion import qualifies
from mgmt_ray.training.metrics import THRESHOLD, criterion_m

TEMPERATURES = (0.01, 100.0)
"""Between these the temperature is looked for. Classes that validation separates perfectly would
have 0; probabilities that tell nothing, or the wrong way round, infinity."""

_MIN_PROBABILITY = 1e-6


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
    clipped: np.ndarray = logit(np.clip(probabilities, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY))
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


AS_PREDICTED = "as predicted"
THRESHOLD_CHOSEN = "threshold chosen"
PRIOR_CORRECTED = "prior corrected"
TEMPERATURE_SCALED = "temperature scaled"

CALIBRATION_VERSIONS = (AS_PREDICTED, PRIOR_CORRECTED, TEMPERATURE_SCALED)
"""Versions whose probabilities are meant as such; that of the threshold is made to be called."""

_KEYS = ("network", "ensemble", "outer_fold")
_CALIBRATOR_COLUMNS = ("threshold", "prevalence", "temperature", "prior_shift", "prior_threshold")
FIT_COLUMNS: tuple[str, ...] = (*_KEYS, *_CALIBRATOR_COLUMNS)
"""One row per network, ensemble and outer split: ``threshold`` chosen on validation, ``prevalence``
of methylated among its subjects, ``temperature``, ``prior_shift`` of the test subjects' logits
(their mean), and ``prior_threshold``, the probability that this shift moves to 0.5."""


@dataclass(frozen=True, slots=True, eq=False)
class Recalibrated:
    """Test predictions and what they were mapped with.

    Attributes:
        probabilities: network, ensemble, subject, label and a column per version, all in [0, 1];
            ensembles in the order given, subjects sorted.
        fits: :data:`FIT_COLUMNS`.
    """

    probabilities: pd.DataFrame
    fits: pd.DataFrame


def recalibrate(validation: pd.DataFrame, test: pd.DataFrame) -> Recalibrated:
    """Fit on validation, map test, average over outer splits.

    Args:
        validation: ``selection.ensemble.SPLIT_COLUMNS``, out of fold.
        test: the same columns of test subjects.

    Raises:
        MgmtError: an ensemble of the test table has no validation subjects of both classes.
    """
    fits = _fit(validation, test)
    rows = test.merge(fits[[*_KEYS, "threshold", "prevalence", "temperature"]], on=[*_KEYS])
    prevalence = rows["prevalence"].to_numpy(dtype=float)
    p, prior, threshold, temperature = (
        rows[name].to_numpy(dtype=float)
        for name in ("probability", "prior", "threshold", "temperature")
    )
    corrected = logits(p) + prior_shift(prior, prevalence)
    versions = {
        AS_PREDICTED: p,
        THRESHOLD_CHOSEN: expit(logits(p) - logits(threshold)),
        PRIOR_CORRECTED: expit(corrected),
        TEMPERATURE_SCALED: expit(corrected / temperature),
    }
    mapped = rows[["network", "ensemble", "subject", "label"]].assign(**versions)
    keys = ["network", "ensemble", "subject"]
    means = mapped.groupby(keys, sort=False).mean().reset_index()
    place = means.groupby(keys[:2], sort=False).ngroup()
    ordered = means.assign(place=place).sort_values(["place", "subject"], ignore_index=True)
    return Recalibrated(ordered.drop(columns="place").astype({"label": int}), fits)


def _fit(validation: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """Of test rows only their priors are used, to tell by how much they will be shifted."""
    known = dict(iter(validation.groupby([*_KEYS], sort=False)))
    fits = []
    for key, rows in test.groupby([*_KEYS], sort=False):
        own = known.get(key)
        if own is None or own["label"].nunique() < 2:
            network, name, outer = _names(key)
            raise MgmtError(
                f"{network} {name}, outer split {outer}: no validation subjects of both classes, "
                "so no threshold can be chosen. Leave out a modality that few training subjects "
                "have (cohort.modalities)."
            )
        fits.append(dict(zip(_KEYS, _names(key), strict=True)) | _fit_one(own, rows))
    return pd.DataFrame(fits, columns=list(FIT_COLUMNS))


def _fit_one(validation: pd.DataFrame, test: pd.DataFrame) -> dict[str, float]:
    ordered = validation.sort_values("subject")
    labels = ordered["label"].to_numpy(dtype=np.int64)
    p = ordered["probability"].to_numpy(dtype=float)
    prior = ordered["prior"].to_numpy(dtype=float)
    prevalence = float(labels.mean())
    corrected = logits(p) + prior_shift(prior, np.full(len(p), prevalence))
    of_test = test["prior"].to_numpy(dtype=float)
    shift = float(prior_shift(of_test, np.full(len(of_test), prevalence)).mean())
    return {
        "threshold": choose_threshold(labels, p),
        "prevalence": prevalence,
        "temperature": fit_temperature(labels, corrected),
        "prior_shift": shift,
        "prior_threshold": float(expit(-shift)),
    }


def _names(key: Hashable) -> tuple[Any, ...]:
    assert isinstance(key, tuple)
    return key


def mean_fits(fits: pd.DataFrame) -> dict[tuple[str, str], dict[str, float]]:
    """What was fitted for each network and ensemble, as the mean over outer splits."""
    return {
        (str(network), str(name)): {what: float(rows[what].mean()) for what in _CALIBRATOR_COLUMNS}
        for (network, name), rows in fits.groupby(["network", "ensemble"], sort=False)
    }
