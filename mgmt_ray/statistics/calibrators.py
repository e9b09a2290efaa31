"""Calibrators fitted on validation and applied to test probabilities; nothing is fitted on test.

Per network, ensemble and outer split, a threshold, the shift from the training prior to the
prevalence, and a temperature are fitted on the training subjects' out-of-fold predictions. They map
the test probabilities of that outer split only; a subject in the test sets of several outer splits
gets the mean of its mapped probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from mgmt_ray.base import MgmtError
from mgmt_ray.selection.epoch_choice import qualifies
from mgmt_ray.statistics.intervals import Labels, PerSubject
from mgmt_ray.training.metrics import THRESHOLD, criterion_m

TEMPERATURES = (0.01, 100.0)
"""Bounds of the temperature. Without them, perfectly separated validation classes would give 0, and
probabilities without or with inverted information infinity."""

_MIN_PROBABILITY = 1e-6

AS_PREDICTED = "as predicted"
THRESHOLD_CHOSEN = "threshold chosen"
PRIOR_CORRECTED = "prior corrected"
TEMPERATURE_SCALED = "temperature scaled"

_VERSIONS = (AS_PREDICTED, THRESHOLD_CHOSEN, PRIOR_CORRECTED, TEMPERATURE_SCALED)
CALIBRATION_VERSIONS = (AS_PREDICTED, PRIOR_CORRECTED, TEMPERATURE_SCALED)
"""Versions to be read as probabilities; :data:`THRESHOLD_CHOSEN` is only meant for calls at 0.5."""

_KEYS = ["network", "ensemble", "outer_fold"]
_CALIBRATOR_COLUMNS = ("threshold", "prevalence", "temperature", "prior_shift", "prior_threshold")
FIT_COLUMNS: tuple[str, ...] = (*_KEYS, *_CALIBRATOR_COLUMNS)
"""One row per network, ensemble and outer split: ``threshold`` chosen on validation, ``prevalence``
of methylated among the validation subjects, ``temperature``, ``prior_shift`` of the test subjects'
logits (their mean), and ``prior_threshold``, the probability that this shift moves to 0.5."""


def choose_threshold(labels: Labels, probabilities: PerSubject) -> float:
    """Return the threshold with the highest M = 0.6·SEN + 0.4·SPE (Schmitz et al. 2024, eq. 4).

    As for epochs, a threshold must qualify with both rates above 0.5; where none does, it is 0.5.
    Candidates are the midpoints between neighbouring distinct probabilities, which cover all ways
    to divide the subjects. On a tie the one nearest to 0.5 wins, of two equally near the lower.

    Args:
        labels: both must occur.
        probabilities: predicted for validation subjects.

    Returns:
        In [0, 1]; a probability of at least this much counts as methylated.

    >>> choose_threshold(np.array([0, 0, 1, 1]), np.array([0.125, 0.25, 0.5, 0.875]))
    0.375
    """
    values, index = np.unique(probabilities, return_inverse=True)
    positives = np.bincount(index, weights=labels, minlength=len(values))
    negatives = np.bincount(index, weights=1 - labels, minlength=len(values))
    # candidate i lies between values i and i + 1
    sen = 1 - np.cumsum(positives)[:-1] / positives.sum()
    spe = np.cumsum(negatives)[:-1] / negatives.sum()
    between = (values[:-1] + values[1:]) / 2
    # In floating point the mean of two neighbours may equal the lower one, which is unmethylated.
    thresholds = np.where(between > values[:-1], between, values[1:]).tolist()
    candidates = [
        # Rounded, so that values that are equal in exact arithmetic are equal here.
        (round(criterion_m(sensitivity, specificity), 12), -abs(t - THRESHOLD), -t)
        for t, sensitivity, specificity in zip(thresholds, sen.tolist(), spe.tolist(), strict=True)
        if qualifies(sensitivity, specificity)
    ]
    return float(-max(candidates)[2]) if candidates else THRESHOLD


def logits(probabilities: Float[np.ndarray, " *any"]) -> Float[np.ndarray, " *any"]:
    """Return log-odds of probabilities clipped to [1e-6, 1 − 1e-6].

    No model here is surer than one in a million, and a single 0 or 1 would otherwise outweigh all
    other subjects in a fit.

    >>> logits(np.array([0.0, 0.5, 0.9])).round(2)
    array([-13.82,   0.  ,   2.2 ])
    """
    clipped: np.ndarray = logit(np.clip(probabilities, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY))
    return clipped


def prior_shift(prior: PerSubject, prevalence: PerSubject) -> PerSubject:
    """Return the shift of a logit when the share of methylated differs from that in training.

    logit(prevalence) − logit(prior): eq. 2.4 of Saerens, Latinne and Decaestecker 2002 for two
    classes, as a difference of log-odds. Both shares lie strictly between 0 and 1.

    >>> prior_shift(np.array([0.5]), np.array([0.2])).round(3)
    array([-1.386])
    """
    return np.asarray(logit(prevalence) - logit(prior))


def fit_temperature(labels: Labels, log_odds: PerSubject) -> float:
    """Return the T for which sigmoid(log_odds / T) has the lowest cross-entropy.

    Temperature scaling (Guo et al. 2017, sec. 4.2) for two classes. It keeps the order of subjects
    and so the AUC; above 1 it makes probabilities less extreme.

    Returns:
        Within :data:`TEMPERATURES`; 1 where all log-odds are 0, which no temperature changes.

    >>> labels, log_odds = np.array([0, 0, 0, 1]), np.full(4, -4.0)
    >>> round(fit_temperature(labels, log_odds), 2)  # sigmoid(-4 / 3.64) is 1 of 4
    3.64
    """
    if not log_odds.any():
        return 1.0
    signed = np.where(labels == 1, log_odds, -log_odds)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -signed / math.exp(log_temperature)).mean())

    bounds = (math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1]))
    # As a function of 1/T the loss is convex, so of log T it has one minimum.
    minimum = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(math.exp(minimum.x))


@dataclass(frozen=True, slots=True, eq=False)
class Recalibrated:
    """Calibrated test predictions, and the calibrators.

    Attributes:
        probabilities: network, ensemble, subject, label and a column per version, all in [0, 1];
            ensembles in the order given, subjects sorted.
        fits: :data:`FIT_COLUMNS`.
    """

    probabilities: pd.DataFrame
    fits: pd.DataFrame

    def models(self) -> Iterator[tuple[dict[str, str], Labels, dict[str, PerSubject]]]:
        """Yield each model's network and ensemble, labels, and probabilities by version."""
        for (network, name), rows in self.probabilities.groupby(_KEYS[:2], sort=False):
            versions = {v: rows[v].to_numpy(dtype=float) for v in _VERSIONS}
            labels = rows["label"].to_numpy(dtype=np.int64)
            yield {"network": str(network), "ensemble": str(name)}, labels, versions


