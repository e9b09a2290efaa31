"""What is shown of a scan: its slice with the most tumour, and its values there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, Shaped, UInt8

from mgmt_ray.cohort.problem import VIEW_SCAN, BadScan

PICTURE = 96
"""Pixels along each side of a picture."""

BINS = 48


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What is shown of one scan.

    Attributes:
        modality: of the scan.
        picture: the axial slice with the most tumour, black to white from the 1st to the 99th
            percentile of its voxels that are not 0; the slice is fitted into the square.
        tumour: the mask there.
        slice_number: counted from the feet, of the scan.
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
    """Draw a scan and count its values in the tumour.

    Args:
        modality: of the scan.
        path: of its file.
        voxels: its values.
        tumour: the mask on the same grid.

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
    shown = plane[plane != 0]
    black, white = np.percentile(shown, (1, 99)) if shown.size else (0.0, 1.0)
    grey = np.clip((plane - black) / max(white - black, np.finfo(np.float32).tiny), 0, 1)
    rows, columns = (_shown_voxels(size, max(plane.shape)) for size in plane.shape)
    inside_rows, inside_columns = rows >= 0, columns >= 0
    picture = np.zeros((PICTURE, PICTURE), np.uint8)
    outline = np.zeros((PICTURE, PICTURE), bool)
    here = np.ix_(inside_rows, inside_columns)
    there = np.ix_(rows[inside_rows], columns[inside_columns])
    picture[here] = np.round(255 * np.where(plane == 0, 0, grey)[there])
    outline[here] = tumour[number][there]
    return View(modality, picture, outline, number, low, high, counts)


def _shown_voxels(size: int, square: int) -> Int64[np.ndarray, " pixel"]:
    """For each pixel of a picture the voxel it shows along an axis; -1 beside the slice."""
    voxels = np.floor((np.arange(PICTURE) + 0.5) * square / PICTURE - (square - size) / 2)
    return np.where((voxels >= 0) & (voxels < size), voxels, -1).astype(np.int64)
