"""AUC, average precision, Brier score, sensitivity and specificity of probabilities, not logits.

For one sample or many resamples at once: a resample is a row of weights, how often each subject
was drawn. All metrics take such rows, so a bootstrap of thousands of resamples is one array
operation, and plain metrics are one row of ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Integer

THRESHOLD = 0.5
"""A probability of at least this much counts as methylated."""

SENSITIVITY_WEIGHT = 0.6
SPECIFICITY_WEIGHT = 0.4

METRIC_LABELS: dict[str, str] = {"auc": "AUC", "ap": "AP", "sen": "SEN", "spe": "SPE"}


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one set of subjects or volumes; NaN where a class is missing.

    Attributes:
        loss: mean binary cross-entropy in nats.
        auc: area under the ROC curve.
        ap: average precision.
        sen: sensitivity at the threshold.
        spe: specificity at the threshold.
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
    """M = 0.6·SEN + 0.4·SPE, in [0, 1].

    Eq. 4 of Schmitz et al. 2024 subtracts 0.5 from both, which gives the same order.
    """
    return SENSITIVITY_WEIGHT * sen + SPECIFICITY_WEIGHT * spe


def score(
    probability: Float[np.ndarray, " row"],
    label: Float[np.ndarray, " row"],
    loss: Float[np.ndarray, " row"],
) -> Scores:
    """Score probabilities against labels (1 methylated, 0 unmethylated)."""
    labels, sample = label.astype(np.int64), unit_weights(len(label))
    return Scores(
        loss=float(loss.mean()),
        auc=float(auc(labels, probability, sample)[0]),
        ap=float(average_precision(labels, probability, sample)[0]),
        sen=float(sensitivity(labels, probability, sample)[0]),
        spe=float(specificity(labels, probability, sample)[0]),
    )


def auc(
    labels: Integer[np.ndarray, " subject"],
    probabilities: Float[np.ndarray, " subject"],
    weights: Integer[np.ndarray, "resample subject"],
) -> Float[np.ndarray, " resample"]:
    """Area under the ROC curve by ranks; tied probabilities count half (Mann–Whitney U).

    Args:
        labels: 1 methylated, 0 unmethylated.
        probabilities: of methylation; only their order matters.
        weights: times that each subject was drawn.

    Returns:
        One area per resample, in [0, 1]; NaN where a resample lacks one of the classes.
    """
    positives, negatives = _by_threshold(labels, probabilities, weights)
    negatives_above = np.cumsum(negatives, axis=1) - negatives
    total_positives, total_negatives = positives.sum(axis=1), negatives.sum(axis=1)
    lost = (positives * (negatives_above + 0.5 * negatives)).sum(axis=1)
    return 1.0 - _ratio(lost, total_positives * total_negatives)


def average_precision(
    labels: Integer[np.ndarray, " subject"],
    probabilities: Float[np.ndarray, " subject"],
    weights: Integer[np.ndarray, "resample subject"],
) -> Float[np.ndarray, " resample"]:
    """Σ (Rₙ − Rₙ₋₁)·Pₙ over the distinct thresholds, without interpolation (as scikit-learn).

    Arguments as of :func:`auc`.

    Returns:
        One value per resample, in [0, 1]; NaN where a resample has no methylated subject.
    """
    positives, negatives = _by_threshold(labels, probabilities, weights)
    true_positives = np.cumsum(positives, axis=1)
    called = true_positives + np.cumsum(negatives, axis=1)
    # Before the first drawn subject nothing is called and the recall does not grow: precision 0.
    precision = np.divide(true_positives, called, out=np.zeros(called.shape), where=called > 0)
    return _ratio((positives * precision).sum(axis=1), positives.sum(axis=1))


def brier(
    labels: Integer[np.ndarray, " subject"],
    probabilities: Float[np.ndarray, " subject"],
    weights: Integer[np.ndarray, "resample subject"],
) -> Float[np.ndarray, " resample"]:
    """Mean squared difference of probability and label (Brier 1950, for two classes).

    Arguments as of :func:`auc`.

    Returns:
        One score per resample, in [0, 1]: 0 is best, 0.25 what a constant 0.5 has; NaN where a
        resample is empty.
    """
    errors = (probabilities - labels) ** 2
    return _ratio((weights * errors).sum(axis=1), weights.sum(axis=1).astype(np.int64))


def sensitivity(
    labels: Integer[np.ndarray, " subject"],
    probabilities: Float[np.ndarray, " subject"],
    weights: Integer[np.ndarray, "resample subject"],
) -> Float[np.ndarray, " resample"]:
    """Share of the methylated subjects at or above 0.5; NaN where there is none."""
    right, total = count_correct(labels, probabilities, weights, of_label=1)
    return _ratio(right, total)


def specificity(
    labels: Integer[np.ndarray, " subject"],
    probabilities: Float[np.ndarray, " subject"],
    weights: Integer[np.ndarray, "resample subject"],
) -> Float[np.ndarray, " resample"]:
    """Share of the unmethylated subjects below 0.5; NaN where there is none."""
    right, total = count_correct(labels, probabilities, weights, of_label=0)
    return _ratio(right, total)


def count_correct(
    labels: Integer[np.ndarray, " subject"],
    probabilities: Float[np.ndarray, " subject"],
    weights: Integer[np.ndarray, "resample subject"],
    of_label: int,
) -> tuple[Int[np.ndarray, " resample"], Int[np.ndarray, " resample"]]:
    """How many subjects of one label are called by their label, and how many there are."""
    called = (probabilities >= THRESHOLD).astype(np.int64)
    of_class = weights[:, labels == of_label].astype(np.int64)
    right = of_class[:, called[labels == of_label] == of_label].sum(axis=1)
    return right, of_class.sum(axis=1)


def unit_weights(num_subjects: int) -> Int[np.ndarray, "1 subject"]:
    """The weights of the sample itself: one row, each subject drawn once."""
    return np.ones((1, num_subjects), dtype=np.int64)


def _by_threshold(
    labels: Integer[np.ndarray, " subject"],
    probabilities: Float[np.ndarray, " subject"],
    weights: Integer[np.ndarray, "resample subject"],
) -> tuple[Int[np.ndarray, "resample threshold"], Int[np.ndarray, "resample threshold"]]:
    """Drawn positives and negatives at each distinct probability, from the highest down."""
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    drawn = weights[:, order].astype(np.int64)
    positives = np.add.reduceat(drawn * labels[order], starts, axis=1)
    return positives, np.add.reduceat(drawn, starts, axis=1) - positives


def _ratio(
    part: Float[np.ndarray, " resample"] | Int[np.ndarray, " resample"],
    whole: Int[np.ndarray, " resample"],
) -> Float[np.ndarray, " resample"]:
    undefined = np.full(len(whole), np.nan)
    ratio: np.ndarray = np.divide(part, whole, out=undefined, where=whole > 0)
    return ratio
