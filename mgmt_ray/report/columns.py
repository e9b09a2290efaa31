"""The columns of the report's tables: heading and format of each value of the tables of results."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeAlias

import pandas as pd

from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report.html_table import DASH, Table, number, p_value, with_interval
from mgmt_ray.report.summary import chance_cell
from mgmt_ray.training.metrics import METRIC_LABELS

Row: TypeAlias = Mapping[Hashable, Any]
Cell: TypeAlias = Callable[[Row], str]
"""The text of a cell, from a row of a table of results."""


def text(column: str) -> Cell:
    """Return the cells that hold a value as it is."""
    return lambda row: str(row[column])


def rounded(column: str, digits: int = 3) -> Cell:
    """Return the cells that hold a number with this many decimals."""
    return lambda row: number(row[column], digits)


def interval(column: str) -> Cell:
    """Return the cells that hold a value and its 95 % interval."""
    return lambda row: with_interval(row, column)


def p(column: str) -> Cell:
    """Return the cells that hold a p-value."""
    return lambda row: p_value(row[column])


def network_name(row: Row) -> str:
    """Return the displayed name of a row's network or baseline."""
    return network_label(row["network"])


def ensemble_or_dash(row: Row) -> str:
    """Return a row's ensemble; a dash for a baseline, whose ensemble has its name."""
    return DASH if row["network"] == row["ensemble"] else str(row["ensemble"])


def subjects(row: Row) -> str:
    """Return a row's number of subjects, with the methylated in parentheses."""
    return f"{row['num_subjects']} ({row['num_methylated']})"


_TEXTS = {
    "ensemble": "Ensemble",
    "num_members": "Models",
    "num_subjects": "Subjects",
    "num_methylated": "Methylated",
    "outer_fold": "Split",
    "fold": "Fold",
    "repeat": "Repeat",
    "step": "Step",
    "trial": "Trial",
    "modality": "Modality",
    "rule": "Rule",
    "epoch": "Epoch",
    "attribute": "Attribute",
    "level": "Level",
    "version": "Probabilities",
    "comparison": "Ensemble",
    "num_folds": "Folds",
}
_INTERVALS = {
    "auc": "AUC",
    "ap": "AP",
    "sen": "SEN",
    "spe": "SPE",
    "ppv": "PPV",
    "npv": "NPV",
    "brier": "Brier",
    "slope": "Slope",
    "intercept": "Intercept\n(with the slope)",
    "intercept_at_slope_1": "Calibration\nin the large",
    "auc_difference": "Δ AUC",
    "ap_difference": "Δ AP",
    "brier_difference": "Δ Brier",
    "difference": "Predicted − given",
}
_NUMBERS = {
    "threshold": "Threshold",
    "temperature": "Temperature",
    "prior_shift": "Prior's\nshift",
    "ece": "ECE",
    "validation_m": "Validation M",
    "validation_sen": "SEN",
    "validation_spe": "SPE",
    "validation_auc": "AUC",
    "auc_given": "AUC, given",
    "auc_predicted": "AUC, predicted",
    "median_dice": "Median Dice",
    "tuned": "Tuned",
    "correlation": "Correlation\nof folds",
    "subject_correlation": "Correlation without\nblocks' means",
    "fold_std": "Standard deviation\nover folds",
    "certain": "Certain",
}
_P_VALUES = {
    "delong_p": "DeLong p",
    "p": "DeLong p",
    "delong_p_holm": "Holm p",
    "nemenyi_p": "Nemenyi p",
    "error_nemenyi_p": "Nemenyi p",
    "friedman_p": "Friedman p",
    "error_friedman_p": "Friedman p",
    "friedman_p_holm": "Holm p",
    "error_friedman_p_holm": "Holm p",
    "auc_p": "Permutation\np",
    "auc_p_holm": "the same,\nHolm",
}

COLUMNS: dict[str, tuple[str, Cell]] = {
    "network": ("Network", network_name),
    "model": ("Ensemble", ensemble_or_dash),
    "subjects": ("Subjects\n(methylated)", subjects),
    "chance": ("AUC against\nchance", chance_cell),
    **{column: (heading, text(column)) for column, heading in _TEXTS.items()},
    **{column: (heading, interval(column)) for column, heading in _INTERVALS.items()},
    **{column: (heading, rounded(column)) for column, heading in _NUMBERS.items()},
    **{column: (heading, p(column)) for column, heading in _P_VALUES.items()},
}
"""Heading and cells of the columns of tables of results, and of a few that are made of several."""

METRICS = tuple(METRIC_LABELS)


def columns(*parts: str | Mapping[str, Cell]) -> dict[str, Cell]:
    """Return cells by heading: of names in :data:`COLUMNS`, and of a table's own cells."""
    chosen: dict[str, Cell] = {}
    for part in parts:
        chosen |= dict([COLUMNS[part]]) if isinstance(part, str) else part
    return chosen


def make_table(
    name: str,
    caption: str,
    cells: Mapping[str, Cell],
    rows: pd.DataFrame | Iterable[Mapping[Any, Any]],
    *,
    is_wide: bool = False,
) -> Table:
    """Return a table with a cell for each column and row.

    Args:
        name: see :class:`Table`.
        caption: see :class:`Table`.
        cells: by heading, see :func:`columns`.
        rows: of a table of results.
        is_wide: see :class:`Table`.

    >>> make_table("t", "caption", columns("network", {"M": rounded("m", 1)}), [
    ...     {"network": "random", "m": 0.25}]).rows
    (('From scratch', '0.2'),)
    """
    records = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows
    texts = tuple(tuple(cell(row) for cell in cells.values()) for row in records)
    return Table(name, caption, tuple(cells), texts, is_wide)
