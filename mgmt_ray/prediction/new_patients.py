"""New patients: the finished members predict them; nothing is fitted, opened or measured."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.progress import log, show_progress
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.persons import Crosswalk, PersonRef, SubjectKey, read_crosswalk
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.cohort.unlabelled import read_patients
from mgmt_ray.data.inspect_files import inspect_cohort
from mgmt_ray.data.prepare_stores import UnusableFiles, prepare_stores
from mgmt_ray.masks.contamination import contamination_reason, segmenter_exposure
from mgmt_ray.masks.mask_files import mask_path
from mgmt_ray.masks.predicted_masks import PREDICTED_LABELS, segment_subjects, segment_with_members
from mgmt_ray.masks.segmentation_study import Segmentations, load_segmentations
from mgmt_ray.prediction.external_cohorts import member_tasks
from mgmt_ray.prediction.member_predictions import MemberPredictions
from mgmt_ray.prediction.predict_members import predict_members
from mgmt_ray.prediction.predict_slices import log_unannotated, rows_without_tumour
from mgmt_ray.prediction.test_set import check_weights, select_members
from mgmt_ray.preprocess.scan_inspection import Inspection
from mgmt_ray.selection.ensembles import ensemble, group_ensembles
from mgmt_ray.selection.predictions import write_table
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.held_out_set import HeldOutSet
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import StudyContext, TrialInputs
from mgmt_ray.trials.voxel_size import voxel_size_problems

PATIENT_COLUMNS = (
    *("subject", "network", "ensemble", "probability", "num_members"),
    *("member_std", "member_lowest", "member_highest", "mask", "problem", "note"),
)
"""One row per patient, network and ensemble, or one with a ``problem`` of who is not predicted.

``probability`` is that of a methylated promoter, the mean over ``num_members`` trained models as in
the study's tables; ``member_std``, ``_lowest`` and ``_highest`` tell how far these agree
(deviation with n − 1, missing for one member).
``mask`` is "given", "predicted", or "none" for models that find the tumour themselves, and ``note``
says where these find none."""


def patient_table(
    predicted: MemberPredictions,
    subjects: Mapping[str, Subject],
    problems: Mapping[str, str],
    files: StudyFolder,
) -> pd.DataFrame:
    """:data:`PATIENT_COLUMNS` of all patients, sorted by id.

    Args:
        predicted: by the members.
        subjects: who is predicted, by id.
        problems: why others are not, by id.
        files: with the patients' slices, if there are any.
    """
    said = predicted.table
    groups = group_ensembles(list(dict.fromkeys(said["modality"])))
    small = rows_without_tumour(predicted.slices, files)
    rows = []
    for row in ensemble(said, groups).to_dict("records"):
        of_ensemble = groups.get(row["ensemble"], (row["ensemble"],))
        members = _row_for(said, row, of_ensemble)["probability"]
        subject = subjects[row["subject"]]
        kept = {name: row[name] for name in PATIENT_COLUMNS[:5]}
        spread = {
            "member_std": members.std(),
            "member_lowest": members.min(),
            "member_highest": members.max(),
        }
        mask = subject.mask_kind if subject.mask else "none"
        note = _note(len(_row_for(small, row, of_ensemble)), len(members))
        rows.append({**kept, **spread, "mask": mask, "problem": "", "note": note})
    rows += [{"subject": name, "problem": told, "note": ""} for name, told in problems.items()]
    every = pd.DataFrame(rows, columns=list(PATIENT_COLUMNS))
    every["num_members"] = every["num_members"].astype("Int64")
    return every.sort_values("subject", kind="stable")


def _row_for(
    table: pd.DataFrame, row: Mapping[Hashable, Any], modalities: tuple[str, ...]
) -> pd.DataFrame:
    if table.empty:
        return table
    same = (table["subject"] == row["subject"]) & (table["network"] == row["network"])
    return table[same & table["modality"].isin(modalities)]


def _note(number: int, num_members: int) -> str:
    if not number:
        return ""
    return (
        f"no tumour found by {number} of {num_members} models, which took the slice with the most "
        "of what might be some: do not trust this probability"
    )


def check_overwrite(path: Path) -> None:
    """Raise MgmtError where a table of patients would be written over something else."""
    if path.suffix != ".csv":
        raise MgmtError(f"--to {path}: is no name of a table. Name a file that ends with .csv.")
    if not path.parent.is_dir():
        raise MgmtError(f"--to {path}: there is no folder {path.parent}. Make it first.")
    header = ",".join(PATIENT_COLUMNS)
    if path.exists() and not (path.is_file() and path.read_bytes().startswith(header.encode())):
        raise MgmtError(
            f"--to {path}: is there and no table of predicted patients, so it is not written over. "
            "Name another file."
        )


PATIENTS = "new patients"
"""Stands for a cohort's name; no study can give it."""

