"""Preview of a scan: its slice with the most tumour, and a histogram of its tumour voxels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, Shaped, UInt8

from mgmt_ray.cohort.problem import VIEW_SCAN, BadScan

PICTURE = 96
"""Pixels along each side of a picture."""

BINS = 48
"""Bins of a histogram."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Preview of one scan.

    Attributes:
        picture: the axial slice with the most tumour, black to white from the 1st to the 99th
            percentile of its voxels that are not 0; the slice is fitted into the square.
        tumour: the mask in that slice.
        slice_number: number of that slice in the scan, counted from the feet.
        low: smallest value in the tumour, in the scan's own unit.
        high: largest value in the tumour.
        counts: tumour voxels in equal bins from ``low`` to ``high``.
    """

    modality: str
    picture: UInt8[np.ndarray, "height width"]
    tumour: Bool[np.ndarray, "height width"]
    slice_number: int
    low: float
    high: float
    counts: Int64[np.ndarray, " bin"]


def view_scan(
    modality: str,
    path: Path,
    voxels: Shaped[np.ndarray, "depth height width"],
    tumour: Bool[np.ndarray, "depth height width"],
) -> View:
    """Make the preview of a scan; ``path`` is for messages.

    Raises:
        BadScan: every tumour voxel has the same value.
    """
    inside = voxels[tumour]
    low, high = float(inside.min()), float(inside.max())
    if low == high:
        found = f"every tumour voxel is {low:g}"
        raise BadScan(path, "constant", found, VIEW_SCAN)
    counts, _ = np.histogram(inside.astype(np.float64), bins=BINS, range=(low, high))
    number = int(np.argmax(tumour.sum(axis=(1, 2))))
    plane = voxels[number].astype(np.float32)
    valued = plane[plane != 0]
    black, white = np.percentile(valued, (1, 99)) if valued.size else (0.0, 1.0)
    grey = np.clip((plane - black) / max(white - black, np.finfo(np.float32).tiny), 0, 1)
    rows, columns = (_shown_voxels(size, max(plane.shape)) for size in plane.shape)
    inside_rows, inside_columns = rows >= 0, columns >= 0
    picture = np.zeros((PICTURE, PICTURE), np.uint8)
    mask = np.zeros((PICTURE, PICTURE), bool)
    pixels = np.ix_(inside_rows, inside_columns)
    shown_voxels = np.ix_(rows[inside_rows], columns[inside_columns])
    picture[pixels] = np.round(255 * np.where(plane == 0, 0, grey)[shown_voxels])
    mask[pixels] = tumour[number][shown_voxels]
    return View(modality, picture, mask, number, low, high, counts)


def _shown_voxels(size: int, square: int) -> Int64[np.ndarray, " pixel"]:
    """Return the voxel that each pixel shows along an axis; -1 outside the slice."""
    voxels = np.floor((np.arange(PICTURE) + 0.5) * square / PICTURE - (square - size) / 2)
    return np.where((voxels >= 0) & (voxels < size), voxels, -1).astype(np.int64)
