"""Spatial operations of the recipe: crop, resample, shrink and pad.

Arrays are [depth, height, width] as SimpleITK gives them. The background is exactly 0 and a boolean
mask says what is tumour, because a tumour voxel may be 0 too.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """Format a window for messages.

    >>> describe_window(((0, 140), (39, 211), (44, 208)))
    '0:140, 39:211, 44:208'
    """
    return ", ".join(f"{start}:{stop}" for start, stop in window)


def whole_window(shape: Sequence[int]) -> Window:
    """Return the window that holds a whole scan of [depth, height, width].

    >>> whole_window((24, 32, 28))
    ((0, 24), (0, 32), (0, 28))
    """
    depth, height, width = shape
    return (0, depth), (0, height), (0, width)


def bounding_box(mask: Bool[np.ndarray, "depth height width"]) -> Window | None:
    """Return the smallest box that holds the whole mask; None for an empty mask.

    >>> mask = np.zeros((5, 6, 7), bool)
    >>> mask[1:3, 2, 4:7] = True
    >>> bounding_box(mask)
    ((1, 3), (2, 3), (4, 7))
    """
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    if not boxes:
        return None
    depth, height, width = ((side.start, side.stop) for side in boxes[0])
    return depth, height, width


def crop(
    volume: Shaped[np.ndarray, "depth height width"], window: Window
) -> Shaped[np.ndarray, "rows columns layers"]:
    """Return the part of a volume inside a window, as a view."""
    return volume[tuple(slice(start, stop) for start, stop in window)]


def resample(scan: Scan, grid: Grid, window: Window) -> Shaped[np.ndarray, "rows columns layers"]:
    """Interpolate a scan linearly at the voxels of another grid; 0 where it does not reach.

    A scan that is on that grid already is not changed.

    Args:
        scan: on its own grid, in the same physical space.
        grid: of the result.
        window: the part of ``grid`` to compute.

    >>> scan = Scan(np.arange(8, dtype=np.float32).reshape(1, 2, 4), Grid((1, 2, 4), np.eye(4)))
    >>> coarse = Grid((1, 2, 2), np.diag([1.0, 1.0, 2.0, 1.0]))
    >>> resample(scan, coarse, whole_window(coarse.shape)).tolist()
    [[[0.0, 2.0], [4.0, 6.0]]]
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


def count_outside(scan_grid: Grid, grid: Grid, mask: Bool[np.ndarray, "depth height width"]) -> int:
    """Count the voxels of a mask on ``grid`` that lie outside the scan."""
    onto_scan = np.linalg.inv(scan_grid.affine) @ grid.affine
    return int(np.count_nonzero(~_is_within_scan(scan_grid, onto_scan, np.nonzero(mask))))


def _is_within_scan(
    scan_grid: Grid, onto_scan: Float64[np.ndarray, "4 4"], indices: tuple[np.ndarray, ...]
) -> Bool[np.ndarray, "*voxel"]:
    """Return whether voxels, given by their indices on another grid, lie in the scan."""
    reached = np.array(True)
    for row, size in zip(onto_scan, scan_grid.shape, strict=False):
        along_axis = sum((f * index for f, index in zip(row[:3], indices, strict=True)), row[3])
        reached = reached & (along_axis >= -0.5) & (along_axis <= size - 0.5)
    return reached


