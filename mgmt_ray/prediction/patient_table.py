"""The table of new patients: what the members say of each, or why somebody is not predicted."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.prediction.member_predictions import MemberPredictions
from mgmt_ray.prediction.predict_slices import without_enough_tumour
from mgmt_ray.selection.ensemble import ensemble, group_ensembles
from mgmt_ray.study.folder import StudyFolder

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
