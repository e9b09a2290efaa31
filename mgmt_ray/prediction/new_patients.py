"""Predict new patients with the finished members; nothing is fitted or measured."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.progress import log, show_progress
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.covariates import covariate_problems
from mgmt_ray.cohort.csv_rows import group_alike
from mgmt_ray.cohort.persons import Crosswalk, PersonRef, SubjectKey, read_crosswalk
from mgmt_ray.cohort.problem import Problem
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.cohort.unlabelled import read_patients, unused_files
from mgmt_ray.data.bring_up_to_date import UnusableFiles
from mgmt_ray.data.inspect_files import inspect_cohort
from mgmt_ray.masks.contamination import contamination_reason, segmenter_exposure
from mgmt_ray.masks.predicted_masks import PREDICTED_LABELS, segment_eligible, segment_with_members
from mgmt_ray.masks.segmentation_study import Segmentations, load_segmentations
from mgmt_ray.prediction.evaluation import check_members, select_members
from mgmt_ray.prediction.external_cohorts import member_tasks
from mgmt_ray.prediction.predict_members import Task, predict_members
from mgmt_ray.prediction.predict_slices import log_unannotated, rows_without_tumour
from mgmt_ray.prediction.prediction_files import MemberPredictions
from mgmt_ray.preprocess.scan_inspection import Inspection
from mgmt_ray.selection.ensembles import ensemble, group_ensembles
from mgmt_ray.selection.predictions import write_table
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.pipelines import pipelines_of, prepare_stores, unfit_scans

PATIENT_COLUMNS = (
    *("subject", "network", "ensemble", "probability", "num_members"),
    *("member_std", "member_lowest", "member_highest", "mask", "problem", "note"),
)
"""One row per patient, network and ensemble; one row with a ``problem`` for a patient who cannot be
predicted.

``probability`` is that of a methylated promoter, the mean over ``num_members`` trained models as in
the study's tables; ``member_std`` (sample standard deviation, missing for one member),
``member_lowest`` and ``member_highest`` describe how far the members agree. ``mask`` is "given",
"predicted", or "none" for models that find the tumour themselves; ``note`` says where these find
no tumour.
"""

PATIENTS = "new patients"
"""Cohort name of the patients; no external cohort of a study can have it."""

GIVE_MASK = "Put a mask.nii.gz next to the scans, or name it in the column mask of the table."
NO_MASK = f"no tumour mask, and the study names no `mask_source`. {GIVE_MASK}"
NO_MODEL = "no model can use the scans of this patient alone. Add the other modalities."

DISCLAIMER = (
    "This is research software, not a medical device, and these numbers are no diagnosis: no "
    "decision on a patient may rest on them. How good the models are is in the study's report."
)


def patient_table(
    predicted: MemberPredictions,
    subjects: Mapping[str, Subject],
    problems: Mapping[str, str],
    files: StudyFolder,
) -> pd.DataFrame:
    """Return a table with :data:`PATIENT_COLUMNS` of all patients, sorted by id.

    Args:
        subjects: the predicted patients, by id.
        problems: why other patients are not predicted, by id.
    """
    groups = group_ensembles(list(dict.fromkeys(predicted.table["modality"])))
    without_tumour = rows_without_tumour(predicted.slices, files)
    rows = []
    for row in ensemble(predicted.table, groups).to_dict("records"):
        modalities = groups.get(row["ensemble"], (row["ensemble"],))
        members = _rows_for(predicted.table, row, modalities)["probability"]
        subject = subjects[row["subject"]]
        prediction = {name: row[name] for name in PATIENT_COLUMNS[:5]}
        agreement = {
            "member_std": members.std(),
            "member_lowest": members.min(),
            "member_highest": members.max(),
        }
        mask = subject.mask_kind if subject.mask else "none"
        note = _note(len(_rows_for(without_tumour, row, modalities)), len(members))
        rows.append({**prediction, **agreement, "mask": mask, "problem": "", "note": note})
    rows += [
        {"subject": name, "problem": problem, "note": ""} for name, problem in problems.items()
    ]
    table = pd.DataFrame(rows, columns=list(PATIENT_COLUMNS))
    table["num_members"] = table["num_members"].astype("Int64")
    return table.sort_values("subject", kind="stable")


def _rows_for(
    table: pd.DataFrame, row: Mapping[Hashable, Any], modalities: tuple[str, ...]
) -> pd.DataFrame:
    """Return the rows of the subject, network and modalities of an ensemble's row."""
    if table.empty:
        return table
    same = (table["subject"] == row["subject"]) & (table["network"] == row["network"])
    return table[same & table["modality"].isin(modalities)]


def _note(num_without_tumour: int, num_members: int) -> str:
    if not num_without_tumour:
        return ""
    return (
        f"no tumour found by {num_without_tumour} of {num_members} models, which used the slice "
        "with the most voxels that may be tumour: do not trust this probability"
    )


