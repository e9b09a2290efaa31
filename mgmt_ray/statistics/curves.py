"""The points of ROC and precision-recall curves."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Integer

from mgmt_ray.statistics.calibrators import TEMPERATURE_SCALED, Recalibrated


def roc_points(
    labels: Integer[np.ndarray, " subject"], probabilities: Float[np.ndarray, " subject"]
) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """1 − specificity and sensitivity at every distinct threshold, from (0, 0) to (1, 1).

    Both classes must be there. The area under straight lines between the points is the AUC.
    """
    true_positives, false_positives = _positive_counts(labels, probabilities)
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
    true_positives, false_positives = _positive_counts(labels, probabilities)
    assert labels.any(), "a precision-recall curve needs methylated subjects"
    precision = true_positives / (true_positives + false_positives)
    recall = true_positives / labels.sum()
    return np.concatenate([[0.0], recall]), np.concatenate([precision[:1], precision])


def _positive_counts(
    labels: Integer[np.ndarray, " subject"], probabilities: Float[np.ndarray, " subject"]
) -> tuple[Integer[np.ndarray, " threshold"], Integer[np.ndarray, " threshold"]]:
    """True and false positives when all at or above each distinct probability are called."""
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order]
    ends = np.flatnonzero(np.concatenate([ordered[1:] != ordered[:-1], [True]]))
    true_positives = np.cumsum(labels[order])[ends]
    return true_positives, ends + 1 - true_positives


THRESHOLDS = np.round(np.arange(0.05, 0.801, 0.01), 2)
"""Probabilities from which one would act, 0.05 to 0.80 in steps of 0.01."""

DECISION_COLUMNS: tuple[str, ...] = (
    "network",
    "ensemble",
    "threshold",
    "net_benefit",
    "treat_all",
)


def decision_table(recalibrated: Recalibrated) -> pd.DataFrame:
    """Net benefit of acting on each ensemble's calibrated probabilities, and on everybody's.

    "Calibrated" is corrected for the training prior and temperature scaled. Treating nobody has a
    net benefit of 0.

    Args:
        recalibrated: see :func:`.recalibrated.recalibrate`.

    Returns:
        :data:`DECISION_COLUMNS`, one row per network, ensemble and threshold.
    """
    tables = []
    for (network, name), group in recalibrated.probabilities.groupby(
        ["network", "ensemble"], sort=False
    ):
        labels = group["label"].to_numpy(dtype=np.int64)
        p = group[TEMPERATURE_SCALED].to_numpy(dtype=float)
        columns = {
            "network": network,
            "ensemble": name,
            "threshold": THRESHOLDS,
            "net_benefit": net_benefit(labels, p, THRESHOLDS),
            "treat_all": net_benefit(labels, np.ones_like(p), THRESHOLDS),
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)[list(DECISION_COLUMNS)]


def net_benefit(
    labels: Integer[np.ndarray, " subject"],
    probabilities: Float[np.ndarray, " subject"],
    thresholds: Float[np.ndarray, " threshold"],
) -> Float[np.ndarray, " threshold"]:
    """TP/n − FP/n · t/(1 − t) at each threshold t (Vickers and Elkin 2006).

    Args:
        labels: 1 methylated, 0 unmethylated.
        probabilities: of methylation; at least t is acted on.
        thresholds: in [0, 1); t/(1 − t) is how many needless acts one needed act is worth.

    Returns:
        Net true positives per subject: at most the share of methylated, without a lower end.
    """
    acted = probabilities >= thresholds[:, None]
    hits = (acted & (labels == 1)).mean(axis=1)
    needless = (acted & (labels == 0)).mean(axis=1)
    return np.asarray(hits - needless * thresholds / (1 - thresholds))
