"""The choice of the trained models that become ensemble members, on validation folds only."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import pandas as pd

from mgmt_ray.base import MgmtError
from mgmt_ray.selection.predictions import shorten_list

DIVERGED = "diverged"
"""The ``rule`` of a training whose loss became NaN or infinite; it has no weights."""

FALLBACK = "last_epoch"
"""The ``rule`` of a training of which no epoch qualified."""

CHOICE_KEYS = ["network", "modality", "outer_fold"]
"""Hyper-parameters are chosen separately for each value of these columns."""

MEMBER_COLUMNS: tuple[str, ...] = (
    "network",
    "modality",
    "repeat",
    "outer_fold",
    "fold",
    "trial",
    "hyperparameters",
    "rule",
    "epoch",
    "validation_m",
    "weights_sha256",
)
"""One row per trained model; ``hyperparameters`` is JSON, ``validation_m`` M of the kept epoch."""


def choose_members(trials: pd.DataFrame) -> pd.DataFrame:
    """Choose the hyper-parameters of each network, modality and outer split on validation.

    The combination with the most trainings that qualify is chosen (:func:`.epoch_choice.qualifies`;
    the others fell back to their last epoch), of several the one with the highest mean M over folds
    and seeds, on a tie the first: the order in which epochs and ensembles are chosen too. An
    undefined M (a fold without one of the classes) counts as 0, the lowest possible. A combination
    is excluded if one of its trainings diverged. The test set is not used: the table has no such
    column.

    Args:
        trials: :data:`MEMBER_COLUMNS`, one row per finished trial.

    Returns:
        The rows of the chosen combinations, in the order given.

    Raises:
        MgmtError: a column is missing, a fold and seed occurs twice in one combination, the
            combinations of a network, modality and outer split were not trained on the same folds
            and seeds (their means would not be comparable), or a training of each of them diverged.

    Example:
        >>> trials = pd.DataFrame(
        ...     {
        ...         "network": "spottune",
        ...         "modality": "FA",
        ...         "repeat": 0,
        ...         "outer_fold": 0,
        ...         "fold": [0, 1, 0, 1],
        ...         "trial": ["a0", "a1", "b0", "b1"],
        ...         "hyperparameters": ['{"epochs": 5}', '{"epochs": 5}', "{}", "{}"],
        ...         "rule": "best_m",
        ...         "epoch": 10,
        ...         "validation_m": [0.6, 0.7, 0.8, 0.4],
        ...         "weights_sha256": "",
        ...     }
        ... )
        >>> choose_members(trials)["trial"].tolist()
        ['a0', 'a1']
    """
    missing = [name for name in MEMBER_COLUMNS if name not in trials.columns]
    if missing:
        raise MgmtError(f"trials: columns missing: {missing}. Run `mgmt-ray run STUDY` again.")
    table = trials.reset_index(drop=True)
    combination = table["hyperparameters"].map(
        lambda text: json.dumps(json.loads(text), sort_keys=True)
    )
    diverged = table["rule"] == DIVERGED
    keys = [*(table[name] for name in CHOICE_KEYS), combination]
    excluded = diverged.groupby(keys).transform("any")
    _check_not_all_excluded(table, excluded)
    chosen: list[int] = []
    for (network, modality, _), rows in table[~excluded].groupby(CHOICE_KEYS, sort=False):
        candidates = combination.loc[rows.index]
        best = _best_combination(f"{network} {modality}", rows, candidates)
        chosen.extend(rows.index[candidates == best])
    return table.loc[sorted(chosen), list(MEMBER_COLUMNS)].reset_index(drop=True)


def rank_configuration(rules: Sequence[str], ms: Sequence[float]) -> tuple[int, float]:
    """Return the rank of a configuration: trainings that qualify, then mean M; higher is better.

    Args:
        rules: of its trainings, :data:`FALLBACK` where no epoch qualified; a configuration with one
            that is :data:`DIVERGED` is below all others.
        ms: criterion M of each training; NaN counts as 0.

    >>> rank_configuration(["best_m", FALLBACK], [0.6, math.nan])
    (1, 0.3)
    """
    if DIVERGED in rules:
        return -1, 0.0
    mean = sum(0.0 if math.isnan(m) else m for m in ms) / len(ms)
    return sum(rule != FALLBACK for rule in rules), round(mean, 12)  # makes equal means equal


def _best_combination(what: str, rows: pd.DataFrame, combination: pd.Series[str]) -> str:
    """Return the combination of the highest order: trainings that qualify, then mean M."""
    by_combination = rows.groupby(combination, sort=False)
    pairs = {
        str(name): sorted(zip(trained["repeat"], trained["fold"], strict=True))
        for name, trained in by_combination
    }
    _check_balanced(what, pairs)
    ranks = {
        str(name): rank_configuration([*trained["rule"]], [*trained["validation_m"]])
        for name, trained in by_combination
    }
    return max(ranks, key=ranks.__getitem__)  # the first of equal ones


def _check_not_all_excluded(table: pd.DataFrame, excluded: pd.Series[bool]) -> None:
    """Raise where all combinations of a network, modality and outer split are excluded."""
    failed = table[excluded.groupby([table[name] for name in CHOICE_KEYS]).transform("all")]
    if failed.empty:
        return
    models = failed.drop_duplicates(["network", "modality"])
    names = [" ".join(pair) for pair in zip(models["network"], models["modality"], strict=True)]
    trials = failed.loc[failed["rule"] == DIVERGED, "trial"].tolist()
    raise MgmtError(
        f"{shorten_list(names)}: a training of each combination of hyper-parameters diverged "
        f"({shorten_list(trials, 3)}). Lower the study's training.learning_rate (and "
        "agent_learning_rate), or search for one (`mgmt-ray search`)."
    )


def _check_balanced(what: str, pairs: Mapping[str, list[tuple[int, int]]]) -> None:
    """Raise unless each combination has each (seed, fold) once."""
    expected = sorted({pair for trained in pairs.values() for pair in trained})
    uneven = [name for name, trained in pairs.items() if trained != expected]
    if uneven:
        raise MgmtError(
            f"{what}: {shorten_list(uneven, 2)} not trained exactly once on each of the "
            f"{len(expected)} pairs of fold and seed that other combinations have. "
            "Run `mgmt-ray run STUDY` again."
        )
