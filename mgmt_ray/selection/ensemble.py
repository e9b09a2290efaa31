"""Ensembles: members' predictions of the same subjects, averaged by modality and by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import pandas as pd

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.subject import MODALITY_GROUPS
from mgmt_ray.selection.predictions import check_predictions, name_some

ENSEMBLE_COLUMNS: tuple[str, ...] = (
    "network",
    "ensemble",
    "subject",
    "label",
    "probability",
    "deviation",
    "num_members",
)
"""One row per network, ensemble and subject; ``num_members`` counts the trained models in it."""


def group_ensembles(modalities: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The groups and their combinations for which a study has modalities in each part.

    Args:
        modalities: the study's; those that belong to no group (several channels) are left aside.

    Returns:
        Modalities by ensemble, named and ordered as in Schmitz et al. 2024, tables 2 to 5.
    """
    parts = {
        group: tuple(m for m in members if m in modalities)
        for group, members in MODALITY_GROUPS.items()
    }
    present = [group for group, members in parts.items() if members]
    return {
        "+".join(chosen): tuple(m for group in chosen for m in parts[group])
        for size in range(1, len(present) + 1)
        for chosen in combinations(present, size)
    }


def ensemble(
    member_predictions: pd.DataFrame, ensembles: Mapping[str, tuple[str, ...]]
) -> pd.DataFrame:
    """Average members into one model per modality, and those into ensembles.

    Folds and seeds have equal weight within a modality and outer split, outer splits that predict a
    subject have equal weight within a modality, modalities have equal weight within an ensemble
    (Schmitz et al. 2024, sec. 2.4). ``deviation`` is the standard deviation that one policy draw
    per member would give the ensemble's probability, the members' draws being independent:
    sqrt(Σ wᵢ²·dᵢ²).

    Test subjects have all modalities. Of an external cohort some may lack one: an ensemble then is
    of the subjects that have all of its modalities.

    Args:
        member_predictions: a prediction table, all of it "test" or all of it "external".
        ensembles: modalities by name; a network that lacks one of them does not get that ensemble.

    Returns:
        :data:`ENSEMBLE_COLUMNS`; by network, the ensembles first, then each modality alone.

    Raises:
        MgmtError: the table is faulty, holds several kinds of subjects, or members that ought to
            have predicted the same subjects did not; it names those that differ.
    """
    check_predictions(member_predictions, "member predictions")
    splits = sorted(member_predictions["split"].unique())
    if len(splits) > 1:
        raise MgmtError(f"member predictions: of several splits {splits}. Average one at a time.")
    _refuse_missing_outer_splits(member_predictions)
    # An outer split has its own test subjects, and a modality its own subjects of another cohort.
    same = "modality" if splits == ["external"] else "outer"
    for _, rows in member_predictions.groupby(same, sort=True):
        _refuse_different_subjects(rows)
    models = _average_members(member_predictions)
    found = list(dict.fromkeys(member_predictions["modality"]))
    wanted = {**ensembles, **{m: (m,) for m in found}}
    tables = []
    for network in dict.fromkeys(member_predictions["network"]):
        own = models[models["network"] == network]
        for name, modalities in wanted.items():
            if set(modalities) <= set(own["modality"]):
                chosen = own[own["modality"].isin(modalities)]
                whole = chosen.groupby("subject")["modality"].transform("size") == len(modalities)
                if whole.any():
                    tables.append(_average_modalities(chosen[whole], network, name))
    return pd.concat(tables, ignore_index=True)[list(ENSEMBLE_COLUMNS)]


def _average_members(members: pd.DataFrame) -> pd.DataFrame:
    """One row per network, modality and subject: mean, variance of one draw, member count."""
    model = ["network", "modality"]
    means = members.assign(variance=members["deviation"] ** 2)
    for keys in ([*model, "outer", "subject"], [*model, "subject"]):
        means = (
            means.groupby(keys, sort=True)
            .agg(
                label=("label", "first"),
                probability=("probability", "mean"),
                variance=("variance", "sum"),
                averaged=("label", "size"),
            )
            .reset_index()
        )
        means["variance"] /= means["averaged"] ** 2
    trained = members.groupby(model)["trial"].nunique().rename("num_members")
    return means.join(trained, on=model)


def _average_modalities(models: pd.DataFrame, network: str, name: str) -> pd.DataFrame:
    num_modalities = models["modality"].nunique()
    table = (
        models.groupby("subject", sort=True)
        .agg(
            label=("label", "first"),
            probability=("probability", "mean"),
            variance=("variance", "sum"),
            num_members=("num_members", "sum"),
        )
        .reset_index()
    )
    table["deviation"] = table["variance"] ** 0.5 / num_modalities
    # A mean of values at the edge may pass it by one rounding error.
    table["probability"] = table["probability"].clip(0.0, 1.0)
    return table.assign(network=network, ensemble=name)


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