def recalibrate(validation: pd.DataFrame, test: pd.DataFrame) -> Recalibrated:
    """Fit calibrators on validation, apply them to test, and average over outer splits.

    Args:
        validation: :data:`.ensembles.SPLIT_COLUMNS`, out of fold.

    Raises:
        MgmtError: an ensemble of the test table has no validation subjects of both classes.
    """
    fits = _fit(validation, test)
    rows = test.merge(fits[[*_KEYS, "threshold", "prevalence", "temperature"]], on=_KEYS)
    p, prior, prevalence, threshold, temperature = (
        rows[name].to_numpy(dtype=float)
        for name in ("probability", "prior", "prevalence", "threshold", "temperature")
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
    order = means.groupby(keys[:2], sort=False).ngroup()
    ordered = means.assign(order=order).sort_values(["order", "subject"], ignore_index=True)
    return Recalibrated(ordered.drop(columns="order").astype({"label": int}), fits)


def _fit(validation: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """Fit all calibrators; of test rows only the priors are used, which determine the shift."""
    by_split = dict(iter(validation.groupby(_KEYS, sort=False)))
    fits = []
    for key, test_rows in test.groupby(_KEYS, sort=False):
        network, name, outer = key
        validation_rows = by_split.get(key)
        if validation_rows is None or validation_rows["label"].nunique() < 2:
            raise MgmtError(
                f"{network} {name}, outer split {outer}: no validation subjects of both classes, "
                "so no threshold can be chosen. Omit a modality that few training subjects have "
                "(cohort.modalities)."
            )
        names = {"network": network, "ensemble": name, "outer_fold": outer}
        fits.append(names | _fit_split(validation_rows, test_rows))
    return pd.DataFrame(fits, columns=list(FIT_COLUMNS))


def _fit_split(validation: pd.DataFrame, test: pd.DataFrame) -> dict[str, float]:
    ordered = validation.sort_values("subject")
    labels = ordered["label"].to_numpy(dtype=np.int64)
    p = ordered["probability"].to_numpy(dtype=float)
    prior = ordered["prior"].to_numpy(dtype=float)
    prevalence = float(labels.mean())
    corrected = logits(p) + prior_shift(prior, np.full(len(p), prevalence))
    test_prior = test["prior"].to_numpy(dtype=float)
    shift = float(prior_shift(test_prior, np.full(len(test_prior), prevalence)).mean())
    return {
        "threshold": choose_threshold(labels, p),
        "prevalence": prevalence,
        "temperature": fit_temperature(labels, corrected),
        "prior_shift": shift,
        "prior_threshold": float(expit(-shift)),
    }


def mean_fits(fits: pd.DataFrame) -> dict[tuple[str, str], dict[str, float]]:
    """Return the calibrators of each network and ensemble, as means over outer splits."""
    return {
        (str(network), str(name)): {c: float(rows[c].mean()) for c in _CALIBRATOR_COLUMNS}
        for (network, name), rows in fits.groupby(["network", "ensemble"], sort=False)
    }