def check_overwrite(path: Path) -> None:
    """Check that a table of patients may be written to a path.

    Raises:
        MgmtError: the name does not end with .csv, its folder does not exist, or the file exists
            and is not a table of patients.
    """
    if path.suffix != ".csv":
        raise MgmtError(
            f"--to {path}: is not a valid name of a table. Use a name that ends with .csv."
        )
    if not path.parent.is_dir():
        raise MgmtError(f"--to {path}: there is no folder {path.parent}. Create it first.")
    header = ",".join(PATIENT_COLUMNS)
    if path.exists() and not (path.is_file() and path.read_bytes().startswith(header.encode())):
        raise MgmtError(
            f"--to {path}: exists and is not a table of predicted patients, so it is not "
            "overwritten. Name another file."
        )


class _Patients:
    """Patients that can still be predicted, and the problems of the others."""

    def __init__(self, subjects: Iterable[Subject]) -> None:
        self.subjects = {subject.id: subject for subject in subjects}
        self.problems: dict[str, str] = {}

    def drop(self, name: str, problem: str) -> None:
        """Remove a patient; the first problem is kept."""
        self.problems.setdefault(name, problem)
        self.subjects.pop(name, None)

    def drop_for(self, problem: Problem) -> None:
        """Remove the patient of a problem; what a study may set is no help once it is trained."""
        self.drop(problem.subject, f"{problem.where}: {problem.found}. {problem.remedy}.")

    def drop_faulty(self, inspections: Mapping[str, Inspection]) -> None:
        """Remove the patients whose files have problems."""
        for inspection in inspections.values():
            if inspection.problems:
                self.drop_for(inspection.problems[0])

    @property
    def persons(self) -> list[PersonRef]:
        """The remaining patients, with the ids that they are known by."""
        return [PersonRef(PATIENTS, s.id, s.person) for s in self.subjects.values()]

    @property
    def cohort(self) -> Cohort:
        """The remaining patients."""
        return Cohort(tuple(self.subjects.values()))


def predict_patients(inputs: TrialInputs, trials: Sequence[Trial], scans: Path, to: Path) -> None:
    """Predict the patients of a folder, and write a table with their probabilities.

    Masks, volumes, slices, and the tumours that slice models find are kept in a folder next to the
    table, ``FILE_files``.

    Args:
        scans: folder of the patients (see :mod:`mgmt_ray.cohort.unlabelled`).
        to: CSV file that gets :data:`PATIENT_COLUMNS`.

    Raises:
        MgmtError: the study is not finished, the inspections of its scans are lost, the folder
            holds no patients, or none of them can be predicted. A patient who cannot be predicted
            among others is logged and listed in the table.
    """
    members = select_members(trials, inputs)
    check_members(members, inputs.folder)
    channels = list(dict.fromkeys(channel for t in members.trials for channel in t.channels))
    source = inputs.study.mask_source
    segmentations = load_segmentations(source, inputs.study.modalities) if source else None
    modalities = dict.fromkeys([*channels, *(segmentations.channels if segmentations else [])])
    result = read_patients(scans, list(modalities))
    conventions = inputs.study.cohort.conventions
    patients = _Patients(replace(s, conventions=conventions) for s in result.subjects)
    taken = inputs.study.network_covariates
    for problem in (*result.problems, *covariate_problems(result.subjects, taken, str(scans))):
        patients.drop_for(problem)
    _log_unused(unused_files(scans, result.subjects), list(modalities))
    files = StudyFolder(to.absolute().with_name(f"{to.stem}_files"))
    with files.lock():
        hashes = _inspect_scans(patients, inputs, files)
        crosswalk = read_crosswalk(inputs.study.cohort.crosswalk)
        contaminated = contamination_reason(
            inputs.folder, inputs.cohort, members.trials, patients.persons, hashes, crosswalk
        )
        for (_, name), reason in contaminated.items():  # the models were trained or chosen on them
            patients.drop(name, f"{reason}. Leave this patient out.")
        if any(pipeline.needs_masks for pipeline in pipelines_of(inputs.study)):
            _predict_masks(patients, inputs, files, segmentations, hashes, crosswalk)
        _prepare(patients, inputs, files)
        tasks = _member_tasks(patients, members.trials, files, inputs.folder)
        _log_problems(patients)
        with show_progress("predict patients") as progress:
            predicted = predict_members(tasks, inputs, progress)
        subjects = list(patients.subjects.values())
        segment_with_members(members.trials, subjects, inputs.folder, files.masks, inputs.resources)
    log_unannotated(predicted.slices, files)
    table = patient_table(predicted, patients.subjects, patients.problems, files)
    write_table(table, to)
    log(f"{len(patients.subjects)} of {len({*table['subject']})} patients predicted: {to}")
    log(f"their masks, and their volumes or slices: {files.root}")
    log(DISCLAIMER)


def _log_unused(unused: Mapping[str, str], modalities: Sequence[str]) -> None:
    """Name the files that may be scans and are not read."""
    names = ", ".join(f"{name}.nii.gz" for name in (*modalities, "mask"))
    for line in group_alike(
        (
            name,
            f"{name or 'beside the folders'}: not used: {files} (scans are named {names})",
            files,
        )
        for name, files in unused.items()
    ):
        log(line)


