"""AUC, average precision, Brier score, sensitivity, specificity and criterion M of probabilities.

For one sample or many resamples at once: a resample is a row of weights, how often each subject
was drawn. All metrics take such rows, so that a bootstrap of thousands of resamples is one array
operation. The plain metric of a sample has one row of ones (:func:`unit_weights`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int, Integer

THRESHOLD = 0.5
"""A subject with at least this probability is predicted methylated."""

SENSITIVITY_WEIGHT = 0.6
SPECIFICITY_WEIGHT = 0.4
"""Of criterion M."""

METRIC_LABELS: dict[str, str] = {"auc": "AUC", "ap": "AP", "sen": "SEN", "spe": "SPE"}


Labels: TypeAlias = Integer[np.ndarray, " subject"]
"""1 methylated, 0 unmethylated."""

Probabilities: TypeAlias = Float[np.ndarray, " subject"]
"""Of methylation."""

Weights: TypeAlias = Integer[np.ndarray, "resample subject"]
"""Number of times that each subject was drawn, in each resample."""

Metrics: TypeAlias = Float[np.ndarray, " resample"]
"""One value per resample."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a set of subjects or volumes; NaN where a class is missing.

    Attributes:
        loss: mean binary cross-entropy in nats.
    """

    loss: float
    auc: float
    ap: float
    sen: float
    spe: float

    @property
    def m(self) -> float:
        """Criterion M (see :func:`criterion_m`)."""
        return criterion_m(self.sen, self.spe)


def criterion_m(sen: float, spe: float) -> float:
    """Return M = 0.6·SEN + 0.4·SPE, in [0, 1].

    Eq. 4 of Schmitz et al. 2024 subtracts 0.5 from both, which gives the same order.

    >>> round(criterion_m(sen=0.8, spe=0.7), 3)
    0.76
    """
    return SENSITIVITY_WEIGHT * sen + SPECIFICITY_WEIGHT * spe


def score(
    probability: Float[np.ndarray, " row"],
    label: Float[np.ndarray, " row"],
    loss: Float[np.ndarray, " row"],
) -> Scores:
    """Score probabilities against labels (1 methylated, 0 unmethylated).

    >>> probability, label = np.array([0.9, 0.6, 0.2]), np.array([1.0, 0.0, 0.0])
    >>> scores = score(probability, label, loss=-np.log(np.abs(1 - label - probability)))
    >>> scores.auc, scores.sen, scores.spe, scores.m
    (1.0, 1.0, 0.5, 0.8)
    """
    labels, sample = label.astype(np.int64), unit_weights(len(label))
    return Scores(
        loss=float(loss.mean()),
        auc=float(auc(labels, probability, sample)[0]),
        ap=float(average_precision(labels, probability, sample)[0]),
        sen=float(sensitivity(labels, probability, sample)[0]),
        spe=float(specificity(labels, probability, sample)[0]),
    )


def auc(labels: Labels, probabilities: Probabilities, weights: Weights) -> Metrics:
    """Return the area under the ROC curve by ranks; ties count half (Mann–Whitney U).

    Returns:
        One area per resample, in [0, 1]; NaN where a class is missing in a resample.

    >>> labels, probabilities = np.array([1, 0, 1, 0]), np.array([0.9, 0.4, 0.4, 0.1])
    >>> auc(labels, probabilities, np.array([[1, 1, 1, 1], [2, 1, 0, 1], [2, 0, 2, 0]])).tolist()
    [0.875, 1.0, nan]
    """
    positives, negatives = _by_threshold(labels, probabilities, weights)
    negatives_above = np.cumsum(negatives, axis=1) - negatives
    total_positives, total_negatives = positives.sum(axis=1), negatives.sum(axis=1)
    discordant = (positives * (negatives_above + 0.5 * negatives)).sum(axis=1)
    return 1.0 - _ratio(discordant, total_positives * total_negatives)


def average_precision(labels: Labels, probabilities: Probabilities, weights: Weights) -> Metrics:
    """Return Σ (Rₙ − Rₙ₋₁)·Pₙ over the distinct thresholds, uninterpolated as in scikit-learn.

    Returns:
        One value per resample, in [0, 1]; NaN where a resample has no methylated subject.

    >>> labels, probabilities = np.array([1, 0, 1, 0]), np.array([0.9, 0.5, 0.4, 0.1])
    >>> average_precision(labels, probabilities, unit_weights(4)).round(3).tolist()
    [0.833]
    """
    positives, negatives = _by_threshold(labels, probabilities, weights)
    true_positives = np.cumsum(positives, axis=1)
    num_predicted = true_positives + np.cumsum(negatives, axis=1)
    # Before the first drawn subject the recall does not grow, so that precision does not count: 0.
    precision = np.divide(
        true_positives, num_predicted, out=np.zeros(num_predicted.shape), where=num_predicted > 0
    )
    return _ratio((positives * precision).sum(axis=1), positives.sum(axis=1))


def brier(labels: Labels, probabilities: Probabilities, weights: Weights) -> Metrics:
    """Return the mean squared difference of probability and label (Brier 1950, for two classes).

    Returns:
        One score per resample, in [0, 1]: 0 is best, a constant probability of 0.5 has 0.25; NaN
        where a resample is empty.

    >>> brier(np.array([1, 0]), np.array([0.5, 0.0]), unit_weights(2)).tolist()
    [0.125]
    """
    errors = (probabilities - labels) ** 2
    return _ratio((weights * errors).sum(axis=1), weights.sum(axis=1).astype(np.int64))


def sensitivity(labels: Labels, probabilities: Probabilities, weights: Weights) -> Metrics:
    """Return the share of methylated subjects at or above 0.5; NaN where there is none.

    >>> sensitivity(np.array([1, 1, 0]), np.array([0.5, 0.4, 0.9]), unit_weights(3)).tolist()
    [0.5]
    """
    correct, total = count_correct(labels, probabilities, weights, label=1)
    return _ratio(correct, total)


def specificity(labels: Labels, probabilities: Probabilities, weights: Weights) -> Metrics:
    """Return the share of unmethylated subjects below 0.5; NaN where there is none.

    >>> specificity(np.array([1, 0, 0]), np.array([0.5, 0.4, 0.9]), unit_weights(3)).tolist()
    [0.5]
    """
    correct, total = count_correct(labels, probabilities, weights, label=0)
    return _ratio(correct, total)


def count_correct(
    labels: Labels,
    probabilities: Probabilities,
    weights: Weights,
    label: int,
) -> tuple[Int[np.ndarray, " resample"], Int[np.ndarray, " resample"]]:
    """Count the correctly predicted subjects of a label, and all subjects of that label.

    >>> labels, probabilities = np.array([1, 1, 0]), np.array([0.5, 0.4, 0.9])
    >>> count_correct(labels, probabilities, unit_weights(3), label=1)
    (array([1]), array([2]))
    """
    predicted = (probabilities >= THRESHOLD).astype(np.int64)
    class_weights = weights[:, labels == label].astype(np.int64)
    correct = class_weights[:, predicted[labels == label] == label].sum(axis=1)
    return correct, class_weights.sum(axis=1)


def unit_weights(num_subjects: int) -> Int[np.ndarray, "1 subject"]:
    """Return the weights of the sample itself: one row, each subject drawn once.

    >>> unit_weights(3)
    array([[1, 1, 1]])
    """
    return np.ones((1, num_subjects), dtype=np.int64)


def _by_threshold(
    labels: Labels,
    probabilities: Probabilities,
    weights: Weights,
) -> tuple[Int[np.ndarray, "resample threshold"], Int[np.ndarray, "resample threshold"]]:
    """Count drawn positives and negatives at each distinct probability, from the highest down."""
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    drawn = weights[:, order].astype(np.int64)
    positives = np.add.reduceat(drawn * labels[order], starts, axis=1)
    return positives, np.add.reduceat(drawn, starts, axis=1) - positives


def _ratio(
    part: Metrics | Int[np.ndarray, " resample"],
    whole: Int[np.ndarray, " resample"],
) -> Metrics:
    undefined = np.full(len(whole), np.nan)
    ratio: np.ndarray = np.divide(part, whole, out=undefined, where=whole > 0)
    return ratio
