"""Which rows of tables of ensembles readers see first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
