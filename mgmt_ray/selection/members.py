"""Which trained models become members of the ensembles: chosen on validation folds only."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pandas as pd

from mgmt_ray.base import MgmtError
from mgmt_ray.selection.predictions import shorten_list

DIVERGED = "diverged"
"""The ``rule`` of a training whose loss was no longer a number; it has no weights to choose."""

CHOICE_KEYS = ["network", "modality", "outer_fold"]
"""Columns of what hyper-parameters are chosen for."""

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
"""One row per trained model; ``hyperparameters`` is JSON text, ``validation_m`` the kept M."""


def choose_members(trials: pd.DataFrame) -> pd.DataFrame:
    """Keep, by network, modality and outer split, the hyper-parameters with the best validation M.

    The mean is over folds and seeds; on a tie the combination that comes first stays. An
    undefined M (a fold without one of the classes) counts as 0, the lowest there is. A combination
    of which one training diverged is out. Nothing of the test set is looked at: the table has no
    such column.

    Args:
        trials: :data:`MEMBER_COLUMNS`, one row per finished trial.

    Returns:
        The rows of the chosen combinations, in the order given.

    Raises:
        MgmtError: a column is missing, a fold and seed appears twice in one combination, or the
            combinations of one network, modality and outer split were not trained on the same folds
            and seeds (their means would not compare), or of each of them a training diverged.
    """
    missing = [name for name in MEMBER_COLUMNS if name not in trials.columns]
    if missing:
        raise MgmtError(f"trials: columns missing: {missing}. Run `mgmt-ray run STUDY` again.")
    table = trials.reset_index(drop=True)
    combination = table["hyperparameters"].map(
        lambda text: json.dumps(json.loads(text), sort_keys=True)
    )
    diverged = table["rule"] == DIVERGED
    out = diverged.groupby([*(table[name] for name in CHOICE_KEYS), combination]).transform("any")
    _check_any_left(table, out)
    keep: list[int] = []
    for (network, modality, _), rows in table[~out].groupby(CHOICE_KEYS, sort=False):
        own = combination.loc[rows.index]
        keep.extend(rows.index[own == _best(f"{network} {modality}", rows, own)])
    return table.loc[sorted(keep), list(MEMBER_COLUMNS)].reset_index(drop=True)


def _best(what: str, rows: pd.DataFrame, combination: pd.Series[str]) -> str:
    """The combination with the highest mean M."""
    by_combination = rows.groupby(combination, sort=False)
    pairs = {
        str(name): sorted(zip(trained["repeat"], trained["fold"], strict=True))
        for name, trained in by_combination
    }
    _check_balanced(what, pairs)
    mean_m = by_combination["validation_m"].agg(lambda m: m.fillna(0.0).mean())
    # idxmax returns the first of equal values; rounding makes equal means equal.
    return str(mean_m.round(12).idxmax())


def _check_any_left(table: pd.DataFrame, out: pd.Series[bool]) -> None:
    """Raise where every combination of a network, modality and outer split is out."""
    lost = table[out.groupby([table[name] for name in CHOICE_KEYS]).transform("all")]
    if lost.empty:
        return
    own = lost.drop_duplicates(["network", "modality"])
    names = [" ".join(pair) for pair in zip(own["network"], own["modality"], strict=True)]
    trials = lost.loc[lost["rule"] == DIVERGED, "trial"].tolist()
    raise MgmtError(
        f"{shorten_list(names)}: of every combination of hyper-parameters a training diverged "
        f"({shorten_list(trials, 3)}). Lower training.learning_rate (and agent_learning_rate) of "
        "the "
        "study, or put the old and a lower one into its sweep, which keeps what is trained already."
    )


def _check_balanced(what: str, pairs: Mapping[str, list[tuple[int, int]]]) -> None:
    """Raise unless every combination has each (seed, fold), once."""
    everything = sorted({pair for own in pairs.values() for pair in own})
    uneven = [name for name, own in pairs.items() if own != everything]
    if uneven:
        raise MgmtError(
            f"{what}: {shorten_list(uneven, 2)} not trained exactly once on each of the "
            f"{len(everything)} folds and seeds that the others have. "
            "Run `mgmt-ray run STUDY` again."
        )
