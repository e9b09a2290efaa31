"""Which rows of tables of ensembles readers see first."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from mgmt_ray.selection.best_on_validation import BEST_OVERALL, FORWARD_SELECTION

BASELINE_PANEL = "baselines"
"""Name of the figure panel that shows all baselines, each of which is an ensemble of its own."""

CHOSEN = (BEST_OVERALL, FORWARD_SELECTION)
"""Ensembles of each network that were chosen on validation."""


def merge_baselines(table: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Give all baselines the ensemble :data:`BASELINE_PANEL`, so that they share a panel.

    >>> table = pd.DataFrame({"network": ["random", "age_sex"], "ensemble": ["DSC", "age_sex"]})
    >>> list(merge_baselines(table, ["age_sex"])["ensemble"])
    ['DSC', 'baselines']
    """
    is_baseline = table["network"].isin(models)
    return table.assign(ensemble=table["ensemble"].mask(is_baseline, BASELINE_PANEL))


def leading_rows(
    table: pd.DataFrame, models: Sequence[str], otherwise: Sequence[str]
) -> pd.Series[bool]:
    """Return which rows of a table of ensembles are shown first.

    Args:
        table: with the columns network and ensemble.
        models: the baselines, which are always shown.
        otherwise: ensembles to show first if none was chosen on validation.
    """
    is_chosen = table["ensemble"].isin(CHOSEN)
    is_first = is_chosen if is_chosen.any() else table["ensemble"].isin(otherwise)
    return is_first | table["network"].isin(models)


def chosen_rows(results: Mapping[str, pd.DataFrame], name: str) -> pd.DataFrame:
    """Return the rows of ``best_ensembles`` or ``forward_selection`` that were chosen."""
    table = results[name]
    return table[table["chosen" if name == "best_ensembles" else "kept"] == 1]


def merge_copies(
    table: pd.DataFrame, model: Sequence[str] = ("network",), name: str = "ensemble"
) -> pd.DataFrame:
    r"""Give each distinct model one row, named after all of its names.

    Args:
        table: with ``copy_of``; a copy stays where its original is not in the table.
        model: the columns in which a copy and its original are the same.
        name: the column that ``copy_of`` refers to.

    >>> rows = {"network": "random", "ensemble": ["DSC", "best overall"]}
    >>> table = pd.DataFrame(rows | {"copy_of": ["best overall", ""]})
    >>> list(merge_copies(table)["ensemble"])
    ['best overall\n= DSC']
    """
    keys = [*zip(*(table[column] for column in model), table[name], strict=True)]
    originals = [(*key[:-1], of or key[-1]) for key, of in zip(keys, table["copy_of"], strict=True)]
    names: dict[tuple[str, ...], list[str]] = {}
    for key, original in zip(keys, originals, strict=True):
        if original in keys and original != key:
            names.setdefault(original, []).append(key[-1])
    is_merged = [key != of and of in keys for key, of in zip(keys, originals, strict=True)]
    labels = ["\n= ".join((key[-1], *names.get(key, []))) for key in keys]
    return table.assign(**{name: labels})[[not merged for merged in is_merged]]


def by_ensemble(
    metrics: pd.DataFrame, names: Sequence[str]
) -> dict[str, dict[str, Mapping[Hashable, Any]]]:
    """Return these ensembles' rows by network; those that only repeat earlier rows are left out."""
    shown: dict[str, dict[str, Mapping[Hashable, Any]]] = {}
    seen: set[tuple[str, str]] = set()
    for name in names:
        records = metrics[metrics["ensemble"] == name].to_dict("records")
        models = {(row["network"], row["copy_of"] or name) for row in records}
        if not models <= seen:
            shown[name] = {row["network"]: row for row in records}
            seen |= models
    return shown


def chosen_note(row: Mapping[Hashable, Any]) -> str:
    """Return "best" where a row is a network's ensemble that validation chose, else nothing."""
    return "best" if BEST_OVERALL in (row["ensemble"], row["copy_of"]) else ""
