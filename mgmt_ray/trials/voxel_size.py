"""Voxel sizes that a segmentation was trained on; at others it would misjudge tumour sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mgmt_ray.preprocess.slice_geometry import Frame

MIN_RATIO, MAX_RATIO = 0.8, 1.25
"""Allowed ratio of a voxel's side to the smallest and to the largest side in training."""


def in_plane_range(frames: Iterable[Frame]) -> dict[str, list[float]]:
    """Return the entry of ``trial.json`` on the voxels of the training scans.

    Returns:
        ``in_plane_mm``: smallest and largest height or width of a voxel, in mm.

    >>> in_plane_range([Frame((20, 64, 64), top=0, left=0, shrink=2, spacing_mm=(5.0, 2.0, 1.8))])
    {'in_plane_mm': [0.9, 1.0]}
    """
    sides = [side for frame in frames for side in frame.scan_spacing_mm[1:]]
    return {"in_plane_mm": [min(sides), max(sides)]}


def voxel_size_problem(frame: Frame, metadata: Mapping[str, Any]) -> str:
    """Say how a scan's voxels differ from those in training and what to do; empty if they do not.

    Args:
        frame: of the scan's slices.
        metadata: ``trial.json`` of the segmentation that would predict the scan's tumour.

    >>> frame = Frame((20, 64, 64), top=0, left=0, shrink=1, spacing_mm=(5.0, 0.5, 0.5))
    >>> voxel_size_problem(frame, {"in_plane_mm": [0.5, 1.0]})
    ''
    >>> voxel_size_problem(frame, {"in_plane_mm": [0.9, 1.0]})[:37]
    'its voxels are 0.5×0.5 mm in plane, a'
    """
    smallest, largest = metadata["in_plane_mm"]
    height, width = frame.scan_spacing_mm[1:]
    if all(MIN_RATIO * smallest <= side <= MAX_RATIO * largest for side in (height, width)):
        return ""
    trained = f"{smallest:.3g}" if smallest == largest else f"{smallest:.3g} to {largest:.3g}"
    return (
        f"its voxels are {height:.3g}×{width:.3g} mm in plane, and the segmentations were trained "
        f"on {trained} mm. Resample it to {trained} mm"
    )