def _inspect_scans(
    patients: _Patients, inputs: TrialInputs, files: StudyFolder
) -> dict[SubjectKey, Mapping[str, str]]:
    """Check all scans and the given masks that are used; return the hashes of the scans' voxels."""
    study = inputs.study
    if study.cohort.mask == "predicted":
        given = [s for s in patients.subjects.values() if s.mask]
        if given:
            log(f"{len(given)} given masks are not used: the study was trained on predicted masks")
        patients.subjects |= {s.id: replace(s, mask=None) for s in given}
    with show_progress("check patients") as progress:
        subjects = list(patients.subjects.values())
        labels, folder = study.cohort.known_labels, files.root / "scans"
        inspections = inspect_cohort(
            subjects,
            study.first_recipe,
            labels,
            folder,
            inputs.resources,
            progress,
            study.slice_recipe,
        )
    patients.drop_faulty(inspections)
    _drop_shared_masks(patients, inspections)
    _log_copies(patients, inspections)
    return {(PATIENTS, name): inspections[name].hashes for name in patients.subjects}


def _drop_shared_masks(patients: _Patients, inspections: Mapping[str, Inspection]) -> None:
    """Remove patients with one mask and other scans: no two tumours agree in every voxel."""
    by_mask: dict[str, list[str]] = {}
    for name in patients.subjects:
        if mask := inspections[name].mask_hash:
            by_mask.setdefault(mask, []).append(name)
    for names in by_mask.values():
        if any(inspections[name].hashes != inspections[names[0]].hashes for name in names):
            for name in names:
                other = next(n for n in names if n != name)
                found = f"has the same mask as {other}, with other scans"
                where = str(patients.subjects[name].mask)
                remedy = "Give each patient its own mask"
                patients.drop_for(Problem(name, "same_mask", where, found, remedy))


def _log_copies(patients: _Patients, inspections: Mapping[str, Inspection]) -> None:
    """Say which patients share a scan's voxels: they are one person, or one got another's scan."""
    by_hash: dict[str, list[str]] = {}
    for name in patients.subjects:
        for voxels in inspections[name].hashes.values():
            by_hash.setdefault(voxels, []).append(name)
    for names in {tuple(dict.fromkeys(names)): None for names in by_hash.values()}:
        if len(names) > 1:
            log(f"{', '.join(names)}: have the same voxels in a scan. Check whose it is.")


def _predict_masks(
    patients: _Patients,
    inputs: TrialInputs,
    files: StudyFolder,
    segmentations: Segmentations | None,
    hashes: Mapping[SubjectKey, Mapping[str, str]],
    crosswalk: Crosswalk,
) -> None:
    """Predict missing masks for models of volumes; models of slices find the tumour themselves."""
    study = inputs.study
    without_mask = [s for s in patients.subjects.values() if not s.mask]
    if not without_mask:
        return
    if segmentations is None:
        for subject in without_mask:
            patients.drop(subject.id, NO_MASK)
        return
    kept_hashes = {key: scans for key, scans in hashes.items() if key[1] in patients.subjects}
    exposure = segmenter_exposure(segmentations, patients.persons, kept_hashes, crosswalk)
    eligible = {s.id: exposure[PATIENTS, s.id].eligible for s in without_mask}
    segmented, reasons = segment_eligible(
        "masks", without_mask, eligible, segmentations, files.masks, inputs.resources
    )
    for name, reason in reasons.items():
        patients.drop(name, f"no tumour mask, and {reason.rstrip('.')}. {GIVE_MASK}")
    patients.subjects |= {s.id: s for s in segmented}
    with show_progress("check masks") as progress:
        labels, folder = PREDICTED_LABELS, files.inspections
        patients.drop_faulty(
            inspect_cohort(segmented, study.recipe, labels, folder, inputs.resources, progress)
        )


def _prepare(patients: _Patients, inputs: TrialInputs, files: StudyFolder) -> None:
    """Prepare volumes and slices; patients whose files cannot be used are dropped."""
    while patients.subjects:
        cohort = patients.cohort
        try:
            prepare_stores("prepare patients", cohort, inputs.study, files, inputs.resources)
            return
        except UnusableFiles as error:
            for name, fault in error.faults.items():
                patients.drop(name, fault)


def _member_tasks(
    patients: _Patients, members: Sequence[Trial], files: StudyFolder, study: StudyFolder
) -> list[Task]:
    """Return each member with its patients; drop those whose scans no member can take."""
    tasks = member_tasks(members, patients.cohort, files)
    for name, problem in unfit_scans(tasks, study).items():
        patients.drop(name, problem)
    tasks = member_tasks(members, patients.cohort, files)
    for name in list(patients.subjects):
        if not any(name in held_out.label for _, held_out in tasks):
            patients.drop(name, NO_MODEL)
    return tasks


def _log_problems(patients: _Patients) -> None:
    problems = sorted(patients.problems.items())
    for line in group_alike(
        (name, f"{name}: not predicted: {text}", text) for name, text in problems
    ):
        log(line)
    if not patients.subjects:
        raise MgmtError(
            f"none of {len(patients.problems)} patients can be predicted, see above. Fix this and "
            "rerun the command."
        )
