"""Whether members predicted whom they ought to have predicted."""

from __future__ import annotations

import pandas as pd

from mgmt_ray.base import MgmtError
from mgmt_ray.selection.predictions import check_predictions, name_some


def check_member_predictions(members: pd.DataFrame) -> None:
    """Refuse members whose average would mix subjects or kinds of subjects.

    Raises:
        MgmtError: the table is faulty, holds several kinds of subjects, or members that ought to
            have predicted the same subjects did not; it names those that differ.
    """
    check_predictions(members, "member predictions")
    splits = sorted(members["split"].unique())
    if len(splits) > 1:
        raise MgmtError(f"member predictions: of several splits {splits}. Average one at a time.")
    _refuse_missing_outer_splits(members)
    if splits == ["validation"]:
        _refuse_uneven_validation(members)
        return
    # An outer split has its own test subjects, and a modality its own subjects of another cohort.
    same = "modality" if splits == ["external"] else "outer"
    for _, rows in members.groupby(same, sort=True):
        _refuse_different_subjects(rows)


def _refuse_different_subjects(members: pd.DataFrame) -> None:
    """Raise unless all of these trials predicted the same subjects."""
    everyone = set(members["subject"])
    for trial, rows in members.groupby("trial", sort=True):
        lacking = sorted(everyone - set(rows["subject"]))
        if lacking:
            raise MgmtError(
                f"trial {trial} has no prediction for {name_some(lacking)}, which other members "
                "have. All members must predict the same subjects: delete "
                "ensembles/member_predictions.csv and run `mgmt-ray ensemble STUDY` again."
            )


def _refuse_missing_outer_splits(members: pd.DataFrame) -> None:
    """Raise unless every network and modality has members of every outer split."""
    everything = set(members["outer"])
    for (network, modality), rows in members.groupby(["network", "modality"], sort=True):
        lacking = [str(outer) for outer in sorted(everything - set(rows["outer"]))]
        if lacking:
            raise MgmtError(
                f"{network} {modality}: no member of outer split {name_some(lacking)}, which "
                "others have. Run `mgmt-ray run STUDY` again."
            )


def _refuse_uneven_validation(members: pd.DataFrame) -> None:
    """Raise unless, in each model, one fold predicts each subject, with as many members for all.

    The folds of one model have the same seeds, so that this is one member per seed.
    """
    for (network, modality, outer), rows in members.groupby(["network", "modality", "outer"]):
        by_subject = rows.groupby("subject", sort=True)
        folds, number = by_subject["fold"].nunique(), by_subject.size()
        torn = folds > 1
        uneven = number.index[torn if torn.any() else number < number.max()]
        if len(uneven):
            raise MgmtError(
                f"{network} {modality}, outer split {outer}: {name_some(list(uneven))} not "
                "validated by exactly one fold, with all of its seeds. "
                "Run `mgmt-ray run STUDY` again."
            )
    for (modality, outer), rows in members.groupby(["modality", "outer"]):
        everyone = set(rows["subject"])
        for network, own in rows.groupby("network", sort=True):
            lacking = sorted(everyone - set(own["subject"]))
            if lacking:
                raise MgmtError(
                    f"{network!s} {modality}, outer split {outer}: {name_some(lacking)} not "
                    "validated, unlike by other networks. Run `mgmt-ray run STUDY` again."
                )
