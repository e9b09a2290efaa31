"""Masks of subjects that have none, predicted by networks that never trained on that person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.persons import Key
from mgmt_ray.cohort.problem import Problem
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.orchestration.found import Found, refuse_window
from mgmt_ray.orchestration.inspect import inspect_cohort
from mgmt_ray.orchestration.mask_source import (
    Segmentations,
    find_segmentations,
    who_may_outline,
)
from mgmt_ray.orchestration.outline import Outlined, ToOutline, mask_path, outline
from mgmt_ray.orchestration.placement import Placement
from mgmt_ray.orchestration.progress import say, stage
from mgmt_ray.selection.predictions import name_some
from mgmt_ray.study.config import StudyConfig
from mgmt_ray.study.segmentation import MaskSource

PREDICTED_LABELS = (1,)
"""Of a predicted mask, beside 0: networks tell tumour from all else."""


def predict_masks(
    cohorts: Sequence[Found], study: StudyConfig, source: MaskSource, placement: Placement
) -> list[Found]:
    """Give a predicted mask to every subject that is in and has none.

    Args:
        cohorts: the study's own and external ones, without problems that are not covered.
        study: whose recipe the masks must suit.
        source: who predicts.
        placement: with launcher "ray", Ray must be connected.

    Returns:
        The same cohorts; what is wrong with a predicted mask is among their problems.

    Raises:
        MgmtError: the segmentations cannot be used, all of them trained on somebody, or scans
            cannot be segmented.
    """
    segmentations = find_segmentations(source, study.modalities)
    lacking = [[s for s in found.selection.cohort.subjects if not s.mask] for found in cohorts]
    if not any(lacking):
        return list(cohorts)
    may = who_may_outline_found(segmentations, cohorts)
    _refuse_known(
        [(found.name, s.id) for found, some in zip(cohorts, lacking, strict=True) for s in some],
        may,
        segmentations,
    )
    return [
        _with_masks(found, some, may, segmentations, study, placement) if some else found
        for found, some in zip(cohorts, lacking, strict=True)
    ]


def who_may_outline_found(
    segmentations: Segmentations, cohorts: Sequence[Found]
) -> dict[Key, tuple[str, ...]]:
    """The segmentations that may outline each subject of some cohorts (``who_may_outline``)."""
    people = [known for found in cohorts for known in found.people]
    images = {key: own for found in cohorts for key, own in found.images.items()}
    rows = tuple(row for found in cohorts for row in found.crosswalk)
    return who_may_outline(segmentations, people, images, rows)


def outline_subjects(
    name: str,
    subjects: Sequence[Subject],
    may: Mapping[str, tuple[str, ...]],
    segmentations: Segmentations,
    folder: Path,
    placement: Placement,
) -> dict[str, Outlined | MgmtError]:
    """Predicted masks of subjects of a cohort, brought up to date; or what is wrong with a scan.

    Args:
        name: what the printed lines begin with.
        subjects: each with the scan that is segmented.
        may: ids of the segmentations that may outline each.
        segmentations: among which these are.
        folder: of the masks.
        placement: with launcher "ray", Ray must be connected.
    """
    scans = [ToOutline(s.id, s.scans[segmentations.modality], may[s.id]) for s in subjects]
    made = 0
    with stage(name) as step:

        def count(done: int, total: int) -> None:
            nonlocal made
            made = total
            step(done, total)

        done = outline(scans, segmentations, folder, placement, count)
    say(f"{name}: {made} predicted anew" if made else f"{name}: up to date")
    return done


def _with_masks(
    found: Found,
    lacking: Sequence[Subject],
    may: Mapping[Key, tuple[str, ...]],
    segmentations: Segmentations,
    study: StudyConfig,
    placement: Placement,
) -> Found:
    """A cohort whose subjects have masks, looked at like given ones."""
    modality = segmentations.modality
    scanned = [s for s in lacking if modality in s.scans]
    problems = [_no_scan(s, modality) for s in lacking if modality not in s.scans]
    name = f"masks {found.name}" if found.name else "masks"
    own = {s.id: may[found.name, s.id] for s in scanned}
    done = outline_subjects(name, scanned, own, segmentations, found.folder.masks, placement)
    faults = [f"subject {s}: {told}" for s, told in done.items() if isinstance(told, MgmtError)]
    if faults:
        raise MgmtError("\n".join(faults))
    outlined = {s: told for s, told in done.items() if isinstance(told, Outlined)}
    problems += [_empty(s, modality) for s in scanned if not outlined[s.id].tumour_voxels]
    whole = {name for name, told in outlined.items() if told.tumour_voxels}
    subjects = tuple(
        replace(s, mask=mask_path(found.folder.masks, s.id), mask_kind="predicted")
        if s.id in whole
        else s
        for s in found.reading.subjects
    )
    with stage(f"check {name}") as step:
        seen = inspect_cohort(
            [s for s in subjects if s.id in whole],
            study.recipe,
            PREDICTED_LABELS,
            found.folder.inspections,
            placement,
            step,
        )
    refuse_window(seen, study)
    reading = replace(found.reading, subjects=subjects)
    return found.select_again(reading, {**found.inspections, **seen}, problems)


def _refuse_known(
    keys: Sequence[Key], may: Mapping[Key, tuple[str, ...]], segmentations: Segmentations
) -> None:
    known = [f"{subject} of {cohort}" if cohort else subject for cohort, subject in keys]
    all_trained = [name for key, name in zip(keys, known, strict=True) if not may[key]]
    if all_trained:
        raise MgmtError(
            f"segmentation.study: every segmentation of {segmentations.folder.root} has trained on "
            f"{name_some(all_trained)}, so none may predict that mask. Leave them out with "
            "cohort.exclude, give them a mask, or name another study."
        )


def _no_scan(subject: Subject, modality: str) -> Problem:
    return Problem(
        subject.id,
        "no_mask",
        str(next(iter(subject.scans.values()))),
        f"no tumour mask, and no {modality} to predict one from",
        "Leave the subject out with cohort.exclude, or set cohort.rules.no_mask: exclude_subject",
    )


def _empty(subject: Subject, modality: str) -> Problem:
    return Problem(
        subject.id,
        "empty_predicted_mask",
        str(subject.scans[modality]),
        "the segmentations find no tumour in it",
        "Give it a mask and set cohort.mask: predicted_where_missing, leave the subject out with "
        "cohort.exclude, or set cohort.rules.empty_predicted_mask: exclude_subject",
    )