NO_DIAGNOSIS = (
    "This is research software, not a medical device, and these numbers are no diagnosis: no "
    "decision on a patient may rest on them. How good the models are is in the study's report."
)


class _Patients:
    """Who is left to predict, and why others are not."""

    def __init__(self, subjects: Iterable[Subject]) -> None:
        self.subjects = {subject.id: subject for subject in subjects}
        self.problems: dict[str, str] = {}

    def drop(self, name: str, problem: str) -> None:
        """Tell why somebody is not predicted."""
        self.problems.setdefault(name, problem)
        self.subjects.pop(name, None)

    def drop_faulty(self, inspections: Mapping[str, Inspection]) -> None:
        """Those with a problem of their files."""
        for name, seen in inspections.items():
            if seen.problems:
                first = seen.problems[0]
                self.drop(name, f"{first.where}: {first.found}")

    @property
    def persons(self) -> list[PersonRef]:
        """Those that are left, under the names that they are known by."""
        return [PersonRef(PATIENTS, s.id, s.person) for s in self.subjects.values()]

    @property
    def cohort(self) -> Cohort:
        """Those that are left."""
        return Cohort(tuple(self.subjects.values()))


def predict_patients(
    context: StudyContext, inputs: TrialInputs, trials: Sequence[Trial], scans: Path, to: Path
) -> None:
    """Predict the patients of a folder, and write a table with what the members say of each.

    What is made on the way (masks, volumes, slices) stays in a folder beside the table, with the
    tumours that models of slices find.

    Args:
        context: of a finished study.
        inputs: of its trials.
        trials: its whole plan.
        scans: folder of the patients (see ``cohort.patients``).
        to: CSV with ``patient_table.PATIENT_COLUMNS``.

    Raises:
        MgmtError: the study is not finished, what it saw of its scans is lost, the folder holds no
            patients, or none of them can be predicted; why one of several cannot be is told
            and stands in the table.
    """
    members = select_members(trials, inputs)
    check_weights(members, inputs)
    read = list(dict.fromkeys(channel for t in members.trials for channel in t.channels))
    source = context.study.mask_source if context.study.takes_volumes else None
    segmentations = load_segmentations(source, context.study.modalities) if source else None
    wanted = dict.fromkeys([*read, *([segmentations.modality] if segmentations else [])])
    result = read_patients(scans, list(wanted))
    patients = _Patients(result.subjects)
    for problem in result.problems:
        patients.drop(problem.subject, f"{problem.where}: {problem.found}")
    files = StudyFolder(to.absolute().with_name(f"{to.stem}_files"))
    with files.lock():
        hashes = _inspect_scans(patients, context, files)
        crosswalk = read_crosswalk(context.study.cohort.crosswalk)
        why = contamination_reason(
            context.folder, inputs.cohort, members.trials, patients.persons, hashes, crosswalk
        )
        for (_, name), told in why.items():  # what models say of whom they know is no prediction
            patients.drop(name, told)
        if context.study.takes_volumes:
            _predict_masks(patients, context, files, segmentations, hashes, crosswalk)
        _prepare(patients, context, files)
        tasks = _member_tasks(patients, members.trials, files, context.folder)
        _show_problems(patients)
        with show_progress("predict patients") as step:
            evaluation = context.study.evaluation
            predicted = predict_members(tasks, inputs, evaluation, context.resources, step)
        everybody = [*patients.subjects.values()]
        segment_with_members(
            members.trials, everybody, context.folder, files.masks, context.resources
        )
    log_unannotated(predicted.slices, files)
    table = patient_table(predicted, patients.subjects, patients.problems, files)
    write_table(table, to)
    log(f"{len(patients.subjects)} of {len({*table['subject']})} patients predicted: {to}")
    log(f"their masks, and the volumes or slices of them: {files.root}")
    log(NO_DIAGNOSIS)


