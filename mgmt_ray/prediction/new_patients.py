"""New patients: the finished members predict them; nothing is fitted, opened or measured."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.progress import say, stage
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.persons import Crosswalk, Key, Known, read_crosswalk
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.cohort.unlabelled import read_patients
from mgmt_ray.data.inspect_files import inspect_cohort
from mgmt_ray.data.prepare_stores import UnusableFiles, prepare_stores
from mgmt_ray.masks.contamination import who_knows, why_known
from mgmt_ray.masks.mask_files import mask_path
from mgmt_ray.masks.predicted_masks import PREDICTED_LABELS, outline_as_members, outline_subjects
from mgmt_ray.masks.segmentation_study import Segmentations, find_segmentations
from mgmt_ray.prediction.external_cohorts import tasks_of
from mgmt_ray.prediction.member_predictions import MemberPredictions
from mgmt_ray.prediction.predict_members import predict_members
from mgmt_ray.prediction.predict_slices import say_unannotated, without_enough_tumour
from mgmt_ray.prediction.test_set import find_members, refuse_changed_weights
from mgmt_ray.preprocess.scan_inspection import Inspection
from mgmt_ray.selection.ensembles import ensemble, group_ensembles
from mgmt_ray.selection.predictions import write_table
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.held_out_set import Unseen
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import Job, TrialInputs
from mgmt_ray.trials.voxel_size import scans_unlike_trained

PATIENT_COLUMNS = (
    *("subject", "network", "ensemble", "probability", "num_members"),
    *("member_deviation", "member_lowest", "member_highest", "mask", "problem", "note"),
)
"""One row per patient, network and ensemble, or one with a ``problem`` of who is not predicted.

``probability`` is that of a methylated promoter, the mean over ``num_members`` trained models as in
the study's tables; ``member_deviation``, ``_lowest`` and ``_highest`` tell how far these agree
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
    small = without_enough_tumour(predicted.slices, files)
    rows = []
    for row in ensemble(said, groups).to_dict("records"):
        of_ensemble = groups.get(row["ensemble"], (row["ensemble"],))
        members = _of(said, row, of_ensemble)["probability"]
        subject = subjects[row["subject"]]
        kept = {name: row[name] for name in PATIENT_COLUMNS[:5]}
        spread = {
            "member_deviation": members.std(),
            "member_lowest": members.min(),
            "member_highest": members.max(),
        }
        mask = subject.mask_kind if subject.mask else "none"
        note = _note(len(_of(small, row, of_ensemble)), len(members))
        rows.append({**kept, **spread, "mask": mask, "problem": "", "note": note})
    rows += [{"subject": name, "problem": told, "note": ""} for name, told in problems.items()]
    every = pd.DataFrame(rows, columns=list(PATIENT_COLUMNS))
    every["num_members"] = every["num_members"].astype("Int64")
    return every.sort_values("subject", kind="stable")


