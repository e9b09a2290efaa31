"""The tables of results beyond metrics and comparisons, as far as they have been made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mgmt_ray.base import MgmtError
from mgmt_ray.selection.choices import BEST_OVERALL, FORWARD_SELECTION
from mgmt_ray.selection.predictions import read_table

CHOSEN = (BEST_OVERALL, FORWARD_SELECTION)
"""Ensembles of each network that were chosen on validation."""

_BOUNDS = ("", "_low", "_high")
_SCORES = ("validation_m", "validation_sen", "validation_spe", "validation_auc", "num_subjects")
_OF_ENSEMBLE = ("network", "ensemble")


def _with_bounds(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}{bound}" for name in names for bound in _BOUNDS)


FURTHER: dict[str, tuple[str, ...]] = {
    "best_ensembles": ("network", "outer", "ensemble", *_SCORES, "chosen"),
    "forward_selection": ("network", "outer", "step", "modality", *_SCORES, "kept"),
    "operating_points": (
        *_OF_ENSEMBLE,
        "point",
        "threshold",
        *_with_bounds("sen", "spe", "ppv", "npv"),
    ),
    "calibration": (
        *_OF_ENSEMBLE,
        "version",
        "temperature",
        "prior_shift",
        *_with_bounds("brier", "slope", "intercept", "intercept_at_slope_1"),
        "ece",
        "num_subjects",
    ),
    "reliability": (
        *_OF_ENSEMBLE,
        "version",
        "bin",
        "count",
        "mean_probability",
        "share_methylated",
        "low",
        "high",
    ),
    "decision": (*_OF_ENSEMBLE, "threshold", "net_benefit", "treat_all"),
    "variance": (*_OF_ENSEMBLE, "source", "num", "auc_deviation"),
    "subgroups": (
        "attribute",
        "level",
        *_OF_ENSEMBLE,
        "num_subjects",
        "num_methylated",
        *_with_bounds("auc", "sen", "spe", "brier"),
    ),
    "policies": (
        "trial",
        "network",
        "modality",
        "outer",
        "fold",
        "seed",
        "subject",
        "label",
        "block_1",
    ),
}
"""Columns of each table that may be there: ``ensembles/NAME.csv``."""

_TEXT = ("point", "version", "source", "attribute", "level")


def read_further(folder: Path) -> dict[str, pd.DataFrame]:
    """Those of the tables of :data:`FURTHER` that are in a folder of ensembles.

    Raises:
        MgmtError: one of them lacks a column, so another version of the program wrote it.
    """
    return {
        name: read_whole_table(folder / f"{name}.csv", columns)
        for name, columns in FURTHER.items()
        if (folder / f"{name}.csv").exists()
    }


def read_whole_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A table of results that has all of these columns.

    Raises:
        MgmtError: it is not there, or lacks a column.
    """
    command = "mgmt-ray ensemble STUDY"
    table = read_table(path, f"{command} --out {path.parents[1]}")
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise MgmtError(
            f"{path}: no column {', '.join(missing)}, so another version of mgmt-ray wrote it. "
            f"Delete it and run `{command}` again."
        )
    return table.astype({name: str for name in _TEXT if name in table.columns})


COMPARISON_PANEL = "comparison models"
"""Panel of the models that are an ensemble each."""


def with_models_together(table: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """A table of ensembles in which the comparison models are one, for a panel of all of them."""
    own = table["network"].isin(models)
    return table.assign(ensemble=table["ensemble"].mask(own, COMPARISON_PANEL))


def leading(
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


def of_chosen(results: Mapping[str, pd.DataFrame], name: str) -> pd.DataFrame:
    """Rows of ``best_ensembles`` or ``forward_selection`` that were taken."""
    table = results[name]
    return table[table["chosen" if name == "best_ensembles" else "kept"] == 1]
