"""Scores of an epoch, from probabilities, never from logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

THRESHOLD = 0.5
"""A probability of at least this much counts as methylated."""


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


def score(
    probability: Float[np.ndarray, " row"],
    label: Float[np.ndarray, " row"],
    loss: Float[np.ndarray, " row"],
) -> Scores:
    """Score probabilities against labels (1 methylated, 0 unmethylated)."""
    positive = label > 0
    called = probability >= THRESHOLD
    return Scores(
        loss=float(loss.mean()),
        auc=roc_auc(probability, positive),
        ap=average_precision(probability, positive),
        sen=_share(called[positive]),
        spe=_share(~called[~positive]),
    )


def roc_auc(probability: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive ranks above a negative, ties counting half (Mann-Whitney)."""
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    if not num_positive or not num_negative:
        return float("nan")
    _, place, count = np.unique(probability, return_inverse=True, return_counts=True)
    mid_rank = np.cumsum(count) - (count - 1) / 2
    rank_sum = mid_rank[place][positive].sum()
    return float((rank_sum / num_positive - (num_positive + 1) / 2) / num_negative)


def average_precision(probability: np.ndarray, positive: np.ndarray) -> float:
    """Sum over thresholds of precision times the gain in recall, equal probabilities together."""
    if not positive.any():
        return float("nan")
    _, place = np.unique(-probability, return_inverse=True)
    hits = np.bincount(place, weights=positive)
    precision = np.cumsum(hits) / np.cumsum(np.bincount(place))
    return float((precision * hits).sum() / positive.sum())


def _share(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