def _of(
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


def refuse_other_file(path: Path) -> None:
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
    def people(self) -> list[Known]:
        """Those that are left, under the names that they are known by."""
        return [Known(PATIENTS, s.id, s.person) for s in self.subjects.values()]

    @property
    def cohort(self) -> Cohort:
        """Those that are left."""
        return Cohort(tuple(self.subjects.values()))


def predict_patients(
    job: Job, inputs: TrialInputs, trials: Sequence[Trial], scans: Path, to: Path
) -> None:
    """Predict the patients of a folder, and write a table with what the members say of each.

    What is made on the way (masks, volumes, slices) stays in a folder beside the table, with the
    tumours that models of slices find.

    Args:
        job: of a finished study.
        inputs: of its trials.
        trials: its whole plan.
        scans: folder of the patients (see ``cohort.patients``).
        to: CSV with ``patient_table.PATIENT_COLUMNS``.

    Raises:
        MgmtError: the study is not finished, what it saw of its scans is lost, the folder holds no
            patients, or none of them can be predicted; why one of several cannot be is told
            and stands in the table.
    """
    members = find_members(trials, inputs)
    refuse_changed_weights(members, inputs)
    read = list(dict.fromkeys(channel for t in members.trials for channel in t.channels))
    source = job.study.mask_source if job.study.takes_volumes else None
    segmentations = find_segmentations(source, job.study.modalities) if source else None
    wanted = dict.fromkeys([*read, *([segmentations.modality] if segmentations else [])])
    reading = read_patients(scans, list(wanted))
    patients = _Patients(reading.subjects)
    for problem in reading.problems:
        patients.drop(problem.subject, f"{problem.where}: {problem.found}")
    files = StudyFolder(to.absolute().with_name(f"{to.stem}_files"))
    with files.lock():
        hashes = _look(patients, job, files)
        crosswalk = read_crosswalk(job.study.cohort.crosswalk)
        why = why_known(
            job.folder, inputs.cohort, members.trials, patients.people, hashes, crosswalk
        )
        for (_, name), told in why.items():  # what models say of whom they know is no prediction
            patients.drop(name, told)
        if job.study.takes_volumes:
            _give_masks(patients, job, files, segmentations, hashes, crosswalk)
        _prepare(patients, job, files)
        tasks = _tasks(patients, members.trials, files, job.folder)
        _show_problems(patients)
        with stage("predict patients") as step:
            evaluation = job.study.evaluation
            predicted = predict_members(tasks, inputs, evaluation, job.placement, step)
        everybody = [*patients.subjects.values()]
        outline_as_members(members.trials, everybody, job.folder, files.masks, job.placement)
    say_unannotated(predicted.slices, files)
    table = patient_table(predicted, patients.subjects, patients.problems, files)
    write_table(table, to)
    say(f"{len(patients.subjects)} of {len({*table['subject']})} patients predicted: {to}")
    say(f"their masks, and the volumes or slices of them: {files.root}")
    say(NO_DIAGNOSIS)


def _look(patients: _Patients, job: Job, files: StudyFolder) -> dict[Key, Mapping[str, str]]:
    """Look at all scans, and at the given masks that are used; returns hashes of the scans."""
    study = job.study
    recipe = study.recipe if study.takes_volumes else study.slices
    if study.cohort.mask == "predicted":
        given = [s for s in patients.subjects.values() if s.mask]
        if given:
            say(
                f"{len(given)} given masks are not used, as the study was trained on predicted ones"
            )
        patients.subjects |= {s.id: replace(s, mask=None) for s in given}
    with stage("check patients") as step:
        everybody = list(patients.subjects.values())
        labels, kept = study.cohort.mask_labels, files.root / "scans"
        slices = study.slices if study.takes_slices else None
        seen = inspect_cohort(everybody, recipe, labels, kept, job.placement, step, slices)
    patients.drop_faulty(seen)
    return {(PATIENTS, name): seen[name].hashes for name in patients.subjects}


def _give_masks(
    patients: _Patients,
    job: Job,
    files: StudyFolder,
    segmentations: Segmentations | None,
    hashes: Mapping[Key, Mapping[str, str]],
    crosswalk: Crosswalk,
) -> None:
    """Predict the masks that models of volumes need; models of slices find the tumour alone."""
    study = job.study
    lacking = [s for s in patients.subjects.values() if not s.mask]
    if not lacking:
        return
    if segmentations is None:
        for subject in lacking:
            patients.drop(subject.id, "no tumour mask, and the study names no `mask_source`")
        return
    images = {key: own for key, own in hashes.items() if key[1] in patients.subjects}
    by_key = who_knows(segmentations, patients.people, images, crosswalk)
    may = {s.id: by_key[PATIENTS, s.id].may_outline for s in lacking}
    modality = segmentations.modality
    for subject in lacking:
        if modality not in subject.scans:
            patients.drop(subject.id, f"no tumour mask, and no {modality} to predict one from")
        elif not may[subject.id]:
            patients.drop(subject.id, "every segmentation was trained or chosen on this person")
    scanned = [s for s in lacking if s.id in patients.subjects]
    done = outline_subjects("masks", scanned, may, segmentations, files.masks, job.placement)
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
    with stage("check masks") as step:
        labels, kept = PREDICTED_LABELS, files.inspections
        patients.drop_faulty(
            inspect_cohort(outlined, study.recipe, labels, kept, job.placement, step)
        )


def _prepare(patients: _Patients, job: Job, files: StudyFolder) -> None:
    """Volumes and slices of all whose files can be used."""
    while patients.subjects:
        cohort = patients.cohort
        try:
            prepare_stores("prepare patients", cohort, job.study, files, job.placement)
            return
        except UnusableFiles as error:
            for name, fault in error.faults.items():
                patients.drop(name, fault)


def _tasks(
    patients: _Patients, members: Sequence[Trial], files: StudyFolder, study: StudyFolder
) -> list[tuple[Trial, Unseen]]:
    """Whom each member predicts, without those whose scans no member knows how to take."""
    tasks = tasks_of(members, patients.cohort, files)
    for name, told in scans_unlike_trained(tasks, study).items():
        patients.drop(name, told)
    tasks = tasks_of(members, patients.cohort, files)
    for name in list(patients.subjects):
        if not any(name in unseen.label for _, unseen in tasks):
            patients.drop(name, "no model takes the scans of this patient alone")
    return tasks


def _show_problems(patients: _Patients) -> None:
    for name, problem in sorted(patients.problems.items()):
        say(f"{name}: not predicted: {problem}")
    if not patients.subjects:
        raise MgmtError(
            f"none of {len(patients.problems)} patients can be predicted, see above. Mend that and "
            "repeat the command."
        )
