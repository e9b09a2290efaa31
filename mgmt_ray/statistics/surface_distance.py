"""How far predicted outlines of tumour lie from true ones, in mm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer
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


def hd95_per_slice(
    predicted: Bool[np.ndarray, "slice height width"],
    truth: Bool[np.ndarray, "slice height width"],
    spacing_mm: tuple[float, float],
) -> Float[np.ndarray, " slice"]:
    """:func:`hd95` of each slice by itself.

    Args:
        predicted: masks.
        truth: of the same slices.
        spacing_mm: along height and width.
    """
    pairs = zip(predicted, truth, strict=True)
    return np.array([hd95(mine, true, spacing_mm) for mine, true in pairs], dtype=np.float64)


def hd95_per_patient(
    predicted: Bool[np.ndarray, "slice height width"],
    truth: Bool[np.ndarray, "slice height width"],
    patients: Sequence[str],
    depths: Integer[np.ndarray, " slice"],
    spacing_mm: tuple[float, float, float],
) -> dict[str, float]:
    """:func:`hd95` of each patient's slices stacked to a volume, by patient, sorted.

    The volume reaches from a patient's first slice to the last; slices between them that are not
    given are empty in both.

    Args:
        predicted: masks, in any order.
        truth: of the same slices.
        patients: whose each slice is.
        depths: which slice of the patient each is.
        spacing_mm: along depth, height and width.
    """
    names = np.asarray(patients)
    return {
        str(name): hd95(
            stacked(predicted[names == name], depths[names == name]),
            stacked(truth[names == name], depths[names == name]),
            spacing_mm,
        )
        for name in np.unique(names)
    }


def stacked(
    slices: Bool[np.ndarray, "slice height width"], depths: Integer[np.ndarray, " slice"]
) -> Bool[np.ndarray, "depth height width"]:
    """A volume from the first of a patient's slices to the last, empty where there is none."""
    assert len(np.unique(depths)) == len(slices), "a patient has two slices at one depth"
    volume = np.zeros((depths.max() - depths.min() + 1, *slices.shape[1:]), dtype=bool)
    volume[depths - depths.min()] = slices
    return volume


def _box(mask: Bool[np.ndarray, "*grid"]) -> tuple[slice, ...]:
    """The smallest box around a mask, which holds every nearest surface."""
    return tuple(slice(where.min(), where.max() + 1) for where in np.nonzero(mask))
