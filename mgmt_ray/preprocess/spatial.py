"""From a full-size scan to the tumour on the network's grid: crop, shrink, pad.

Arrays are [depth, height, width] as SimpleITK gives them. The background is exactly 0 and a boolean
mask says what is tumour, because a tumour voxel may be 0 too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Float64, Shaped
from scipy import ndimage

from mgmt_ray.cohort.problem import VIEW_SCAN, BadScan
from mgmt_ray.cohort.scan import Grid, Scan, format_extents

Window: TypeAlias = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""(start, stop) in voxels along depth, height and width; the stop is not included."""


def describe_window(window: Window) -> str:
    """A window as ``0:140, 39:211, 44:208``."""
    return ", ".join(f"{start}:{stop}" for start, stop in window)


def bounding_box(mask: Bool[np.ndarray, "depth height width"]) -> Window | None:
    """The smallest box that holds the whole mask; None for an empty mask."""
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        if filled.size == 0:
            return None
        box.append((int(filled[0]), int(filled[-1]) + 1))
    return box[0], box[1], box[2]


def crop(
    volume: Shaped[np.ndarray, "depth height width"], window: Window
) -> Shaped[np.ndarray, "rows columns layers"]:
    """The part of a volume inside a window, as a view."""
    return volume[tuple(slice(start, stop) for start, stop in window)]


def resample(scan: Scan, grid: Grid, window: Window) -> Shaped[np.ndarray, "rows columns layers"]:
    """A scan at the places of another grid, interpolated linearly; 0 where it does not reach.

    A scan that is on that grid already is not changed.

    Args:
        scan: on a grid of its own, in the same physical space.
        grid: whose voxels are wanted.
        window: the wanted part of ``grid``.
    """
    if not scan.grid.difference(grid):
        return crop(scan.voxels, window)
    shift = np.eye(4)
    shift[:3, 3] = [start for start, _ in window]
    onto_scan = np.linalg.inv(scan.grid.affine) @ grid.affine @ shift
    shape = tuple(stop - start for start, stop in window)
    values = ndimage.affine_transform(
        scan.voxels, onto_scan, output_shape=shape, output=np.float32, order=1, mode="nearest"
    )
    indices = np.ogrid[tuple(slice(size) for size in shape)]
    values[~_is_within_scan(scan.grid, onto_scan, indices)] = 0
    return values


def count_outside(of_scan: Grid, grid: Grid, mask: Bool[np.ndarray, "depth height width"]) -> int:
    """How many voxels of a mask on ``grid`` lie where a scan does not reach."""
    onto_scan = np.linalg.inv(of_scan.affine) @ grid.affine
    return int(np.count_nonzero(~_is_within_scan(of_scan, onto_scan, np.nonzero(mask))))


def _is_within_scan(
    of_scan: Grid, onto_scan: Float64[np.ndarray, "4 4"], indices: tuple[np.ndarray, ...]
) -> Bool[np.ndarray, "*place"]:
    """Whether places given by their depth, height and width lie in a voxel of the scan."""
    reached = np.array(True)
    for row, size in zip(onto_scan, of_scan.shape, strict=False):
        along_axis = sum((f * index for f, index in zip(row[:3], indices, strict=True)), row[3])
        reached = reached & (along_axis >= -0.5) & (along_axis <= size - 0.5)
    return reached


def count_clipped(mask: Bool[np.ndarray, "depth height width"], window: Window) -> int:
    """How many tumour voxels lie outside the window."""
    return int(np.count_nonzero(mask)) - int(np.count_nonzero(crop(mask, window)))