def _inspect_scans(
    patients: _Patients, context: StudyContext, files: StudyFolder
) -> dict[SubjectKey, Mapping[str, str]]:
    """Look at all scans, and at the given masks that are used; returns hashes of the scans."""
    study = context.study
    recipe = study.recipe if study.takes_volumes else study.slices
    if study.cohort.mask == "predicted":
        given = [s for s in patients.subjects.values() if s.mask]
        if given:
            log(
                f"{len(given)} given masks are not used, as the study was trained on predicted ones"
            )
        patients.subjects |= {s.id: replace(s, mask=None) for s in given}
    with show_progress("check patients") as step:
        everybody = list(patients.subjects.values())
        labels, kept = study.cohort.mask_labels, files.root / "scans"
        slices = study.slices if study.takes_slices else None
        seen = inspect_cohort(everybody, recipe, labels, kept, context.resources, step, slices)
    patients.drop_faulty(seen)
    return {(PATIENTS, name): seen[name].hashes for name in patients.subjects}


def _predict_masks(
    patients: _Patients,
    context: StudyContext,
    files: StudyFolder,
    segmentations: Segmentations | None,
    hashes: Mapping[SubjectKey, Mapping[str, str]],
    crosswalk: Crosswalk,
) -> None:
    """Predict the masks that models of volumes need; models of slices find the tumour alone."""
    study = context.study
    lacking = [s for s in patients.subjects.values() if not s.mask]
    if not lacking:
        return
    if segmentations is None:
        for subject in lacking:
            patients.drop(subject.id, "no tumour mask, and the study names no `mask_source`")
        return
    images = {key: own for key, own in hashes.items() if key[1] in patients.subjects}
    by_key = segmenter_exposure(segmentations, patients.persons, images, crosswalk)
    eligible = {s.id: by_key[PATIENTS, s.id].eligible for s in lacking}
    modality = segmentations.modality
    for subject in lacking:
        if modality not in subject.scans:
            patients.drop(subject.id, f"no tumour mask, and no {modality} to predict one from")
        elif not eligible[subject.id]:
            patients.drop(subject.id, "every segmentation was trained or chosen on this person")
    scanned = [s for s in lacking if s.id in patients.subjects]
    done = segment_subjects(
        "masks", scanned, eligible, segmentations, files.masks, context.resources
    )
    for name, told in done.items():
        if isinstance(told, MgmtError):
            patients.drop(name, str(told))
        elif not told.tumour_voxels:
            patients.drop(name, f"the segmentations find no tumour in the {modality}")
    outlined = [
        replace(s, mask=mask_path(files.masks, s.id), mask_kind="predicted")
        for s in scanned
        if s.id in patients.subjects
    ]
    patients.subjects |= {s.id: s for s in outlined}
    with show_progress("check masks") as step:
        labels, kept = PREDICTED_LABELS, files.inspections
        patients.drop_faulty(
            inspect_cohort(outlined, study.recipe, labels, kept, context.resources, step)
        )


def _prepare(patients: _Patients, context: StudyContext, files: StudyFolder) -> None:
    """Volumes and slices of all whose files can be used."""
    while patients.subjects:
        cohort = patients.cohort
        try:
            prepare_stores("prepare patients", cohort, context.study, files, context.resources)
            return
        except UnusableFiles as error:
            for name, fault in error.faults.items():
                patients.drop(name, fault)


def _member_tasks(
    patients: _Patients, members: Sequence[Trial], files: StudyFolder, study: StudyFolder
) -> list[tuple[Trial, HeldOutSet]]:
    """Whom each member predicts, without those whose scans no member knows how to take."""
    tasks = member_tasks(members, patients.cohort, files)
    for name, told in voxel_size_problems(tasks, study).items():
        patients.drop(name, told)
    tasks = member_tasks(members, patients.cohort, files)
    for name in list(patients.subjects):
        if not any(name in held_out.label for _, held_out in tasks):
            patients.drop(name, "no model takes the scans of this patient alone")
    return tasks


def _show_problems(patients: _Patients) -> None:
    for name, problem in sorted(patients.problems.items()):
        log(f"{name}: not predicted: {problem}")
    if not patients.subjects:
        raise MgmtError(
            f"none of {len(patients.problems)} patients can be predicted, see above. Mend that and "
            "repeat the command."
        )
