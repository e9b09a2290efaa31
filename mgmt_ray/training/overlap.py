"""How well predicted tumour covers true tumour: the Dice coefficient of masks.

Where both masks are empty nothing was to be found and nothing was: 1. Where one is empty: 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int


def dice(predicted: Bool[np.ndarray, "*grid"], truth: Bool[np.ndarray, "*grid"]) -> float:
    """2·|A ∩ B| / (|A| + |B|), in [0, 1]; of two volumes the 3-D Dice.

    Args:
        predicted: of a slice, a volume, or any pixels that are counted together.
        truth: of the same.
    """
    shared, sizes = _counts(predicted[None], truth[None])
    return float(coefficient(shared, sizes)[0])


def dice_per_slice(
    predicted: Bool[np.ndarray, "slice height width"], truth: Bool[np.ndarray, "slice height width"]
) -> Float[np.ndarray, " slice"]:
    """The coefficient of each slice by itself."""
    return coefficient(*_counts(predicted, truth))


def dice_per_patient(
    predicted: Bool[np.ndarray, "slice height width"],
    truth: Bool[np.ndarray, "slice height width"],
    patients: Sequence[str],
) -> dict[str, float]:
    """The coefficient of all pixels of a patient's slices together.

    It is the 3-D Dice over these slices. Over the volume it is lower if tumour is predicted in
    slices that are not among them: give :func:`dice` the volumes for that.

    Args:
        predicted: in any order of patients.
        truth: of the same slices.
        patients: whose each slice is.

    Returns:
        By patient, sorted.
    """
    names, whose = np.unique(np.asarray(patients), return_inverse=True)
    assert len(whose) == len(truth), f"{len(whose)} patients' names for {len(truth)} slices"
    shared, sizes = _counts(predicted, truth)
    total_shared, total_sizes = np.zeros((2, len(names)), dtype=np.int64)
    np.add.at(total_shared, whose, shared)
    np.add.at(total_sizes, whose, sizes)
    values = coefficient(total_shared, total_sizes)
    return {str(name): float(value) for name, value in zip(names, values, strict=True)}


def _counts(
    predicted: Bool[np.ndarray, "row ..."], truth: Bool[np.ndarray, "row ..."]
) -> tuple[Int[np.ndarray, " row"], Int[np.ndarray, " row"]]:
    """|A ∩ B| and |A| + |B| per row."""
    grid = tuple(range(1, truth.ndim))
    sizes = predicted.sum(axis=grid, dtype=np.int64) + truth.sum(axis=grid, dtype=np.int64)
    return (predicted & truth).sum(axis=grid, dtype=np.int64), sizes


def coefficient(
    shared: Int[np.ndarray, " row"], sizes: Int[np.ndarray, " row"]
) -> Float[np.ndarray, " row"]:
    """Of |A ∩ B| and |A| + |B|, in [0, 1]."""
    both_empty = np.ones(len(sizes))
    value: np.ndarray = np.divide(2 * shared, sizes, out=both_empty, where=sizes > 0)
    return value
