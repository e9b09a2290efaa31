"""Voxels that a segmentation knows: in others tumours have another size than it has learnt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mgmt_ray.preprocess.slice_geometry import Frame
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.held_out_set import Unseen
from mgmt_ray.study.trial import Trial

SMALLER, LARGER = 0.8, 1.25
"""How much smaller or larger voxels may be than the smallest or largest that trained."""


def in_plane_range(frames: Iterable[Frame]) -> dict[str, list[float]]:
    """What ``trial.json`` says of the scans that trained.

    Returns:
        ``in_plane_mm``: smallest and largest height or width of a voxel, in mm.
    """
    sides = [side for frame in frames for side in frame.scan_spacing_mm[1:]]
    return {"in_plane_mm": [min(sides), max(sides)]}


def unlike_trained(frame: Frame, facts: Mapping[str, Any]) -> str:
    """What is wrong with a scan's voxels, and what to do; empty where they are like those known.

    Args:
        frame: of the scan's slices.
        facts: ``trial.json`` of the segmentation that would find its tumour.
    """
    smallest, largest = facts["in_plane_mm"]
    height, width = frame.scan_spacing_mm[1:]
    if all(SMALLER * smallest <= side <= LARGER * largest for side in (height, width)):
        return ""
    known = f"{smallest:.3g}" if smallest == largest else f"{smallest:.3g} to {largest:.3g}"
    return (
        f"its voxels are {height:.3g}×{width:.3g} mm in plane, and the segmentations were trained "
        f"on {known} mm. Resample it to {known} mm"
    )


def scans_unlike_trained(
    tasks: Sequence[tuple[Trial, Unseen]], folder: StudyFolder
) -> dict[str, str]:
    """What is wrong with scans whose tumour members of slices would have to find themselves.

    Args:
        tasks: members, and whom each predicts; slices are prepared, and only their index is read.
        folder: of the members' study.

    Returns:
        By subject, as :func:`unlike_trained` says it, with the modality; nobody else is there.
    """
    found: dict[str, str] = {}
    for trial, unseen in (task for task in tasks if task[0].takes_slices):
        facts = folder.read_trial(trial.needs[0].id)
        rows = SliceStore(unseen.folder.slices, trial.channels[0]).rows
        for subject in unseen.label:
            told = unlike_trained(rows[subject].frame, facts)
            if told:
                found.setdefault(subject, f"{trial.modality}: {told}")
    return found
