"""The points of ROC and precision-recall curves."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Integer


def roc_points(
    labels: Integer[np.ndarray, " subject"], probabilities: Float[np.ndarray, " subject"]
) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """1 − specificity and sensitivity at every distinct threshold, from (0, 0) to (1, 1).

    Both classes must be there. The area under straight lines between the points is the AUC.
    """
    true_positives, false_positives = _called(labels, probabilities)
    num_positives, num_negatives = int(labels.sum()), int((1 - labels).sum())
    assert num_positives and num_negatives, "a ROC curve needs both classes"
    return (
        np.concatenate([[0.0], false_positives / num_negatives]),
        np.concatenate([[0.0], true_positives / num_positives]),
    )


def precision_recall_points(
    labels: Integer[np.ndarray, " subject"], probabilities: Float[np.ndarray, " subject"]
) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """Recall and precision at every distinct threshold, from the highest down.

    A first point at recall 0 repeats the first precision, so that the area under the steps
    (precision held back to the recall before it) is the average precision.
    """
    true_positives, false_positives = _called(labels, probabilities)
    assert labels.any(), "a precision-recall curve needs methylated subjects"
    precision = true_positives / (true_positives + false_positives)
    recall = true_positives / labels.sum()
    return np.concatenate([[0.0], recall]), np.concatenate([precision[:1], precision])


def _called(
    labels: Integer[np.ndarray, " subject"], probabilities: Float[np.ndarray, " subject"]
) -> tuple[Integer[np.ndarray, " threshold"], Integer[np.ndarray, " threshold"]]:
    """True and false positives when all at or above each distinct probability are called."""
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order]
    ends = np.flatnonzero(np.concatenate([ordered[1:] != ordered[:-1], [True]]))
    true_positives = np.cumsum(labels[order])[ends]
    return true_positives, ends + 1 - true_positives
