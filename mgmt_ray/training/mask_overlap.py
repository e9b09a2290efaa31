"""The overlap of a predicted with a true tumour mask: pixels and the Dice coefficient.

Dice is 1 where both masks are empty, since that prediction is right, and 0 where only one is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """Number of pixels [row] per slice, or of voxels if a row is a volume.

    Attributes:
        shared: in both masks.
        predicted: in the predicted mask.
        tumour: in the true mask.
    """

    shared: np.ndarray
    predicted: np.ndarray
    tumour: np.ndarray

    def select(self, rows: np.ndarray) -> Overlap:
        """Return the given rows."""
        return Overlap(self.shared[rows], self.predicted[rows], self.tumour[rows])

    @property
    def dice(self) -> Float[np.ndarray, " row"]:
        """2·|A ∩ B| / (|A| + |B|), in [0, 1]."""
        sizes = (self.predicted + self.tumour).astype(np.int64)
        both_empty = np.ones(len(sizes))
        shared = self.shared.astype(np.int64)
        value: np.ndarray = np.divide(2 * shared, sizes, out=both_empty, where=sizes > 0)
        return value

    @property
    def columns(self) -> dict[str, list[float]]:
        """Pixels and Dice by column name of the tables of slices."""
        pixels = {
            "shared_pixels": self.shared,
            "predicted_pixels": self.predicted,
            "tumour_pixels": self.tumour,
        }
        return {
            name: v.astype(float).tolist() for name, v in (pixels | {"dice": self.dice}).items()
        }


def join_overlaps(overlaps: Sequence[Overlap]) -> Overlap:
    """Concatenate the rows of several."""
    names = ("shared", "predicted", "tumour")
    return Overlap(*(np.concatenate([getattr(o, name) for o in overlaps]) for name in names))


def count_overlap(
    predicted: Bool[np.ndarray, "row ..."], truth: Bool[np.ndarray, "row ..."]
) -> Overlap:
    """Count the pixels of each row separately.

    >>> predicted = np.array([[True, True, False], [False, False, False]])
    >>> truth = np.array([[True, False, False], [False, False, False]])
    >>> overlap = count_overlap(predicted, truth)
    >>> overlap.shared.tolist(), overlap.predicted.tolist(), overlap.tumour.tolist()
    ([1, 0], [2, 0], [1, 0])
    >>> overlap.dice.round(3).tolist()
    [0.667, 1.0]
    """
    grid = tuple(range(1, truth.ndim))
    masks = (predicted & truth, predicted, truth)
    return Overlap(*(mask.sum(axis=grid, dtype=np.int64) for mask in masks))


def dice(predicted: Bool[np.ndarray, "*grid"], truth: Bool[np.ndarray, "*grid"]) -> float:
    """Return the Dice coefficient of all pixels together, in [0, 1]; of volumes the 3-D Dice.

    >>> round(dice(np.array([[True, True], [False, False]]), np.array([[True, False]] * 2)), 3)
    0.5
    """
    return float(count_overlap(predicted[None], truth[None]).dice[0])
