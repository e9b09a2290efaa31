"""How far predicted outlines of tumour lie from true ones, in mm."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from scipy.ndimage import binary_erosion, distance_transform_edt

PERCENTILE = 95


def hd95(
    predicted: Bool[np.ndarray, "*grid"],
    truth: Bool[np.ndarray, "*grid"],
    spacing_mm: tuple[float, ...],
) -> float:
    """95th percentile of the Hausdorff distance: the larger of the two directed percentiles.

    The surface is the mask's pixels with a face on the outside or on the grid's border, distances
    are between pixels' centres, as in ``monai.metrics``. Where both masks are empty it is 0. Where
    one is, it is the grid's diagonal, the largest distance there could be, as in BraTS (373.13 mm
    for its 240 × 240 × 155).

    Args:
        predicted: of a slice or a volume.
        truth: of the same.
        spacing_mm: distance between pixels along each axis.
    """
    assert len(spacing_mm) == truth.ndim, f"{len(spacing_mm)} spacings for {truth.ndim} axes"
    if not predicted.any() and not truth.any():
        return 0.0
    if not predicted.any() or not truth.any():
        return float(np.linalg.norm(np.multiply(truth.shape, spacing_mm)))
    box = _box(predicted | truth)
    surfaces = [mask[box] & ~binary_erosion(mask[box]) for mask in (predicted, truth)]
    away = [distance_transform_edt(~surface, sampling=spacing_mm) for surface in surfaces]
    directed = (away[1][surfaces[0]], away[0][surfaces[1]])
    return float(max(np.percentile(distances, PERCENTILE) for distances in directed))


def _box(mask: Bool[np.ndarray, "*grid"]) -> tuple[slice, ...]:
    """The smallest box around a mask, which holds every nearest surface."""
    return tuple(slice(where.min(), where.max() + 1) for where in np.nonzero(mask))