def smallest_window(
    boxes: Sequence[Window], grid: Sequence[int], shrink: int
) -> tuple[Window, tuple[int, int, int]] | None:
    """Return the smallest window that holds all boxes, and its shape after shrinking.

    Args:
        boxes: of tumours, at least one.
        grid: depth, height, width of the smallest of their masks along each axis.
        shrink: the window's extents are multiples of it.

    Returns:
        None if such a window would reach beyond the grid.

    >>> smallest_window([((1, 4), (5, 9), (2, 3)), ((2, 6), (5, 8), (7, 8))], (6, 12, 8), 2)
    (((0, 6), (5, 9), (2, 8)), (3, 2, 3))
    """
    sides: list[tuple[int, int]] = []
    for axis, size in enumerate(grid):
        low, high = min(box[axis][0] for box in boxes), max(box[axis][1] for box in boxes)
        extent = -(-(high - low) // shrink) * shrink
        start = min(low, size - extent)
        if start < 0:
            return None
        sides.append((start, start + extent))
    window = (sides[0], sides[1], sides[2])
    depth, height, width = ((stop - start) // shrink for start, stop in window)
    return window, (depth, height, width)


def count_clipped(mask: Bool[np.ndarray, "depth height width"], window: Window) -> int:
    """Count the tumour voxels that lie outside the window."""
    return int(np.count_nonzero(mask)) - int(np.count_nonzero(crop(mask, window)))


def check_window(
    mask: Bool[np.ndarray, "depth height width"],
    window: Window,
    *,
    allow_clipping: bool,
    path: Path,
) -> int:
    """Check that a window contains a tumour, or a part of it if clipping is allowed.

    Returns:
        The number of tumour voxels outside the window.

    Raises:
        BadScan: the window reaches beyond the scan, the mask is empty, or the tumour is clipped.
    """
    if any(stop > size for (_, stop), size in zip(window, mask.shape, strict=True)):
        raise BadScan(
            path,
            "small_scan",
            f"the window {describe_window(window)} reaches beyond the scan of "
            f"{format_extents(mask.shape)} voxels (depth × height × width)",
            "Resample or pad it to the size of the study's scans",
            "fit recipe.window to the cohort's scans",
        )
    box = bounding_box(mask)
    if box is None:
        raise BadScan(path, "empty_mask", "the mask marks no tumour", VIEW_SCAN)
    clipped, total = count_clipped(mask, window), int(np.count_nonzero(mask))
    if clipped == total or (clipped and not allow_clipping):
        accept = ", or set recipe.allow_clipping: true" if clipped < total else ""
        raise BadScan(
            path,
            "clipped",
            f"has {clipped} of its {total} tumour voxels outside the window "
            f"{describe_window(window)} (the tumour spans {describe_window(box)})",
            VIEW_SCAN,
            f"widen recipe.window (and recipe.shape){accept}",
        )
    return clipped


def tumour_window(box: Window, window: Window, shrink: int) -> Window:
    """Return the tumour's box within the window, enlarged to whole blocks of the window.

    Args:
        box: of the tumour, in voxels of the scan; a part of it lies in the window.
        window: what the recipe keeps; its extents are multiples of ``shrink``.
        shrink: voxels per block along each axis.

    Returns:
        A window in voxels of the scan whose borders fall on blocks.

    >>> tumour_window(((3, 6), (1, 4), (5, 7)), ((1, 9), (0, 8), (0, 8)), 2)
    ((3, 7), (0, 4), (4, 8))
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
    """Shrink a mask: a voxel is tumour if any voxel of its block is, so no tumour is lost.

    >>> shrink_mask(np.eye(4, dtype=bool)[None].repeat(2, axis=0), 2).tolist()
    [[[True, False], [False, True]]]
    """
    return np.logical_or.reduce(_blocks(mask, shrink), axis=(1, 3, 5))


def shrink_volume(
    volume: Shaped[np.ndarray, "depth height width"],
    mask: Bool[np.ndarray, "depth height width"],
    shrink: int,
) -> Float32[np.ndarray, "rows columns layers"]:
    """Average blocks of ``shrink`` voxels per axis over their tumour voxels only.

    An average over whole blocks would mix background into the tumour's rim, as the reference code
    of Schmitz et al. 2024 does. Each extent is a multiple of ``shrink``; 1 only masks.

    Returns:
        The mean over each block's tumour voxels; exactly 0 where a block has none.

    >>> volume = np.array([[[4.0, 8.0], [100.0, 100.0]]] * 2)
    >>> shrink_volume(volume, volume < 10, 2).tolist()
    [[[6.0]]]
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
    """Put a part at a position of an otherwise empty (0 or False) volume.

    >>> paste(np.ones((1, 1, 2)), (0, 1, 0), (1, 2, 3)).tolist()
    [[[0.0, 0.0, 0.0], [1.0, 1.0, 0.0]]]
    """
    volume = np.zeros(shape, part.dtype)
    volume[tuple(slice(a, a + n) for a, n in zip(at, part.shape, strict=True))] = part
    return volume


def padding_before(size: tuple[int, int, int], shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the empty voxels before a centred volume; an odd one goes behind.

    >>> padding_before((70, 86, 81), (70, 88, 86))
    (0, 1, 2)
    """
    depth, height, width = ((want - have) // 2 for have, want in zip(size, shape, strict=True))
    return depth, height, width


def _blocks(
    volume: Shaped[np.ndarray, "depth height width"], shrink: int
) -> Shaped[np.ndarray, "rows a columns b layers c"]:
    depth, height, width = (n // shrink for n in volume.shape)
    return volume.reshape(depth, shrink, height, shrink, width, shrink)
