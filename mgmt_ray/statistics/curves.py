"""The points of ROC, precision-recall and decision curves."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Integer

from mgmt_ray.statistics.calibrators import TEMPERATURE_SCALED, Recalibrated
from mgmt_ray.statistics.intervals import Labels, PerSubject

THRESHOLDS = np.round(np.arange(0.05, 0.801, 0.01), 2)
"""Threshold probabilities of decision curves, 0.05 to 0.80 in increments of 0.01."""

DECISION_COLUMNS: tuple[str, ...] = ("network", "ensemble", "threshold", "net_benefit", "treat_all")


def roc_points(
    labels: Labels, probabilities: PerSubject
) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """Return 1 − specificity and sensitivity at every distinct threshold, from (0, 0) to (1, 1).

    Both classes must occur. The area under straight lines between the points is the AUC.

    >>> roc_points(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.6, 0.8]))
    (array([0. , 0. , 0.5, 0.5, 1. ]), array([0. , 0.5, 0.5, 1. , 1. ]))
    """
    true_positives, false_positives = _positive_counts(labels, probabilities)
    num_positives, num_negatives = int(labels.sum()), int((1 - labels).sum())
    assert num_positives and num_negatives, "a ROC curve needs both classes"
    return (
        np.concatenate([[0.0], false_positives / num_negatives]),
        np.concatenate([[0.0], true_positives / num_positives]),
    )


def precision_recall_points(
    labels: Labels, probabilities: PerSubject
) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """Return recall and precision at every distinct threshold, from the highest down.

    A first point at recall 0 repeats the first precision, so that the area under the steps (each
    precision extends to the left up to the previous recall) is the average precision.

    >>> labels, p = np.array([0, 1, 1]), np.array([0.5, 0.2, 0.9])
    >>> recall, precision = precision_recall_points(labels, p)
    >>> recall, precision.round(2)
    (array([0. , 0.5, 0.5, 1. ]), array([1.  , 1.  , 0.5 , 0.67]))
    """
    true_positives, false_positives = _positive_counts(labels, probabilities)
    assert labels.any(), "a precision-recall curve needs methylated subjects"
    precision = true_positives / (true_positives + false_positives)
    recall = true_positives / labels.sum()
    return np.concatenate([[0.0], recall]), np.concatenate([precision[:1], precision])


def _positive_counts(
    labels: Labels, probabilities: PerSubject
) -> tuple[Integer[np.ndarray, " threshold"], Integer[np.ndarray, " threshold"]]:
    """Count true and false positives with each distinct probability as the threshold."""
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order]
    ends = np.flatnonzero(np.concatenate([ordered[1:] != ordered[:-1], [True]]))
    true_positives = np.cumsum(labels[order])[ends]
    return true_positives, ends + 1 - true_positives


def decision_table(recalibrated: Recalibrated) -> pd.DataFrame:
    """Return the net benefit of each ensemble's calibrated probabilities, and of treating all.

    "Calibrated" is corrected for the training prior and temperature scaled. Treating none has a net
    benefit of 0. One row per network, ensemble and threshold, with :data:`DECISION_COLUMNS`.
    """
    tables = []
    for key, labels, versions in recalibrated.models():
        p = versions[TEMPERATURE_SCALED]
        columns = {
            "threshold": THRESHOLDS,
            "net_benefit": net_benefit(labels, p, THRESHOLDS),
            "treat_all": net_benefit(labels, np.ones_like(p), THRESHOLDS),
        }
        tables.append(pd.DataFrame({**key, **columns}))
    return pd.concat(tables, ignore_index=True)[list(DECISION_COLUMNS)]


def net_benefit(
    labels: Labels, probabilities: PerSubject, thresholds: Float[np.ndarray, " threshold"]
) -> Float[np.ndarray, " threshold"]:
    """Return TP/n − FP/n · t/(1 − t) at each threshold t (Vickers and Elkin 2006).

    Subjects with a probability of at least t are treated; t is in [0, 1), and t/(1 − t) the weight
    of a false positive against a true one.

    Returns:
        Net true positives per subject: at most the share of methylated, without a lower bound.

    >>> labels, p = np.array([1, 1, 0, 0]), np.array([0.9, 0.6, 0.6, 0.2])
    >>> net_benefit(labels, p, np.array([0.5, 0.8]))
    array([0.25, 0.25])
    """
    treated = probabilities >= thresholds[:, None]
    true_positives = (treated & (labels == 1)).mean(axis=1)
    false_positives = (treated & (labels == 0)).mean(axis=1)
    return np.asarray(true_positives - false_positives * thresholds / (1 - thresholds))
