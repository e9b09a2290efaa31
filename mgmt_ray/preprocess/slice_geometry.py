"""Where a scan's slices lie in it: the way there, and back onto the scan's grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Int64, Shaped

Spacing: TypeAlias = tuple[float, ...]
"""Millimetres between voxels along depth, height and width."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Where slices lie in their scan.

    Attributes:
        scan_shape: depth, height, width of the mask's grid (the scan's, where there is no mask).
        top: row of the scan where the slices begin; negative where they are padded.
        left: the same for columns.
        shrink: voxels of the scan along each edge of a slice's voxel.
        spacing_mm: between slices, and between a slice's voxels along height and width.
    """

    scan_shape: tuple[int, int, int]
    top: int
    left: int
    shrink: int
    spacing_mm: Spacing

    @property
    def scan_spacing_mm(self) -> tuple[float, float, float]:
        """Of the scan's own voxels."""
        depth, height, width = self.spacing_mm
        return depth, height / self.shrink, width / self.shrink


def onto_scan(
    values: Shaped[np.ndarray, "slice height width"],
    depths: Int64[np.ndarray, " slice"],
    frame: Frame,
) -> Shaped[np.ndarray, "depth rows columns"]:
    """Put slices (a predicted mask, say) back where they were cut from.

    Args:
        values: one per voxel of the slices.
        depths: of each slice in the scan.
        frame: where the slices lie.

    Returns:
        A volume on the scan's grid: a slice's voxel fills its block, all else is 0.
    """
    volume = np.zeros(frame.scan_shape, values.dtype)
    fine = values.repeat(frame.shrink, axis=1).repeat(frame.shrink, axis=2)
    rows, in_rows = _overlap(frame.top, fine.shape[1], volume.shape[1])
    columns, in_columns = _overlap(frame.left, fine.shape[2], volume.shape[2])
    volume[depths, rows, columns] = fine[:, in_rows, in_columns]
    return volume


def window_of(
    volume: Shaped[np.ndarray, "depth rows columns"], frame: Frame, shape: tuple[int, int]
) -> Shaped[np.ndarray, "depth height width"]:
    """What the slices cover of each axial plane, before shrinking; 0 beyond the scan."""
    height, width = (size * frame.shrink for size in shape)
    window = np.zeros((len(volume), height, width), volume.dtype)
    rows, in_rows = _overlap(frame.top, height, volume.shape[1])
    columns, in_columns = _overlap(frame.left, width, volume.shape[2])
    window[:, in_rows, in_columns] = volume[:, rows, columns]
    return window


def _overlap(start: int, extent: int, size: int) -> tuple[slice, slice]:
    """The part of an axis of ``size`` within [start, start + extent), as seen from either."""
    low, high = max(start, 0), min(start + extent, size)
    return slice(low, high), slice(low - start, high - start)


def sum_blocks(
    window: Shaped[np.ndarray, "depth rows columns"], shrink: int
) -> Shaped[np.ndarray, "depth height width"]:
    """Sums over blocks of ``shrink`` times ``shrink`` voxels: int64 of booleans, else float64."""
    depth, height, width = window.shape
    blocks = window.reshape(depth, height // shrink, shrink, width // shrink, shrink)
    kind = np.int64 if window.dtype == bool else np.float64
    return blocks.sum(axis=(2, 4), dtype=kind)
