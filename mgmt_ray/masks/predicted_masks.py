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
from mgmt_ray.masks.mask_files import MaskRequest, PredictedMask, mask_path, segment_scans
from mgmt_ray.masks.segmentation_study import Segmentations, load_segmentations
from mgmt_ray.selection.predictions import shorten_list
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import MaskSource, StudyConfig
from mgmt_ray.study.trial import Trial

TRAINED_ON_FILE = "trained.json"
"""Beside a cohort's masks: the segmentations that trained on each subject's person, by subject."""

_CROSS_FIT = (
    "Run that study with networks.{network}.cross_fitted: true, so that of every fold which does "
    "not validate a person one network is left. Or: "
)

PREDICTED_LABELS = (1,)
"""Of a predicted mask, beside 0: networks tell tumour from all else."""


def predict_masks(
    cohorts: Sequence[ScannedCohort],
    study: StudyConfig,
    segmentations: Segmentations,
    resources: Resources,
) -> list[ScannedCohort]:
    """Give a predicted mask to every subject that is in and has none.

    Args:
        cohorts: the study's own and external ones, without problems that are not covered.
        study: whose recipe the masks must suit.
        segmentations: which predict.
        resources: with backend "ray", Ray must be connected.

    Returns:
        The same cohorts; what is wrong with a predicted mask is among their problems.

    Raises:
        MgmtError: all segmentations know somebody, or scans cannot be segmented.
    """
    lacking = [[s for s in found.selection.cohort.subjects if not s.mask] for found in cohorts]
    if not any(lacking):
        return list(cohorts)
    knowing = segmenter_exposure(segmentations, *_all_persons(cohorts))
    eligible = {key: known.eligible for key, known in knowing.items()}
    _check_eligible(
        [(found.name, s.id) for found, some in zip(cohorts, lacking, strict=True) for s in some],
        eligible,
        segmentations,
    )
    for found in cohorts:
        own = {s.id: knowing[found.name, s.id].trained for s in found.reader_result.subjects}
        write_json(found.folder.masks / TRAINED_ON_FILE, own)
    return [
        _add_predicted_masks(found, some, eligible, segmentations, study, resources)
        if some
        else found
        for found, some in zip(cohorts, lacking, strict=True)
    ]


def _all_persons(
    cohorts: Sequence[ScannedCohort],
) -> tuple[list[PersonRef], dict[SubjectKey, dict[str, str]], Crosswalk]:
    """All people of some cohorts, their scans' hashes, and the crosswalks' rows."""
    people = [known for found in cohorts for known in found.persons]
    images = {key: own for found in cohorts for key, own in found.scan_hashes.items()}
    return people, images, tuple(row for found in cohorts for row in found.crosswalk)


def segment_subjects(
    name: str,
    subjects: Sequence[Subject],
    eligible: Mapping[str, tuple[str, ...]],
    segmentations: Segmentations,
    folder: Path,
    resources: Resources,
) -> dict[str, PredictedMask | MgmtError]:
    """Predicted masks of subjects of a cohort, brought up to date; or what is wrong with a scan.

    Args:
        name: what the printed lines begin with.
        subjects: each with the scan that is segmented.
        eligible: ids of the segmentations that may outline each.
        segmentations: among which these are.
        folder: of the masks.
        resources: with backend "ray", Ray must be connected.
    """
    scans = [MaskRequest(s.id, s.scans[segmentations.modality], eligible[s.id]) for s in subjects]
    made = 0
    with show_progress(name) as step:

        def count(done: int, total: int) -> None:
            nonlocal made
            made = total
            step(done, total)

        done = segment_scans(scans, segmentations, folder, resources, count)
    log(f"{name}: {made} predicted anew" if made else f"{name}: up to date")
    return done


