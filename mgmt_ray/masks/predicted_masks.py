"""Masks of subjects that have none, predicted by networks that know nothing of that person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mgmt_ray.base import MgmtError, write_json
from mgmt_ray.cluster.progress import log, show_progress
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.persons import Crosswalk, PersonRef, SubjectKey
from mgmt_ray.cohort.problem import Problem
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.data.inspect_files import inspect_cohort
from mgmt_ray.data.scanned_cohort import ScannedCohort, check_scan_sizes
from mgmt_ray.masks.contamination import segmenter_exposure
from mgmt_ray.masks.mask_files import MASKS, MaskRequest, PredictedMask, segment_scans
from mgmt_ray.masks.segmentation_study import Segmentations, load_segmentations
from mgmt_ray.selection.predictions import shorten_list
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import MaskSource, StudyConfig
from mgmt_ray.study.trial import Trial

TRAINED_ON_FILE = "trained.json"
"""In the folder of the masks: ids of the segmentations trained on each subject, by subject."""

PREDICTED_LABELS = (1,)
"""Labels of a predicted mask apart from 0: networks segment the tumour as a whole."""


def predict_masks(
    cohorts: Sequence[ScannedCohort],
    study: StudyConfig,
    segmentations: Segmentations,
    resources: Resources,
) -> list[ScannedCohort]:
    """Predict a mask for every selected subject that has none.

    Args:
        cohorts: the study's own and external ones, without unresolved problems.
        study: its recipe is what the masks are checked against.
        segmentations: predict the masks; of each subject those not trained or chosen on it.

    Returns:
        The same cohorts with masks; problems of predicted masks are among their problems.

    Raises:
        MgmtError: all segmentations were trained or chosen on a subject, or a scan cannot be
            segmented.
    """
    without_mask = [
        [s for s in scanned.selection.cohort.subjects if not s.mask] for scanned in cohorts
    ]
    if not any(without_mask):
        return list(cohorts)
    exposure = segmenter_exposure(segmentations, *_all_persons(cohorts))
    eligible = {key: segmenters.eligible for key, segmenters in exposure.items()}
    pairs = list(zip(cohorts, without_mask, strict=True))
    keys = [(scanned.name, s.id) for scanned, subjects in pairs for s in subjects]
    _check_eligible(keys, eligible, segmentations)
    for scanned in cohorts:
        subjects = scanned.reader_result.subjects
        trained_on = {s.id: exposure[scanned.name, s.id].trained for s in subjects}
        write_json(scanned.folder.masks / TRAINED_ON_FILE, trained_on)
    return [
        _add_predicted_masks(scanned, subjects, eligible, segmentations, study, resources)
        if subjects
        else scanned
        for scanned, subjects in pairs
    ]


def _all_persons(
    cohorts: Sequence[ScannedCohort],
) -> tuple[list[PersonRef], dict[SubjectKey, dict[str, str]], Crosswalk]:
    """Return all persons of several cohorts, their scans' hashes, and the crosswalks' rows."""
    persons = [person for scanned in cohorts for person in scanned.persons]
    hashes = {key: value for scanned in cohorts for key, value in scanned.scan_hashes.items()}
    return persons, hashes, tuple(row for scanned in cohorts for row in scanned.crosswalk)


def segment_subjects(
    name: str,
    subjects: Sequence[Subject],
    eligible: Mapping[str, tuple[str, ...]],
    segmentations: Segmentations,
    folder: Path,
    resources: Resources,
    part: str = MASKS,
) -> dict[str, PredictedMask | MgmtError]:
    """Bring the predicted masks of a cohort's subjects up to date, and log the result.

    Args:
        name: what log lines begin with.
        subjects: with scans of the segmented modalities.
        eligible: ids of the segmentations that may segment each subject, by subject.
        segmentations: all that ``eligible`` names.
        folder: of the masks.
        part: of the store of masks.

    Returns:
        By subject: the mask, or why its scan cannot be segmented.
    """
    channels = segmentations.channels
    requests = [
        MaskRequest(s.id, tuple(s.scans[c] for c in channels), eligible[s.id], s.conventions)
        for s in subjects
    ]
    predicted = 0
    with show_progress(name) as progress:

        def count(done: int, total: int) -> None:
            nonlocal predicted
            predicted = total
            progress(done, total)

        masks = segment_scans(requests, segmentations, folder, resources, count, part)
    log(f"{name}: {predicted} masks predicted" if predicted else f"{name}: up to date")
    return masks


def segment_eligible(
    name: str,
    subjects: Sequence[Subject],
    eligible: Mapping[str, tuple[str, ...]],
    segmentations: Segmentations,
    folder: Path,
    resources: Resources,
    part: str = MASKS,
) -> tuple[list[Subject], dict[str, str]]:
    """Predict masks as far as possible; arguments as of :func:`segment_subjects`.

    Returns:
        The subjects in whom a tumour was found, with its mask; why the others have none, by id.
    """
    modality = segmentations.modality
    reasons: dict[str, str] = {}
    for subject in subjects:
        if not subject.has_all(segmentations.channels):
            reasons[subject.id] = f"no {modality} to predict a mask from"
        elif not eligible[subject.id]:
            reasons[subject.id] = "every segmentation was trained or chosen on this person"
    segmentable = [s for s in subjects if s.id not in reasons]
    masks = segment_subjects(name, segmentable, eligible, segmentations, folder, resources, part)
    segmented = []
    for subject in segmentable:
        mask = masks[subject.id]
        if isinstance(mask, MgmtError):
            reasons[subject.id] = str(mask)
        elif not mask.tumour_voxels:
            reasons[subject.id] = f"the segmentations find no tumour in the {modality}"
        else:
            segmented.append(replace(subject, mask=mask.path, mask_kind="predicted"))
    return segmented, reasons


def segment_with_members(
    members: Sequence[Trial],
    subjects: Sequence[Subject],
    study: StudyFolder,
    folder: Path,
    resources: Resources,
) -> None:
    """Write the masks that a finished study's slice networks predict, averaged over its members.

    Args:
        members: of the study; those without a segmentation are skipped.
        subjects: to segment, as far as they have the modalities.
        study: of the members.
        folder: gets a folder NETWORK_MODALITY of masks for each network and input.
    """
    needed: dict[tuple[str, tuple[str, ...]], dict[str, None]] = {}
    for trial in (t for t in members if t.needs):
        needed.setdefault((trial.network, trial.channels), {})[trial.needs[0].id] = None
    for (network, channels), networks in needed.items():
        modality = "+".join(channels)
        source = MaskSource(study=study.root, network=network, modality=modality)
        segmentations = load_segmentations(source, channels)
        scanned = [s for s in subjects if s.has_all(channels)]
        eligible = {s.id: tuple(networks) for s in scanned}
        name = f"{network}_{modality}"
        masks = segment_subjects(
            f"masks {name}", scanned, eligible, segmentations, folder / name, resources
        )
        for subject_id, mask in masks.items():
            if isinstance(mask, MgmtError):
                log(f"{subject_id}: no mask: {mask}")


def _add_predicted_masks(
    scanned: ScannedCohort,
    without_mask: Sequence[Subject],
    eligible: Mapping[SubjectKey, tuple[str, ...]],
    segmentations: Segmentations,
    study: StudyConfig,
    resources: Resources,
) -> ScannedCohort:
    """Predict the masks of a cohort's subjects, and inspect them like given masks."""
    modality = segmentations.modality
    segmentable = [s for s in without_mask if s.has_all(segmentations.channels)]
    problems = [
        _missing_scan_problem(s, modality)
        for s in without_mask
        if not s.has_all(segmentations.channels)
    ]
    name = f"masks {scanned.name}" if scanned.name else "masks"
    networks = {s.id: eligible[scanned.name, s.id] for s in segmentable}
    folder = scanned.folder.masks
    results = segment_subjects(name, segmentable, networks, segmentations, folder, resources)
    faults = [f"subject {s}: {mask}" for s, mask in results.items() if isinstance(mask, MgmtError)]
    if faults:
        raise MgmtError("\n".join(faults))
    masks = {s: mask for s, mask in results.items() if isinstance(mask, PredictedMask)}
    problems += [
        _empty_mask_problem(s, segmentations.channels)
        for s in segmentable
        if not masks[s.id].tumour_voxels
    ]
    with_tumour = {s for s, mask in masks.items() if mask.tumour_voxels}
    subjects = tuple(
        replace(s, mask=masks[s.id].path, mask_kind="predicted") if s.id in with_tumour else s
        for s in scanned.reader_result.subjects
    )
    with show_progress(f"check {name}") as progress:
        inspections = inspect_cohort(
            [s for s in subjects if s.id in with_tumour],
            study.recipe,
            PREDICTED_LABELS,
            scanned.folder.inspections,
            resources,
            progress,
        )
    check_scan_sizes(inspections, study)
    result = replace(scanned.reader_result, subjects=subjects)
    return scanned.reselect(result, {**scanned.inspections, **inspections}, problems)


