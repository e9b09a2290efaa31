"""Looking at every file of a cohort: one task per subject, and nothing is looked at twice."""

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
    """What files are compared with."""

    recipe: AnyRecipe
    mask_labels: tuple[int, ...]
    slices: SliceRecipe | None


def inspect_cohort(
    subjects: Sequence[Subject],
    recipe: AnyRecipe,
    mask_labels: tuple[int, ...],
    folder: Path,
    resources: Resources,
    step: ProgressCallback,
    slices: SliceRecipe | None = None,
) -> dict[str, Inspection]:
    """Inspect every subject whose files have changed since they were last inspected.

    Args:
        subjects: as a reader found them.
        recipe: whose window must hold the tumours, if it has one.
        mask_labels: that a mask may have beside 0.
        folder: keeps the inspections.
        resources: with backend "ray", Ray must be connected.
        step: is given subjects done and their number.
        slices: by which slices will be cut too, where the study takes any.

    Returns:
        By subject id, in the order given.

    Raises:
        MgmtError: the folder cannot be written.
    """
    found: dict[str, Inspection] = {}
    for subject in subjects:
        kept = read_inspection(folder, subject.id)
        if (
            kept
            and kept.is_cacheable
            and kept.key == inspection_key(subject, recipe, mask_labels, slices)
        ):
            found[subject.id] = kept
    waiting = [subject for subject in subjects if subject.id not in found]
    against = _InspectionSettings(recipe, mask_labels, slices)
    for done, (subject, inspection) in enumerate(
        parallel_map(_inspect, waiting, against, resources), start=1
    ):
        write_inspection(inspection, folder)
        found[subject.id] = inspection
        step(done, len(waiting))
    return {subject.id: found[subject.id] for subject in subjects}


def _inspect(subject: Subject, against: _InspectionSettings) -> Inspection:
    return inspect_subject(subject, against.recipe, against.mask_labels, against.slices)