def segment_with_members(
    members: Sequence[Trial],
    subjects: Sequence[Subject],
    study: StudyFolder,
    folder: Path,
    resources: Resources,
) -> None:
    """Leave the tumours that members of slices find, the mean of their segmentations.

    Args:
        members: of a finished study; those of volumes are passed over.
        subjects: whose tumours to find.
        study: of the members.
        folder: gets a folder NETWORK_MODALITY of masks for each network and modality.
        resources: with backend "ray", Ray must be connected.
    """
    needed: dict[tuple[str, str], dict[str, None]] = {}
    for trial in (t for t in members if t.takes_slices):
        needed.setdefault((trial.network, trial.modality), {})[trial.needs[0].id] = None
    for (network, modality), networks in needed.items():
        source = MaskSource(study=study.root, network=network, modality=modality)
        segmentations = load_segmentations(source, [modality])
        some = [s for s in subjects if modality in s.scans]
        eligible = {s.id: tuple(networks) for s in some}
        name = f"{network}_{modality}"
        done = segment_subjects(
            f"masks {name}", some, eligible, segmentations, folder / name, resources
        )
        for subject, told in done.items():
            if isinstance(told, MgmtError):
                log(f"{subject}: no mask: {told}")


def _add_predicted_masks(
    found: ScannedCohort,
    lacking: Sequence[Subject],
    eligible: Mapping[SubjectKey, tuple[str, ...]],
    segmentations: Segmentations,
    study: StudyConfig,
    resources: Resources,
) -> ScannedCohort:
    """A cohort whose subjects have masks, looked at like given ones."""
    modality = segmentations.modality
    scanned = [s for s in lacking if modality in s.scans]
    problems = [_missing_scan_problem(s, modality) for s in lacking if modality not in s.scans]
    name = f"masks {found.name}" if found.name else "masks"
    own = {s.id: eligible[found.name, s.id] for s in scanned}
    done = segment_subjects(name, scanned, own, segmentations, found.folder.masks, resources)
    faults = [f"subject {s}: {told}" for s, told in done.items() if isinstance(told, MgmtError)]
    if faults:
        raise MgmtError("\n".join(faults))
    outlined = {s: told for s, told in done.items() if isinstance(told, PredictedMask)}
    problems += [
        _empty_mask_problem(s, modality) for s in scanned if not outlined[s.id].tumour_voxels
    ]
    whole = {name for name, told in outlined.items() if told.tumour_voxels}
    subjects = tuple(
        replace(s, mask=mask_path(found.folder.masks, s.id), mask_kind="predicted")
        if s.id in whole
        else s
        for s in found.reader_result.subjects
    )
    with show_progress(f"check {name}") as step:
        seen = inspect_cohort(
            [s for s in subjects if s.id in whole],
            study.recipe,
            PREDICTED_LABELS,
            found.folder.inspections,
            resources,
            step,
        )
    check_scan_sizes(seen, study)
    result = replace(found.reader_result, subjects=subjects)
    return found.reselect(result, {**found.inspections, **seen}, problems)


def _check_eligible(
    keys: Sequence[SubjectKey],
    eligible: Mapping[SubjectKey, tuple[str, ...]],
    segmentations: Segmentations,
) -> None:
    names = [f"{subject} of {cohort}" if cohort else subject for cohort, subject in keys]
    known = [name for key, name in zip(keys, names, strict=True) if not eligible[key]]
    if known:
        cross_fitted = any(trial.inner_fold is not None for trial in segmentations.trials.values())
        raise MgmtError(
            f"mask_source.study: every segmentation of {segmentations.folder.root} was trained or "
            f"chosen on {shorten_list(known)}, so none may predict that mask. "
            + ("" if cross_fitted else _CROSS_FIT.format(network=segmentations.network))
            + "Leave them out with cohort.exclude, give them a mask, or name another study."
        )


def _missing_scan_problem(subject: Subject, modality: str) -> Problem:
    return Problem(
        subject.id,
        "no_mask",
        str(next(iter(subject.scans.values()))),
        f"no tumour mask, and no {modality} to predict one from",
        "Leave the subject out with cohort.exclude, or set cohort.rules.no_mask: exclude_subject",
    )


def _empty_mask_problem(subject: Subject, modality: str) -> Problem:
    return Problem(
        subject.id,
        "empty_predicted_mask",
        str(subject.scans[modality]),
        "the segmentations find no tumour in it",
        "Give it a mask and set cohort.mask: predicted_where_missing, leave the subject out with "
        "cohort.exclude, or set cohort.rules.empty_predicted_mask: exclude_subject",
    )
