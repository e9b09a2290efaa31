"""How well predicted tumour covers true tumour: the Dice coefficient of masks.

Where both masks are empty nothing was to be found and nothing was: 1. Where one is empty: 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """Pixels per slice; voxels where a row is a volume.

    Attributes:
        shared: predicted tumour that is tumour.
        predicted: predicted tumour.
        tumour: true tumour.
    """

    shared: np.ndarray
    predicted: np.ndarray
    tumour: np.ndarray

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
        """By name."""
        pixels = {
            "shared_pixels": self.shared,
            "predicted_pixels": self.predicted,
            "tumour_pixels": self.tumour,
        }
        return {
            name: v.astype(float).tolist() for name, v in (pixels | {"dice": self.dice}).items()
        }


def count_overlap(
    predicted: Bool[np.ndarray, "row ..."], truth: Bool[np.ndarray, "row ..."]
) -> Overlap:
    """Pixels of each slice by itself, and so its coefficient."""
    grid = tuple(range(1, truth.ndim))
    masks = (predicted & truth, predicted, truth)
    return Overlap(*(mask.sum(axis=grid, dtype=np.int64) for mask in masks))


def dice(predicted: Bool[np.ndarray, "*grid"], truth: Bool[np.ndarray, "*grid"]) -> float:
    """The coefficient of all pixels together; of two volumes the 3-D Dice.

    Args:
        predicted: of a slice, a volume, or any pixels that are counted together.
        truth: of the same.
    """
    return float(count_overlap(predicted[None], truth[None]).dice[0])
