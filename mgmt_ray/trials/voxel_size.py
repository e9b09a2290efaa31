"""Voxels that a segmentation knows: in others tumours have another size than it has learnt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mgmt_ray.preprocess.slice_geometry import Frame
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.held_out_set import HeldOutSet
from mgmt_ray.study.trial import Trial

MIN_RATIO, MAX_RATIO = 0.8, 1.25
"""How much smaller or larger voxels may be than the smallest or largest that trained."""


def in_plane_range(frames: Iterable[Frame]) -> dict[str, list[float]]:
    """What ``trial.json`` says of the scans that trained.

    Returns:
        ``in_plane_mm``: smallest and largest height or width of a voxel, in mm.
    """
    sides = [side for frame in frames for side in frame.scan_spacing_mm[1:]]
    return {"in_plane_mm": [min(sides), max(sides)]}


def voxel_size_problem(frame: Frame, metadata: Mapping[str, Any]) -> str:
    """What is wrong with a scan's voxels, and what to do; empty where they are like those known.

    Args:
        frame: of the scan's slices.
        metadata: ``trial.json`` of the segmentation that would find its tumour.
    """
    smallest, largest = metadata["in_plane_mm"]
    height, width = frame.scan_spacing_mm[1:]
    if all(MIN_RATIO * smallest <= side <= MAX_RATIO * largest for side in (height, width)):
        return ""
    known = f"{smallest:.3g}" if smallest == largest else f"{smallest:.3g} to {largest:.3g}"
    return (
        f"its voxels are {height:.3g}×{width:.3g} mm in plane, and the segmentations were trained "
        f"on {known} mm. Resample it to {known} mm"
    )


def voxel_size_problems(
    tasks: Sequence[tuple[Trial, HeldOutSet]], folder: StudyFolder
) -> dict[str, str]:
    """What is wrong with scans whose tumour members of slices would have to find themselves.

    Args:
        tasks: members, and whom each predicts; slices are prepared, and only their index is read.
        folder: of the members' study.

    Returns:
        By subject, as :func:`voxel_size_problem` says it, with the modality; nobody else is there.
    """
    found: dict[str, str] = {}
    for trial, held_out in (task for task in tasks if task[0].takes_slices):
        metadata = folder.read_trial(trial.needs[0].id)
        rows = SliceStore(held_out.folder.slices, trial.channels[0]).rows
        for subject in held_out.label:
            told = voxel_size_problem(rows[subject].frame, metadata)
            if told:
                found.setdefault(subject, f"{trial.modality}: {told}")
    return found
