"""The best ensemble and the best modalities of each network, chosen on validation only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mgmt_ray.selection.ensembles import (
    BySplit,
    SingleModels,
    average_modalities,
    complete_ensembles,
    single_models,
)
from mgmt_ray.selection.epoch_choice import qualifies
from mgmt_ray.study.baseline_config import BASELINES
from mgmt_ray.training.metrics import auc, criterion_m, sensitivity, specificity, unit_weights

BEST_OVERALL = "best overall"
FORWARD_SELECTION = "forward selection"

_SCORES = ("validation_m", "validation_sen", "validation_spe", "validation_auc", "num_subjects")
BEST_COLUMNS: tuple[str, ...] = ("network", "outer_fold", "ensemble", *_SCORES, "chosen")
"""One row per network, outer split and group ensemble; ``chosen`` is 1 for the best, else 0."""

FORWARD_COLUMNS: tuple[str, ...] = ("network", "outer_fold", "step", "modality", *_SCORES, "kept")
"""One row per step, with the scores of the ensemble after adding the step's modality; ``kept`` is
0 for a last step without improvement."""


@dataclass(frozen=True, slots=True)
class ValidationScore:
    """Metrics of an ensemble on training subjects, predicted out of fold, at threshold 0.5.

    Attributes:
        sen: sensitivity, in [0, 1]; NaN without a methylated subject.
        spe: specificity, in [0, 1]; NaN without an unmethylated one.
        auc: in [0, 1]; NaN where one of the classes is missing.

    Example:
        >>> a, b = ValidationScore(0.6, 0.6, 0.7, 80), ValidationScore(0.9, 0.4, 0.8, 80)
        >>> a.order > b.order  # b has the higher M, but does not qualify
        True
    """

    sen: float
    spe: float
    auc: float
    num_subjects: int

    @property
    def order(self) -> tuple[bool, float, float]:
        """Sort key, higher is better: whether it qualifies, then M, then AUC; NaN is lowest."""
        # Rounded, so that on a tie in exact arithmetic the earlier one is chosen.
        m, auc = (
            -1.0 if math.isnan(x) else round(x, 12)
            for x in (criterion_m(self.sen, self.spe), self.auc)
        )
        return qualifies(self.sen, self.spe), m, auc

    @property
    def columns(self) -> dict[str, float]:
        """Values by column of the tables."""
        m = criterion_m(self.sen, self.spe)
        return dict(zip(_SCORES, (m, self.sen, self.spe, self.auc, self.num_subjects), strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """Ensembles chosen on validation, by network and outer split.

    Attributes:
        best: :data:`BEST_COLUMNS`.
        forward: :data:`FORWARD_COLUMNS`.
        modalities: of the chosen ensembles, by network, ensemble name and outer split.
    """

    best: pd.DataFrame
    forward: pd.DataFrame
    modalities: dict[str, dict[str, BySplit]]


def primary_ensembles(best: pd.DataFrame) -> dict[str, list[str]]:
    """Return the best overall ensemble of each network in each outer split, in their order.

    Args:
        best: :data:`BEST_COLUMNS`; rows of baselines, whose choice is no network's, are ignored.

    >>> rows = [("spottune", 0, "DSC", 1), ("spottune", 0, "DTI", 0), ("first_order", 0, "DTI", 1)]
    >>> primary_ensembles(
    ...     pd.DataFrame(rows, columns=["network", "outer_fold", "ensemble", "chosen"])
    ... )
    {'spottune': ['DSC']}
    """
    is_primary = (best["chosen"] == 1) & ~best["network"].isin(BASELINES)
    chosen = best[is_primary].sort_values("outer_fold", kind="stable")
    return {
        str(network): rows["ensemble"].tolist()
        for network, rows in chosen.groupby("network", sort=False)
    }


@dataclass(frozen=True, slots=True, eq=False)
class Ensembles:
    """All ensembles of a study, including those chosen on validation.

    Attributes:
        validation: :data:`.ensembles.SPLIT_COLUMNS` of training subjects, out of fold.
        test: :data:`.ensembles.SPLIT_COLUMNS` of test subjects.
        choices: the chosen ensembles, with the scores of all candidates.
    """

    validation: pd.DataFrame
    test: pd.DataFrame
    choices: Choices


def make_ensembles(
    validation_members: pd.DataFrame,
    test_members: pd.DataFrame,
    groups: Mapping[str, tuple[str, ...]],
) -> Ensembles:
    """Build group ensembles, chosen ensembles and single modalities of each network and split.

    Choices are made from ``validation_members`` before ``test_members`` is read. In outer split o,
    ``best overall`` is the group ensemble chosen in o, ``forward selection`` the mean of the
    modalities selected in o. A baseline model has one ensemble, of its own name; where it has
    modalities, these are what would be its ``best overall``.

    Args:
        validation_members: a prediction table, all "validation": each training subject predicted
            by the members that did not train on it.
        test_members: a prediction table of the same members, all "test".
        groups: modalities by ensemble (see :func:`.ensembles.group_ensembles`).

    Raises:
        MgmtError: as :func:`.ensembles.ensemble`, for either table.
    """
    choices = choose_ensembles(single_models(validation_members), groups)
    validation = add_chosen_ensembles(validation_members, groups, choices)
    return Ensembles(validation, add_chosen_ensembles(test_members, groups, choices), choices)


def choose_ensembles(
    models: Mapping[str, Mapping[int, SingleModels]], groups: Mapping[str, tuple[str, ...]]
) -> Choices:
    """Choose the best group ensemble and select modalities, per network and outer split.

    All candidates of a network and outer split are scored on the same subjects: those with all of
    the network's modalities.

    Args:
        models: by network and outer split; predictions of training subjects, out of fold.
        groups: modalities by ensemble. For a network without any of them, the candidates are its
            single modalities.
    """
    best: list[dict[str, object]] = []
    forward: list[dict[str, object]] = []
    modalities: dict[str, dict[str, BySplit]] = {}
    for network, splits in models.items():
        if all(split.modalities == (network,) for split in splits.values()):
            continue  # a baseline model
        best_by_split: dict[int, tuple[str, ...]] = {}
        forward_by_split: dict[int, tuple[str, ...]] = {}
        for outer, split in splits.items():
            key = {"network": network, "outer_fold": outer}
            complete = split.probability.dropna()
            labels = split.label.loc[complete.index].to_numpy(dtype=np.int64)
            best_by_split[outer], rows = _choose_best(_candidates(split, groups), complete, labels)
            best += [key | row for row in rows]
            if network in BASELINES:
                continue
            forward_by_split[outer], rows = _select_forward(split.modalities, complete, labels)
            forward += [key | row for row in rows]
        modalities[network] = {BEST_OVERALL: best_by_split, FORWARD_SELECTION: forward_by_split}
    return Choices(
        pd.DataFrame(best, columns=list(BEST_COLUMNS)),
        pd.DataFrame(forward, columns=list(FORWARD_COLUMNS)),
        modalities,
    )


def _candidates(
    models: SingleModels, groups: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    available = set(models.modalities)
    present = {name: chosen for name, chosen in groups.items() if set(chosen) <= available}
    return present or {modality: (modality,) for modality in models.modalities}


def _choose_best(
    candidates: Mapping[str, tuple[str, ...]], probability: pd.DataFrame, labels: np.ndarray
) -> tuple[tuple[str, ...], list[dict[str, object]]]:
    """Return the candidate of the highest order, the earlier on a tie, and a row for each."""
    scores = {name: _score(m, probability, labels) for name, m in candidates.items()}
    chosen = max(scores, key=lambda name: scores[name].order)  # the first of equal ones
    rows: list[dict[str, object]] = [
        {"ensemble": name, **score.columns, "chosen": int(name == chosen)}
        for name, score in scores.items()
    ]
    return candidates[chosen], rows


def _select_forward(
    modalities: Sequence[str], probability: pd.DataFrame, labels: np.ndarray
) -> tuple[tuple[str, ...], list[dict[str, object]]]:
    """Select modalities greedily (Caruana et al. 2004, without replacement), with a row per step.

    Start with the best modality, add the one that improves the ensemble most, the earlier on a tie,
    and end when none improves it.
    """
    selected: tuple[str, ...] = ()
    current: ValidationScore | None = None
    rows: list[dict[str, object]] = []
    while len(selected) < len(modalities):
        remaining = [m for m in modalities if m not in selected]
        scores = {m: _score((*selected, m), probability, labels) for m in remaining}
        added = max(scores, key=lambda m: scores[m].order)  # the first of equal ones
        kept = current is None or scores[added].order > current.order
        step = {"step": len(rows) + 1, "modality": added}
        rows.append({**step, **scores[added].columns, "kept": int(kept)})
        if not kept:
            break
        selected, current = (*selected, added), scores[added]
    return selected, rows


def _score(
    modalities: tuple[str, ...], probability: pd.DataFrame, labels: np.ndarray
) -> ValidationScore:
    means = probability[list(modalities)].to_numpy(dtype=float).mean(axis=1)
    sample = unit_weights(len(labels))
    sen, spe, area_under_roc = (
        float(metric(labels, means, sample)[0]) if len(labels) else float("nan")
        for metric in (sensitivity, specificity, auc)
    )
    return ValidationScore(sen, spe, area_under_roc, len(labels))


def add_chosen_ensembles(
    members: pd.DataFrame, groups: Mapping[str, tuple[str, ...]], choices: Choices
) -> pd.DataFrame:
    """Average members into ensembles, including those chosen on validation.

    Returns:
        :data:`.ensembles.SPLIT_COLUMNS`; per network groups, chosen ensembles, single modalities.
    """
    models = single_models(members)
    single = {m: (m,) for m in dict.fromkeys(members["modality"])}
    ensembles = {
        network: {
            **complete_ensembles(splits, groups),
            **choices.modalities.get(network, {}),
            **complete_ensembles(splits, single),
        }
        for network, splits in models.items()
    }
    for baseline in (name for name in BASELINES if name in choices.modalities):
        ensembles[baseline] = {baseline: choices.modalities[baseline][BEST_OVERALL]}
    return average_modalities(models, ensembles)
