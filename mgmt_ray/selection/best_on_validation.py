"""Which ensemble, and which modalities, a network is best with: chosen on validation alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mgmt_ray.selection.criterion import qualifies
from mgmt_ray.selection.ensembles import (
    BySplit,
    SingleModels,
    average_modalities,
    complete_ensembles,
    single_models,
)
from mgmt_ray.training.metrics import auc, criterion_m, sensitivity, specificity, unit_weights

BEST_OVERALL = "best overall"
FORWARD_SELECTION = "forward selection"

_SCORES = ("validation_m", "validation_sen", "validation_spe", "validation_auc", "num_subjects")
BEST_COLUMNS: tuple[str, ...] = ("network", "outer_fold", "ensemble", *_SCORES, "chosen")
"""One row per network, outer split and group ensemble; ``chosen`` is 1 for one of them, else 0."""

FORWARD_COLUMNS: tuple[str, ...] = ("network", "outer_fold", "step", "modality", *_SCORES, "kept")
"""One row per step, with the scores of the ensemble that the step's modality would make; ``kept``
is 0 for the last step where it improved nothing."""


@dataclass(frozen=True, slots=True)
class ValidationScore:
    """How well an ensemble tells training subjects, predicted out of fold, at threshold 0.5.

    Attributes:
        sen: sensitivity, in [0, 1]; NaN without a methylated subject.
        spe: specificity, in [0, 1]; NaN without an unmethylated one.
        auc: in [0, 1]; NaN where one of the classes is missing.
        num_subjects: on whom.
    """

    sen: float
    spe: float
    auc: float
    num_subjects: int

    @property
    def order(self) -> tuple[bool, float, float]:
        """Higher is better: qualifies (see ``criterion``), then M, then AUC; NaN is lowest."""
        # Equal in exact arithmetic must be equal here, so that the earlier one stays.
        m, area = (
            -1.0 if math.isnan(x) else round(x, 12)
            for x in (criterion_m(self.sen, self.spe), self.auc)
        )
        return qualifies(self.sen, self.spe), m, area

    @property
    def columns(self) -> dict[str, float]:
        """As a row of the tables has it."""
        m = criterion_m(self.sen, self.spe)
        return dict(zip(_SCORES, (m, self.sen, self.spe, self.auc, self.num_subjects), strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """What validation chose, by network and outer split.

    Attributes:
        best: :data:`BEST_COLUMNS`.
        forward: :data:`FORWARD_COLUMNS`.
        modalities: of the chosen ensembles, by network, ensemble name and outer split.
    """

    best: pd.DataFrame
    forward: pd.DataFrame
    modalities: dict[str, dict[str, BySplit]]


@dataclass(frozen=True, slots=True, eq=False)
class Ensembles:
    """All ensembles of a study, those that validation chose among them.

    Attributes:
        validation: ``ensemble.SPLIT_COLUMNS`` of training subjects, out of fold.
        test: ``ensemble.SPLIT_COLUMNS`` of test subjects.
        choices: what was chosen, and from what.
    """

    validation: pd.DataFrame
    test: pd.DataFrame
    choices: Choices


def make_ensembles(
    validation_members: pd.DataFrame,
    test_members: pd.DataFrame,
    groups: Mapping[str, tuple[str, ...]],
) -> Ensembles:
    """Groups, chosen ensembles and single modalities of every network, by outer split.

    Choices are made from ``validation_members`` before ``test_members`` is looked at. In outer
    split o, ``best overall`` is the group ensemble chosen in o, ``forward selection`` the mean of
    the modalities selected in o. A comparison model, whose network is its modality, has itself.

    Args:
        validation_members: a prediction table, all "validation": each training subject by the
            members that did not train on it.
        test_members: a prediction table of the same members, all "test".
        groups: modalities by ensemble (see :func:`.ensemble.group_ensembles`).

    Raises:
        MgmtError: as :func:`.ensemble.ensemble`, for either table.
    """
    choices = choose(single_models(validation_members), groups)
    validation = add_chosen_ensembles(validation_members, groups, choices)
    return Ensembles(validation, add_chosen_ensembles(test_members, groups, choices), choices)


def choose(
    models: Mapping[str, Mapping[int, SingleModels]], groups: Mapping[str, tuple[str, ...]]
) -> Choices:
    """Choose the best group ensemble and select modalities, per network and outer split.

    All candidates of a network and outer split are scored on the same subjects: those with all of
    the network's modalities.

    Args:
        models: of training subjects, out of fold; by network and outer split.
        groups: modalities by ensemble. A network that has none of them chooses among its single
            modalities.
    """
    best: list[dict[str, object]] = []
    forward: list[dict[str, object]] = []
    modalities: dict[str, dict[str, BySplit]] = {}
    for network, splits in models.items():
        if all(own.modalities == (network,) for own in splits.values()):
            continue
        of_best: dict[int, tuple[str, ...]] = {}
        of_forward: dict[int, tuple[str, ...]] = {}
        for outer, own in splits.items():
            where = {"network": network, "outer_fold": outer}
            common = own.probability.dropna()
            labels = own.label.loc[common.index].to_numpy(dtype=np.int64)
            of_best[outer], rows = _best(_candidates(own, groups), common, labels)
            best += [where | row for row in rows]
            of_forward[outer], rows = _select_forward(own.modalities, common, labels)
            forward += [where | row for row in rows]
        modalities[network] = {BEST_OVERALL: of_best, FORWARD_SELECTION: of_forward}
    return Choices(
        pd.DataFrame(best, columns=list(BEST_COLUMNS)),
        pd.DataFrame(forward, columns=list(FORWARD_COLUMNS)),
        modalities,
    )


def _candidates(
    models: SingleModels, groups: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    own = {name: chosen for name, chosen in groups.items() if set(chosen) <= set(models.modalities)}
    return own or {modality: (modality,) for modality in models.modalities}


def _best(
    candidates: Mapping[str, tuple[str, ...]], probability: pd.DataFrame, labels: np.ndarray
) -> tuple[tuple[str, ...], list[dict[str, object]]]:
    """The candidate of the highest order, the earlier on a tie, and a row for each."""
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
    """Greedy forward selection (Caruana et al. 2004, without replacement), and its steps.

    It starts with the best modality, adds the one that improves the mean most, the earlier on a
    tie, and ends when none improves it.
    """
    selected: tuple[str, ...] = ()
    reached: ValidationScore | None = None
    rows: list[dict[str, object]] = []
    while len(selected) < len(modalities):
        left = [m for m in modalities if m not in selected]
        scores = {m: _score((*selected, m), probability, labels) for m in left}
        added = max(scores, key=lambda m: scores[m].order)  # the first of equal ones
        kept = reached is None or scores[added].order > reached.order
        step = {"step": len(rows) + 1, "modality": added}
        rows.append({**step, **scores[added].columns, "kept": int(kept)})
        if not kept:
            break
        selected, reached = (*selected, added), scores[added]
    return selected, rows


def _score(
    modalities: tuple[str, ...], probability: pd.DataFrame, labels: np.ndarray
) -> ValidationScore:
    means = probability[list(modalities)].to_numpy(dtype=float).mean(axis=1)
    sample = unit_weights(len(labels))
    sen, spe, area = (
        float(metric(labels, means, sample)[0]) if len(labels) else float("nan")
        for metric in (sensitivity, specificity, auc)
    )
    return ValidationScore(sen, spe, area, len(labels))


def add_chosen_ensembles(
    members: pd.DataFrame, groups: Mapping[str, tuple[str, ...]], choices: Choices
) -> pd.DataFrame:
    """Ensembles of members, those that validation chose among them.

    Args:
        members: a prediction table; all of the members, or a part.
        groups: modalities by ensemble.
        choices: of the whole study.

    Returns:
        ``ensemble.SPLIT_COLUMNS``; per network groups, chosen ensembles, single modalities.
    """
    models = single_models(members)
    alone = {m: (m,) for m in dict.fromkeys(members["modality"])}
    wanted = {
        network: {
            **complete_ensembles(own, groups),
            **choices.modalities.get(network, {}),
            **complete_ensembles(own, alone),
        }
        for network, own in models.items()
    }
    return average_modalities(models, wanted)
