"""From the position of each slice to the order of all, and the affine of their volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import Float64

from mgmt_ray.base import quantity
from mgmt_ray.cohort.dicom.headers import tag_numbers
from mgmt_ray.cohort.problem import DOWNLOAD_AGAIN, BadScan

POSITION_TOLERANCE = 0.1
"""As a fraction of the slice distance; positions are rounded in their tags, and a missing slice
moves its neighbours by about half the distance."""

SAME_POSITION_MM = 0.01
DIRECTION_TOLERANCE = 0.02
"""Of lengths and cosines: tags of two digits are accepted."""

SPACING_TOLERANCE = 1e-3
"""Of pixels, as a fraction."""

ONE_PER_SLICE = "Keep one file per slice in the folder"
ONE_SERIES = "Keep one series in the folder"
EXPORT_AGAIN = "Export the series again from the archive, with all its tags"
RESAMPLE = "Resample it to even slices"

KEYWORDS = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
"""Tags that place a slice, and the number of their values."""


@dataclass(frozen=True, slots=True)
class SlicePlane:
    """Where a slice lies; each attribute is None where its tag is missing or is not numbers.

    Attributes:
        position: of the first pixel in mm, towards left, posterior, superior.
        directions: unit vectors along a row, and along a column.
        spacing: distance in mm between rows, and between columns.
    """

    position: Sequence[float] | None
    directions: Sequence[float] | None
    spacing: Sequence[float] | None

    @classmethod
    def of(
        cls, position: pydicom.Dataset, orientation: pydicom.Dataset, pixels: pydicom.Dataset
    ) -> SlicePlane:
        """Read the plane from the data sets that hold its three tags."""
        holders = (position, orientation, pixels)
        tags = zip(holders, KEYWORDS.items(), strict=True)
        return cls(*(tag_numbers(holder, *keyword) for holder, keyword in tags))


def stack_slices(
    folder: Path, planes: Sequence[SlicePlane], unit: str
) -> tuple[list[int], Float64[np.ndarray, "4 4"]]:
    """Return the order of slices along their normal, and the affine of the volume.

    Args:
        folder: of the series, for messages.
        planes: of all slices, in any order.
        unit: what slices are called in messages: files or frames.

    Returns:
        Indices of the planes, and the affine from (column, row, slice) to mm towards right,
        anterior, superior.

    Raises:
        BadScan: slices without place, of different directions or spacing, missing, duplicated,
            unevenly spaced, or shifted against one another.
    """
    if len(planes) == 1:
        found = "is a single slice, not a volume"
        raise BadScan(folder, "not_3d", found, "Give the whole series")
    positions, directions, spacings = _arrays(folder, planes)
    row, column = directions[0].reshape(2, 3)
    column = column / np.linalg.norm(column)
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    row = np.cross(column, normal)  # rounded in its tag; perpendicular, as ITK has it
    order = np.argsort(positions @ normal, kind="stable")
    ordered = positions[order]
    _check_positions(folder, ordered, normal, unit)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * spacings[0, 1], column * spacings[0, 0]
    affine[:3, 2] = normal * np.linalg.norm(ordered[-1] - ordered[0]) / (len(planes) - 1)
    affine[:3, 3] = ordered[0]
    return order.tolist(), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _arrays(
    folder: Path, planes: Sequence[SlicePlane]
) -> tuple[Float64[np.ndarray, "n 3"], Float64[np.ndarray, "n 6"], Float64[np.ndarray, "n 2"]]:
    """Return positions, directions and spacings; raise BadScan where they cannot be of a volume."""
    values = zip(*((p.position, p.directions, p.spacing) for p in planes), strict=True)
    arrays = []
    for keyword, tags in zip(KEYWORDS, values, strict=True):
        array = np.array([tag for tag in tags if tag is not None], dtype=np.float64)
        if len(array) < len(planes) or not np.isfinite(array).all():
            name = {"ImagePositionPatient": "position", "PixelSpacing": "pixel spacing"}
            found = f"has slices without a {name.get(keyword, 'direction')} ({keyword})"
            raise BadScan(folder, "damaged", found, EXPORT_AGAIN)
        arrays.append(array)
    positions, directions, spacings = arrays
    if np.ptp(directions, axis=0).max() > POSITION_TOLERANCE:
        raise BadScan(folder, "wrong_format", "has slices of different directions", ONE_SERIES)
    axes = directions[0].reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() > DIRECTION_TOLERANCE:
        found = "its rows and columns are not perpendicular unit vectors (ImageOrientationPatient)"
        raise BadScan(folder, "damaged", found, EXPORT_AGAIN)
    if spacings.min() <= 0:
        found = "has a pixel spacing that is not above 0 (PixelSpacing)"
        raise BadScan(folder, "damaged", found, EXPORT_AGAIN)
    if (np.ptp(spacings, axis=0) > SPACING_TOLERANCE * spacings[0]).any():
        different = sorted({f"{height:g}×{width:g}" for height, width in spacings})
        found = f"has slices of different pixel spacing ({', '.join(different[:3])} mm)"
        raise BadScan(folder, "wrong_format", found, ONE_SERIES)
    return positions, directions, spacings


def _check_positions(
    folder: Path,
    ordered: Float64[np.ndarray, "n 3"],
    normal: Float64[np.ndarray, "3"],
    unit: str,
) -> None:
    """Check that positions, in order, are those of even slices without a shift."""
    gaps_mm = np.linalg.norm(np.diff(ordered, axis=0), axis=1)
    num_duplicates = int(np.sum(gaps_mm < SAME_POSITION_MM))
    if num_duplicates:
        found = (
            f"has several slices at one position ({num_duplicates} of its {len(ordered)} {unit})"
        )
        raise BadScan(folder, "not_3d", found, ONE_PER_SLICE)
    gap_mm = float(np.median(gaps_mm))
    steps = np.arange(len(ordered))[:, None]
    mean_step = (ordered[-1] - ordered[0]) / (len(ordered) - 1)
    mean_mm = np.linalg.norm(mean_step)
    if _farthest(ordered, steps * normal * mean_mm) <= POSITION_TOLERANCE * gap_mm:
        return
    num_missing = int(np.sum(np.round(gaps_mm / gap_mm) - 1))
    if num_missing > 0:
        missing = quantity(num_missing, "slice")
        found = f"there is a gap of {missing} between its {len(ordered)} {unit}"
        raise BadScan(folder, "truncated", found, DOWNLOAD_AGAIN)
    if _farthest(ordered, steps * mean_step) <= POSITION_TOLERANCE * gap_mm:
        shift_mm = np.linalg.norm(mean_step - normal * (mean_step @ normal))
        found = f"each slice is shifted sideways against the one before (by {shift_mm:.3g} mm)"
        remedy = "Resample it to a rectangular grid"
        raise BadScan(folder, "wrong_format", found, remedy)
    found = f"its slices are not evenly spaced ({gaps_mm.min():g} to {gaps_mm.max():g} mm)"
    raise BadScan(folder, "wrong_format", found, RESAMPLE)


def _farthest(positions: Float64[np.ndarray, "n 3"], offsets: Float64[np.ndarray, "n 3"]) -> float:
    """Return the largest distance in mm of a position from its offset to the first one."""
    return float(np.linalg.norm(positions - positions[0] - offsets, axis=1).max())
