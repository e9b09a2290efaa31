"""Ensembles: members' predictions of the same subjects, averaged by modality and by group.

:func:`ensemble` does it all; :func:`single_models`, :func:`average_modalities` and
:func:`mean_over_splits` are its steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import pandas as pd

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.subject import MODALITY_GROUPS
from mgmt_ray.selection.predictions import check_predictions, shorten_list


def check_member_predictions(members: pd.DataFrame) -> None:
    """Check that averaging these members does not mix subjects or kinds of subjects.

    Raises:
        MgmtError: the table is faulty, holds several kinds of subjects, or members that ought to
            have predicted the same subjects did not; it names those that differ.
    """
    check_predictions(members, "member predictions")
    splits = sorted(members["split"].unique())
    if len(splits) > 1:
        raise MgmtError(f"member predictions: of several splits {splits}. Average each separately.")
    _check_outer_folds(members)
    if splits == ["validation"]:
        _check_validation_coverage(members)
        return
    # Test subjects differ by outer split, and by modality if they need not have all of them;
    # those of an external cohort by modality alone.
    key = ["modality"] if splits == ["external"] else ["outer_fold", "modality"]
    for _, rows in members.groupby(key, sort=True):
        _check_same_subjects(rows)


def _check_same_subjects(members: pd.DataFrame) -> None:
    """Raise unless all of these trials predicted the same subjects."""
    everyone = set(members["subject"])
    for trial, rows in members.groupby("trial", sort=True):
        missing = sorted(everyone - set(rows["subject"]))
        if missing:
            raise MgmtError(
                f"trial {trial} has no prediction for {shorten_list(missing)}, which other members "
                "have. All members must predict the same subjects: delete "
                "ensembles/member_predictions.csv and run `mgmt-ray ensemble STUDY` again."
            )


def _check_outer_folds(members: pd.DataFrame) -> None:
    """Raise unless each network and modality has members in each outer split."""
    all_splits = set(members["outer_fold"])
    for (network, modality), rows in members.groupby(["network", "modality"], sort=True):
        missing = [str(outer) for outer in sorted(all_splits - set(rows["outer_fold"]))]
        if missing:
            raise MgmtError(
                f"{network} {modality}: no member of outer split {shorten_list(missing)}, unlike "
                "other models. Run `mgmt-ray run STUDY` again."
            )


def _check_validation_coverage(members: pd.DataFrame) -> None:
    """Raise unless, in each model, one fold predicts each subject, with equal numbers of members.

    The folds of a model have the same seeds, so there is one member per seed.
    """
    for (network, modality, outer), rows in members.groupby(["network", "modality", "outer_fold"]):
        by_subject = rows.groupby("subject", sort=True)
        num_folds, num_members = by_subject["fold"].nunique(), by_subject.size()
        several_folds = num_folds > 1
        uneven = num_members.index[
            several_folds if several_folds.any() else num_members < num_members.max()
        ]
        if len(uneven):
            raise MgmtError(
                f"{network} {modality}, outer split {outer}: {shorten_list(list(uneven))} not "
                "validated by exactly one fold, with all of its seeds. "
                "Run `mgmt-ray run STUDY` again."
            )
    for (modality, outer), rows in members.groupby(["modality", "outer_fold"]):
        everyone = set(rows["subject"])
        for network, of_network in rows.groupby("network", sort=True):
            missing = sorted(everyone - set(of_network["subject"]))
            if missing:
                raise MgmtError(
                    f"{network!s} {modality}, outer split {outer}: {shorten_list(missing)} not "
                    "validated, unlike in other networks. Run `mgmt-ray run STUDY` again."
                )


ENSEMBLE_COLUMNS: tuple[str, ...] = (
    "network",
    "ensemble",
    "subject",
    "label",
    "probability",
    "probability_std",
    "num_members",
    "prior",
)
"""One row per network, ensemble and subject; ``num_members`` counts the trained models in it,
``prior`` is the mean of their priors, weighted like their probabilities."""

SPLIT_COLUMNS: tuple[str, ...] = (*ENSEMBLE_COLUMNS, "outer_fold")
"""The same before outer splits are averaged: one row per outer split that predicts a subject, with
``num_members`` of that split. Calibrators are fitted and applied to these."""


def group_ensembles(modalities: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the groups that have modalities in a study, and all combinations of these groups.

    Args:
        modalities: the study's; those without a group (several channels) are ignored.

    Returns:
        Modalities by ensemble, named and ordered as in Schmitz et al. 2024, tables 2 to 5.

    Example:
        >>> for name, modalities in group_ensembles(["FA", "T1", "T2"]).items():
        ...     print(name, modalities)
        DTI ('FA',)
        Struct ('T2', 'T1')
        DTI+Struct ('FA', 'T2', 'T1')
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


BySplit: TypeAlias = Mapping[int, tuple[str, ...]]
"""The modalities of an ensemble, at least one, by outer split."""


@dataclass(frozen=True, slots=True, eq=False)
class SingleModels:
    """Predictions of one network in one outer split, by a model per modality.

    Attributes:
        probability: subjects by modalities; NaN where the modality's model did not predict.
        variance: of the probability with one policy draw per member; same shape.
        prior: mean prior of the members; same shape.
        label: by subject.
        num_members: by modality.
    """

    probability: pd.DataFrame
    variance: pd.DataFrame
    prior: pd.DataFrame
    label: pd.Series[int]
    num_members: pd.Series[int]

    @property
    def modalities(self) -> tuple[str, ...]:
        """In the order of the prediction table."""
        return tuple(self.probability.columns)


def ensemble(
    member_predictions: pd.DataFrame, ensembles: Mapping[str, tuple[str, ...]]
) -> pd.DataFrame:
    """Average members into one model per modality, and those into ensembles.

    Folds and seeds have equal weight within a modality and outer split, modalities have equal
    weight within an ensemble, outer splits that predict a subject have equal weight (Schmitz et al.
    2024, sec. 2.4). ``probability_std`` is the standard deviation that one policy draw per member
    would give the ensemble's probability, the members' draws being independent: sqrt(Σ wᵢ²·dᵢ²).

    Test subjects have all modalities. Training subjects, predicted by the members that validated
    on them, and those of an external cohort may miss some: an ensemble covers the subjects that
    have all of its modalities.

    Args:
        member_predictions: a prediction table, all of it "test", "validation" or "external".
        ensembles: modalities by name; networks without one of them do not get that ensemble.

    Returns:
        :data:`ENSEMBLE_COLUMNS`; by network, the ensembles first, then each single modality.

    Raises:
        MgmtError: the table is faulty, holds several kinds of subjects, or members that should
            have predicted the same subjects did not; it lists the differing subjects.

    Example:
        >>> members = pd.DataFrame(
        ...     {
        ...         "subject": ["S1", "S2"] * 2,
        ...         "split": "test",
        ...         "outer_fold": 0,
        ...         "fold": 0,
        ...         "network": "spottune",
        ...         "modality": ["FA", "FA", "RD", "RD"],
        ...         "trial": ["a", "a", "b", "b"],
        ...         "probability": [0.25, 0.5, 0.75, 1.0],
        ...         "probability_std": 0.0,
        ...         "label": [0, 1] * 2,
        ...         "weights_sha256": "",
        ...         "prior": 0.5,
        ...     }
        ... )
        >>> averaged = ensemble(members, {"DTI": ("FA", "RD")})
        >>> averaged[averaged["ensemble"] == "DTI"]["probability"].tolist()
        [0.5, 0.75]
    """
    models = single_models(member_predictions)
    single = {m: (m,) for m in dict.fromkeys(member_predictions["modality"])}
    by_network = {
        network: complete_ensembles(splits, {**ensembles, **single})
        for network, splits in models.items()
    }
    return mean_over_splits(average_modalities(models, by_network))


def single_models(member_predictions: pd.DataFrame) -> dict[str, dict[int, SingleModels]]:
    """Average folds and seeds into one model per network, outer split and modality.

    Arguments and errors as of :func:`ensemble`.
    """
    check_member_predictions(member_predictions)
    members = member_predictions.assign(variance=member_predictions["probability_std"] ** 2)
    return {
        str(network): {
            int(str(outer)): _split_models(rows)
            for outer, rows in of_network.groupby("outer_fold", sort=True)
        }
        for network, of_network in members.groupby("network", sort=False)
    }


def _split_models(members: pd.DataFrame) -> SingleModels:
    modalities = list(dict.fromkeys(members["modality"]))
    by_model = members.groupby(["subject", "modality"], sort=True)
    means = by_model[["probability", "variance", "prior"]].mean()
    means["variance"] /= by_model.size()
    wide = {name: means[name].unstack("modality")[modalities] for name in means.columns}
    return SingleModels(
        **wide,
        label=members.groupby("subject", sort=True)["label"].first(),
        num_members=members.groupby("modality")["trial"].nunique(),
    )


def complete_ensembles(
    models: Mapping[int, SingleModels], ensembles: Mapping[str, tuple[str, ...]]
) -> dict[str, BySplit]:
    """Return the ensembles for which a network has all modalities in each outer split, by name."""
    return {
        name: dict.fromkeys(models, chosen)
        for name, chosen in ensembles.items()
        if all(set(chosen) <= set(split.modalities) for split in models.values())
    }


def average_modalities(
    models: Mapping[str, Mapping[int, SingleModels]],
    ensembles: Mapping[str, Mapping[str, BySplit]],
) -> pd.DataFrame:
    """Average modalities into ensembles, each for the subjects that have all of its modalities.

    Returns:
        :data:`SPLIT_COLUMNS`; ensembles without subjects are omitted.
    """
    tables = [
        _average(models[network][outer], list(chosen)).assign(
            network=network, ensemble=name, outer_fold=outer
        )
        for network, named in ensembles.items()
        for name, by_split in named.items()
        for outer, chosen in by_split.items()
    ]
    not_empty = [table for table in tables if len(table)]
    return pd.concat(not_empty, ignore_index=True)[list(SPLIT_COLUMNS)]


def _average(models: SingleModels, modalities: list[str]) -> pd.DataFrame:
    probability = models.probability[modalities].dropna()
    subjects = probability.index
    variance = models.variance.loc[subjects, modalities].sum(axis=1)
    return pd.DataFrame(
        {
            "subject": subjects,
            "label": models.label.loc[subjects],
            # A mean of values at 0 or 1 may exceed them by a rounding error.
            "probability": probability.mean(axis=1).clip(0.0, 1.0),
            "probability_std": variance**0.5 / len(modalities),
            "num_members": int(models.num_members[modalities].sum()),
            "prior": models.prior.loc[subjects, modalities].mean(axis=1),
        }
    )


def mean_over_splits(predictions: pd.DataFrame) -> pd.DataFrame:
    """Average each subject over the outer splits that predict it.

    Returns:
        :data:`ENSEMBLE_COLUMNS`; the ensembles in the order given, their subjects sorted.
    """
    keys = ["network", "ensemble"]
    means = (
        predictions.assign(variance=predictions["probability_std"] ** 2)
        .groupby([*keys, "subject"], sort=False)
        .agg(
            label=("label", "first"),
            probability=("probability", "mean"),
            variance=("variance", "sum"),
            num_splits=("label", "size"),
            prior=("prior", "mean"),
        )
        .reset_index()
    )
    means["probability_std"] = means["variance"] ** 0.5 / means["num_splits"]
    num_members = (
        predictions.drop_duplicates([*keys, "outer_fold"]).groupby(keys)["num_members"].sum()
    )
    means = means.join(num_members, on=keys)
    order = means.groupby(keys, sort=False).ngroup()
    ordered = means.assign(order=order).sort_values(["order", "subject"], ignore_index=True)
    return ordered[list(ENSEMBLE_COLUMNS)]
