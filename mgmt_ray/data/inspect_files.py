"""Inspecting all files of a cohort: one task per subject; unchanged files are not read again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.cluster.progress import ProgressCallback
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.data.bring_up_to_date import Maker, bring_up_to_date
from mgmt_ray.preprocess.artefact_store import Artefact, ArtefactPart, Wanted
from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.scan_inspection import (
    AnyRecipe,
    Inspection,
    inspect_subject,
    inspection_artefact,
    inspection_key,
    is_final,
    load_inspection,
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
        subjects: those without a mask have only their scans inspected; with predicted masks, all
            have one.
        recipe: its window, if it has one, must contain the tumours.
        mask_labels: labels that a mask may have apart from 0.
        folder: of the inspections, which are read and written here.
        progress: receives the number of inspected subjects and their total.
        slices: recipe of the slices that will be cut too; None if the study uses volumes only.

    Returns:
        The inspections by subject id, in the order of ``subjects``.

    Raises:
        MgmtError: the folder cannot be written, or an inspection was changed.
    """
    predicted = any(s.mask and s.mask_kind == "predicted" for s in subjects)
    parts = ("predicted",) if predicted else ("given", "unmasked")
    wanted: dict[str, list[Wanted[Subject]]] = {part: [] for part in parts}
    for subject in subjects:
        part = "unmasked" if subject.mask is None else str(subject.mask_kind)
        key = inspection_key(subject, recipe, mask_labels, slices)
        wanted[part].append(Wanted(part, subject.id, key, subject))
    settings = _InspectionSettings(recipe, mask_labels, slices)
    maker = Maker(_inspect, settings, is_valid=is_final)
    bring_up_to_date(folder, wanted, maker, {}, resources, progress)
    inspections: dict[str, Inspection] = {}
    for part, items in wanted.items():
        if items:
            opened = ArtefactPart(folder, part)
            inspections |= {item.subject: load_inspection(opened, item.subject) for item in items}
    return {subject.id: inspections[subject.id] for subject in subjects}


def _inspect(task: Sequence[Wanted[Subject]], settings: _InspectionSettings) -> list[Artefact]:
    inspections = (
        inspect_subject(item.source, settings.recipe, settings.mask_labels, settings.slices)
        for item in task
    )
    return [inspection_artefact(inspection) for inspection in inspections]
