"""The tables of results beyond metrics and comparisons, as far as they have been made."""

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
    # as many blocks follow as the network has
    "policies": (
        *("trial", "network", "modality", "outer_fold", "fold"),
        *("repeat", "subject", "label", "block_1"),
    ),
}
"""Columns of each table that may be there: ``ensembles/NAME.csv``."""


def read_result_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Those of the tables of :data:`RESULT_TABLES` that are in a folder of ensembles.

    Raises:
        MgmtError: one of them lacks a column, so another version of the program wrote it.
    """
    return {
        name: read_complete_table(folder / f"{name}.csv", columns)
        for name, columns in RESULT_TABLES.items()
        if (folder / f"{name}.csv").exists()
    }


BASELINE_PANEL = "comparison models"
"""Panel of the models that are an ensemble each."""


def merge_baselines(table: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """A table of ensembles in which the comparison models are one, for a panel of all of them."""
    own = table["network"].isin(models)
    return table.assign(ensemble=table["ensemble"].mask(own, BASELINE_PANEL))


def leading_rows(
    table: pd.DataFrame, models: Sequence[str], otherwise: Sequence[str]
) -> pd.Series[bool]:
    """Which rows of a table of ensembles a reader wants first.

    Args:
        table: with the columns network and ensemble.
        models: the comparison models.
        otherwise: ensembles to lead with where none was chosen on validation.
    """
    chosen = table["ensemble"].isin(CHOSEN)
    first = chosen if chosen.any() else table["ensemble"].isin(otherwise)
    return first | table["network"].isin(models)


def chosen_rows(results: Mapping[str, pd.DataFrame], name: str) -> pd.DataFrame:
    """Rows of ``best_ensembles`` or ``forward_selection`` that were taken."""
    table = results[name]
    return table[table["chosen" if name == "best_ensembles" else "kept"] == 1]