def check_window(
    mask: Bool[np.ndarray, "depth height width"],
    window: Window,
    *,
    allow_clipping: bool,
    path: Path,
) -> int:
    """Make sure that a window keeps a tumour.

    Args:
        mask: the tumour.
        window: what the recipe keeps.
        allow_clipping: whether a part of the tumour may lie outside.
        path: the mask's file, for the message.

    Returns:
        How many tumour voxels lie outside.

    Raises:
        BadScan: the window reaches beyond the scan, the mask is empty, or the tumour is clipped.
    """
    if any(stop > size for (_, stop), size in zip(window, mask.shape, strict=True)):
        raise BadScan(
            path,
            "small_scan",
            f"the window {describe_window(window)} reaches beyond the scan of "
            f"{format_extents(mask.shape)} "
            "voxels (depth × height × width)",
            "Fit recipe.window to the cohort's scans",
        )
    box = bounding_box(mask)
    if box is None:
        raise BadScan(path, "empty_mask", "the mask marks no tumour", VIEW_SCAN)
    clipped, total = count_clipped(mask, window), int(np.count_nonzero(mask))
    if clipped == total or (clipped and not allow_clipping):
        accept = "set recipe.allow_clipping: true, " if clipped < total else ""
        raise BadScan(
            path,
            "clipped",
            f"{clipped} of its {total} tumour voxels lie outside the window "
            f"{describe_window(window)} (the tumour spans {describe_window(box)})",
            f"Widen recipe.window (and recipe.shape), {accept}or leave the subject out with "
            "cohort.exclude",
        )
    return clipped


def tumour_window(box: Window, window: Window, shrink: int) -> Window:
    """The part of the window worth reading: the tumour's box, grown to whole blocks of the window.

    Args:
        box: where the tumour is, in voxels of the scan; a part of it lies in the window.
        window: what the recipe keeps; its extents are multiples of ``shrink``.
        shrink: voxels per block along each axis.

    Returns:
        A window in voxels of the scan whose borders fall on blocks.
    """
    part = []
    for (low, high), (start, stop) in zip(box, window, strict=True):
        low, high = max(low, start), min(high, stop)
        first_block = (low - start) // shrink
        last_block = -(-(high - start) // shrink)
        part.append((start + first_block * shrink, start + last_block * shrink))
    return part[0], part[1], part[2]


def shrink_mask(
    mask: Bool[np.ndarray, "depth height width"], shrink: int
) -> Bool[np.ndarray, "rows columns layers"]:
    """A coarse voxel is tumour if any voxel of its block is: no tumour is lost by shrinking."""
    return np.logical_or.reduce(_blocks(mask, shrink), axis=(1, 3, 5))


def shrink_volume(
    volume: Shaped[np.ndarray, "depth height width"],
    mask: Bool[np.ndarray, "depth height width"],
    shrink: int,
) -> Float32[np.ndarray, "rows columns layers"]:
    """Average blocks of ``shrink`` voxels per axis over their tumour voxels only.

    An average over whole blocks would darken the tumour's rim with background, the halo of the
    reference code.

    Args:
        volume: intensities; each extent a multiple of ``shrink``.
        mask: the tumour.
        shrink: voxels per block along each axis; 1 only masks.

    Returns:
        The mean over each block's tumour voxels; exactly 0 where a block has none.
    """
    inside = _blocks(mask, shrink)
    values = np.where(inside, _blocks(volume, shrink), 0)
    # float64: the sum must not depend on the order in which NumPy adds a block's voxels
    total = values.sum(axis=(1, 3, 5), dtype=np.float64)
    count = inside.sum(axis=(1, 3, 5))
    return (total / np.maximum(count, 1)).astype(np.float32)


def paste(
    part: Shaped[np.ndarray, "rows columns layers"],
    at: tuple[int, int, int],
    shape: tuple[int, int, int],
) -> Shaped[np.ndarray, "depth height width"]:
    """Put a part at a position of an otherwise empty (0 or False) volume."""
    volume = np.zeros(shape, part.dtype)
    volume[tuple(slice(a, a + n) for a, n in zip(at, part.shape, strict=True))] = part
    return volume


def padding_before(size: tuple[int, int, int], shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Empty voxels before a centred volume; an odd one goes behind (82 to 86: 2 and 2)."""
    depth, height, width = ((want - have) // 2 for have, want in zip(size, shape, strict=True))
    return depth, height, width


def _blocks(
    volume: Shaped[np.ndarray, "depth height width"], shrink: int
) -> Shaped[np.ndarray, "rows a columns b layers c"]:
    depth, height, width = (n // shrink for n in volume.shape)
    return volume.reshape(depth, shrink, height, shrink, width, shrink)
