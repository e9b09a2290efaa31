"""Inspecting all files of a cohort: one task per subject; unchanged files are not read again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.cluster.parallel_map import parallel_map
from mgmt_ray.cluster.progress import ProgressCallback
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.scan_inspection import (
    AnyRecipe,
    Inspection,
    inspect_subject,
    inspection_key,
    read_inspection,
    write_inspection,
)


@dataclass(frozen=True, slots=True)
class _InspectionSettings:
    """What the files are checked against."""

    recipe: AnyRecipe
    mask_labels: tuple[int, ...]
    slices: SliceRecipe | None


def inspect_cohort(
    subjects: Sequence[Subject],
    recipe: AnyRecipe,
    mask_labels: tuple[int, ...],
    folder: Path,
    resources: Resources,
    progress: ProgressCallback,
    slices: SliceRecipe | None = None,
) -> dict[str, Inspection]:
    """Inspect every subject whose files have changed since they were last inspected.

    Args:
        subjects: those without a mask have only their scans inspected.
        recipe: its window, if it has one, must contain the tumours.
        mask_labels: labels that a mask may have apart from 0.
        folder: of the inspections, which are read and written here.
        progress: receives the number of inspected subjects and their total.
        slices: recipe of the slices that will be cut too; None if the study uses volumes only.

    Returns:
        The inspections by subject id, in the order of ``subjects``.

    Raises:
        MgmtError: the folder cannot be written.
    """
    inspections: dict[str, Inspection] = {}
    for subject in subjects:
        cached = read_inspection(folder, subject.id)
        if (
            cached
            and cached.is_cacheable
            and cached.key == inspection_key(subject, recipe, mask_labels, slices)
        ):
            inspections[subject.id] = cached
    pending = [subject for subject in subjects if subject.id not in inspections]
    settings = _InspectionSettings(recipe, mask_labels, slices)
    for done, (subject, inspection) in enumerate(
        parallel_map(_inspect, pending, settings, resources), start=1
    ):
        write_inspection(inspection, folder)
        inspections[subject.id] = inspection
        progress(done, len(pending))
    return {subject.id: inspections[subject.id] for subject in subjects}


def _inspect(subject: Subject, settings: _InspectionSettings) -> Inspection:
    return inspect_subject(subject, settings.recipe, settings.mask_labels, settings.slices)
