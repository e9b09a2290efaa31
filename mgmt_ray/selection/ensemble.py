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

    Folds and seeds have equal weight within a modality, modalities have equal weight within an
    ensemble (Schmitz et al. 2024, sec. 2.4). ``deviation`` is the standard deviation that one
    policy draw per member would give the ensemble's probability, the members' draws being
    independent: sqrt(Σ wᵢ²·dᵢ²).

    Args:
        member_predictions: a prediction table of one split.
        ensembles: modalities by name; a network that lacks one of them does not get that ensemble.

    Returns:
        :data:`ENSEMBLE_COLUMNS`; by network, the ensembles first, then each modality alone.

    Raises:
        MgmtError: the table is faulty, holds several splits, or the members do not share all
            subjects; it names those that differ.
    """
    check_predictions(member_predictions, "member predictions")
    splits = sorted(member_predictions["split"].unique())
    if len(splits) > 1:
        raise MgmtError(f"member predictions: of several splits {splits}. Average one at a time.")
    _refuse_different_subjects(member_predictions)
    models = _average_members(member_predictions)
    found = list(dict.fromkeys(member_predictions["modality"]))
    wanted = {**ensembles, **{m: (m,) for m in found}}
    tables = []
    for network in dict.fromkeys(member_predictions["network"]):
        own = models[models["network"] == network]
        for name, modalities in wanted.items():
            if set(modalities) <= set(own["modality"]):
                chosen = own[own["modality"].isin(modalities)]
                tables.append(_average_modalities(chosen, network, name))
    return pd.concat(tables, ignore_index=True)[list(ENSEMBLE_COLUMNS)]


def _average_members(members: pd.DataFrame) -> pd.DataFrame:
    """One row per network, modality and subject: mean, variance of one draw, member count."""
    squared = members.assign(variance=members["deviation"] ** 2)
    by_model = squared.groupby(["network", "modality", "subject"], sort=True)
    models = by_model.agg(
        label=("label", "first"),
        probability=("probability", "mean"),
        variance=("variance", "sum"),
        num_members=("trial", "size"),
    ).reset_index()
    models["variance"] /= models["num_members"] ** 2
    return models


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
    """Raise unless every trial, of all networks, predicted the same subjects."""
    everyone = set(members["subject"])
    for trial, rows in members.groupby("trial", sort=True):
        lacking = sorted(everyone - set(rows["subject"]))
        if lacking:
            raise MgmtError(
                f"trial {trial} has no prediction for {name_some(lacking)}, which other members "
                "have. All members must predict the same subjects: delete "
                "ensembles/member_predictions.csv and run `mgmt-ray ensemble STUDY` again."
            )
