"""The optional tables of a folder of ensembles, and which of their rows readers see first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mgmt_ray.selection.best_on_validation import (
    BEST_COLUMNS,
    BEST_OVERALL,
    FORWARD_COLUMNS,
    FORWARD_SELECTION,
)
from mgmt_ray.selection.predictions import read_complete_table
from mgmt_ray.statistics.calibration import CALIBRATION_COLUMNS
from mgmt_ray.statistics.curves import DECISION_COLUMNS
from mgmt_ray.statistics.mask_effect import MASK_EFFECT_COLUMNS
from mgmt_ray.statistics.operating_points import OPERATING_COLUMNS
from mgmt_ray.statistics.reliability import RELIABILITY_COLUMNS
from mgmt_ray.statistics.slice_classification import (
    BEST_SLICE_COLUMNS,
    CLASSIFICATION_COLUMNS,
)
from mgmt_ray.statistics.slice_overlap import OVERLAP_COLUMNS, SECONDS_COLUMNS
from mgmt_ray.statistics.subgroups import SUBGROUP_COLUMNS
from mgmt_ray.statistics.variance import VARIANCE_COLUMNS

BASELINE_PANEL = "baselines"
"""Name of the figure panel that shows all baselines, each of which is an ensemble of its own."""

CHOSEN = (BEST_OVERALL, FORWARD_SELECTION)
"""Ensembles of each network that were chosen on validation."""

RESULT_TABLES: dict[str, tuple[str, ...]] = {
    "best_ensembles": BEST_COLUMNS,
    "forward_selection": FORWARD_COLUMNS,
    "operating_points": OPERATING_COLUMNS,
    "calibration": CALIBRATION_COLUMNS,
    "reliability": RELIABILITY_COLUMNS,
    "decision": DECISION_COLUMNS,
    "variance": VARIANCE_COLUMNS,
    "subgroups": SUBGROUP_COLUMNS,
    "mask_effect": MASK_EFFECT_COLUMNS,
    "slice_overlap": OVERLAP_COLUMNS,
    "slice_seconds": SECONDS_COLUMNS,
    "slice_classification": CLASSIFICATION_COLUMNS,
    "slice_best": BEST_SLICE_COLUMNS,
    # a column for each further block of the network follows
    "policies": (
        *("trial", "network", "modality", "outer_fold", "fold"),
        *("repeat", "subject", "label", "block_1"),
    ),
}
"""Columns of each table that may exist, ``ensembles/NAME.csv``."""


def read_result_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Read those of :data:`RESULT_TABLES` that exist in a folder of ensembles, by name.

    Raises:
        MgmtError: a table has not all columns, so another version of the program wrote it.
    """
    return {
        name: read_complete_table(folder / f"{name}.csv", columns)
        for name, columns in RESULT_TABLES.items()
        if (folder / f"{name}.csv").exists()
    }


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
