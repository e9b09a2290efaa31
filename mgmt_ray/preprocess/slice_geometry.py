"""The position of slices in their scan: cutting them out, and pasting them back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Int64, Shaped

Spacing: TypeAlias = tuple[float, ...]
"""Millimetres between voxels along depth, height and width."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The position of slices in their scan.

    Attributes:
        scan_shape: depth, height, width of the mask's grid (of the scan's, without a mask).
        top: row of the scan where the slices begin; negative if they are padded.
        left: the same for columns.
        shrink: voxels of the scan along each edge of a slice's voxel.
        spacing_mm: distance between slices, and between a slice's voxels along height and width.
    """

    scan_shape: tuple[int, int, int]
    top: int
    left: int
    shrink: int
    spacing_mm: Spacing

    @property
    def scan_spacing_mm(self) -> tuple[float, float, float]:
        """Spacing of the scan's own voxels along depth, height and width."""
        depth, height, width = self.spacing_mm
        return depth, height / self.shrink, width / self.shrink


def by_modality(
    images: Shaped[np.ndarray, "slice *modality height width"],
) -> list[Shaped[np.ndarray, "slice height width"]]:
    """Return a view of the slices of each modality, which have no axis where there is one alone.

    >>> [len(by_modality(np.zeros((5, *modalities, 8, 8)))) for modalities in [(), (2,)]]
    [1, 2]
    """
    return [images] if images.ndim == 3 else [*np.moveaxis(images, 1, 0)]


def paste_onto_scan(
    values: Shaped[np.ndarray, "slice height width"],
    depths: Int64[np.ndarray, " slice"],
    frame: Frame,
) -> Shaped[np.ndarray, "depth rows columns"]:
    """Put slices (a predicted mask, for instance) back where they were cut from.

    On the scan's grid a slice's voxel fills its block, all else is 0.

    >>> frame = Frame((3, 4, 4), top=0, left=2, shrink=2, spacing_mm=(5.0, 2.0, 2.0))
    >>> mask = np.array([[[1, 0], [0, 0]]], np.uint8)
    >>> paste_onto_scan(mask, np.array([1]), frame)[1].tolist()
    [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    volume = np.zeros(frame.scan_shape, values.dtype)
    fine = values.repeat(frame.shrink, axis=1).repeat(frame.shrink, axis=2)
    rows, in_rows = overlap(frame.top, fine.shape[1], volume.shape[1])
    columns, in_columns = overlap(frame.left, fine.shape[2], volume.shape[2])
    volume[depths, rows, columns] = fine[:, in_rows, in_columns]
    return volume


def slice_window(
    volume: Shaped[np.ndarray, "depth rows columns"], frame: Frame, shape: tuple[int, int]
) -> Shaped[np.ndarray, "depth height width"]:
    """Cut from each axial plane what the slices cover, before shrinking; 0 beyond the scan."""
    height, width = (size * frame.shrink for size in shape)
    window = np.zeros((len(volume), height, width), volume.dtype)
    rows, in_rows = overlap(frame.top, height, volume.shape[1])
    columns, in_columns = overlap(frame.left, width, volume.shape[2])
    window[:, in_rows, in_columns] = volume[:, rows, columns]
    return window


def overlap(start: int, extent: int, size: int) -> tuple[slice, slice]:
    """Return the part of [start, start + extent) on an axis of ``size``, relative to both.

    >>> overlap(-2, 5, 10)
    (slice(0, 3, None), slice(2, 5, None))
    """
    low, high = min(max(start, 0), size), min(max(start + extent, 0), size)
    return slice(low, high), slice(low - start, high - start)


def sum_blocks(
    window: Shaped[np.ndarray, "depth rows columns"], shrink: int
) -> Shaped[np.ndarray, "depth height width"]:
    """Sum blocks of ``shrink`` × ``shrink`` voxels: booleans as int64, all else as float64."""
    depth, height, width = window.shape
    blocks = window.reshape(depth, height // shrink, shrink, width // shrink, shrink)
    dtype = np.int64 if window.dtype == bool else np.float64
    return blocks.sum(axis=(2, 4), dtype=dtype)
