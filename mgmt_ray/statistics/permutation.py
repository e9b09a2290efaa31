"""Whether an AUC could be that of labels that have nothing to do with the predictions."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Integer
from scipy.stats import rankdata

from mgmt_ray.base import stream

NUM_PERMUTATIONS = 9999
"""The smallest p-value is then 1/10,000."""


def permuted_labels(
    labels: Integer[np.ndarray, " subject"], seed: int, num_permutations: int = NUM_PERMUTATIONS
) -> Float[np.ndarray, "permutation subject"]:
    """The labels in random order, once per row.

    The stream is named "permutation": models of the same subjects are tested with the same rows.

    Args:
        labels: 1 methylated, 0 unmethylated.
        seed: the study's.
        num_permutations: rows to draw.
    """
    rows = np.tile(labels.astype(float), (num_permutations, 1))
    return stream(seed, "permutation").permuted(rows, axis=1, out=rows)


def permutation_p(
    labels: Integer[np.ndarray, " subject"],
    probabilities: Float[np.ndarray, " subject"],
    permuted: Float[np.ndarray, "permutation subject"],
) -> float:
    """Two-sided p-value of an AUC against 0.5, which no relation to the labels would give.

    p = (1 + b) / (1 + n), with b of the n permutations at least as far from 0.5 as what was seen
    (Phipson and Smyth 2010, eq. 2): the permutation that was seen counts, so p is never 0.

    Args:
        labels: 1 methylated, 0 unmethylated.
        probabilities: of methylation; only their order matters.
        permuted: of the same labels, as :func:`permuted_labels` gives them.

    Returns:
        In (0, 1]; 1 where a class is missing or all probabilities are equal.
    """
    # Four times (rank sum − its mean): AUC − 0.5 but for a factor, and a whole number, so that
    # equal distances compare as equal.
    ranks = 2 * rankdata(probabilities)
    centred = 2 * ranks - 2 * (len(ranks) + 1)
    seen = abs(float(centred @ labels))
    as_far = int((np.abs(permuted @ centred) >= seen).sum())
    return (1 + as_far) / (1 + len(permuted))