def _check_eligible(
    keys: Sequence[SubjectKey],
    eligible: Mapping[SubjectKey, tuple[str, ...]],
    segmentations: Segmentations,
) -> None:
    names = [f"{subject} of {cohort}" if cohort else subject for cohort, subject in keys]
    ineligible = [name for key, name in zip(keys, names, strict=True) if not eligible[key]]
    if ineligible:
        cross_fitted = any(trial.inner_fold is not None for trial in segmentations.trials.values())
        cross_fit = (
            f" Or run that study with networks.{segmentations.network}.cross_fitted: true, so that "
            "some of its networks are trained without each subject."
        )
        raise MgmtError(
            f"mask_source.study: every segmentation of {segmentations.folder.root} was trained or "
            f"chosen on {shorten_list(ineligible)}, so none may predict their masks. "
            "Exclude them with cohort.exclude, give them a mask, or name another study."
            + ("" if cross_fitted else cross_fit)
        )


def _missing_scan_problem(subject: Subject, modality: str) -> Problem:
    return Problem(
        subject.id,
        "no_mask",
        str(next(iter(subject.scans.values()))),
        f"no tumour mask, and no {modality} to predict one from",
        "Leave the subject out with cohort.exclude, or set cohort.rules.no_mask: exclude_subject",
    )


def _empty_mask_problem(subject: Subject, channels: Sequence[str]) -> Problem:
    return Problem(
        subject.id,
        "empty_predicted_mask",
        str(subject.scans[channels[0]]),
        "the segmentations find no tumour in it",
        "Give it a mask and set cohort.mask: predicted_where_missing, leave the subject out with "
        "cohort.exclude, or set cohort.rules.empty_predicted_mask: exclude_subject",
    )
