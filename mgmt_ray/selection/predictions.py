"""The prediction table: what a trial says of each subject, and the only thing later stages read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from mgmt_ray.base import MgmtError, write_text

PREDICTION_COLUMNS: tuple[str, ...] = (
    "subject",
    "split",
    "outer_fold",
    "fold",
    "network",
    "modality",
    "trial",
    "probability",
    "probability_std",
    "label",
    "weights_sha256",
    "prior",
)
"""Columns of a prediction table.

``probability`` is the mean over policy draws, in [0, 1]; ``probability_std`` the standard deviation
of one draw (0 for networks that draw nothing); ``label`` 1 for methylated; ``split`` "validation",
"test" or "external"; ``outer_fold`` the number of the split that the model was trained in;
``weights_sha256`` the checksum of the weights that predicted; ``prior`` the share of methylated
among what the model was trained on, strictly between 0 and 1: 0.5 where classes were pruned or
weighted to balance.
"""

_NUMBERS = ("outer_fold", "fold", "probability", "probability_std", "label", "prior")
_NAMES = ("subject", "network", "modality", "trial")

TEXT_COLUMNS = frozenset(
    {
        "subject",
        "split",
        "network",
        "modality",
        "trial",
        "weights_sha256",
        "hyperparameters",
        "rule",
        "ensemble",
        "network_a",
        "network_b",
        "ensemble_a",
        "ensemble_b",
        "comparison",
        "point",
        "version",
        "source",
        "attribute",
        "level",
        "phase",
        "measure",
        "device",
    }
)


def read_table(path: Path, command: str) -> pd.DataFrame:
    """Read a CSV table of a study; ids, names and checksums stay text, numbers stay exact.

    Args:
        path: the file.
        command: what makes it, for the error ("mgmt-ray ensemble").

    Raises:
        MgmtError: the file is not there or is not a table.
    """
    if not path.exists():
        raise MgmtError(f"{path}: not there yet. Run `{command}` first.")
    try:
        header = pd.read_csv(path, nrows=0).columns
        return pd.read_csv(
            path,
            dtype={name: str for name in header if name in TEXT_COLUMNS},
            keep_default_na=False,
            na_values={name: ["", "nan", "NaN"] for name in header if name not in TEXT_COLUMNS},
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise MgmtError(
            f"{path}: not a readable table ({error}). Delete it and run `{command}` again."
        ) from error


def read_complete_table(
    path: Path, columns: Sequence[str], command: str = "mgmt-ray ensemble STUDY"
) -> pd.DataFrame:
    """A table of results, or of an external cohort's, that has all of these columns.

    Args:
        path: ``OUT/ensembles/NAME.csv``.
        columns: that must be there; those that are not of :data:`TEXT_COLUMNS` hold numbers.
        command: what makes it, for the error.

    Raises:
        MgmtError: it is not there, lacks a column, or has text where numbers belong.
    """
    table = read_table(path, f"{command} --out {path.parents[1]}")
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise MgmtError(
            f"{path}: no column {', '.join(missing)}, so another version of mgmt-ray wrote it. "
            f"Delete it and run `{command}` again."
        )
    numbers = [name for name in columns if name not in TEXT_COLUMNS]
    text = [name for name in numbers if len(table) and not is_numeric_dtype(table[name])]
    if text:
        raise MgmtError(
            f"{path}: text among the numbers of {', '.join(text)}. "
            f"Delete it and run `{command}` again."
        )
    return table


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV table completely or not at all, with every digit of its numbers."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def read_predictions(path: Path, command: str = "mgmt-ray run STUDY") -> pd.DataFrame:
    """Read a prediction table and check it (see :func:`check_predictions`)."""
    table = read_table(path, command)
    check_predictions(table, str(path))
    return table


def check_predictions(table: pd.DataFrame, where: str) -> None:
    """Refuse a prediction table that later stages could not trust.

    Args:
        table: the columns of :data:`PREDICTION_COLUMNS`.
        where: file or origin, for the error.

    Raises:
        MgmtError: a column is missing or unknown, the table is empty, a number is missing or text,
            a probability outside [0, 1], a deviation negative, a label neither 0 nor 1, a prior not
            between 0 and 1, a subject, network, modality or trial without a name, an outer split or
            fold that is no whole number from 0, a subject twice in one trial, or a subject with two
            labels.
    """
    missing = [name for name in PREDICTION_COLUMNS if name not in table.columns]
    unknown = [name for name in table.columns if name not in PREDICTION_COLUMNS]
    if missing or unknown:
        raise _fault(where, f"columns missing: {missing}, unknown: {unknown}")
    if table.empty:
        raise _fault(where, "no rows")
    text = [name for name in _NUMBERS if not is_numeric_dtype(table[name])]
    if text:
        raise _fault(where, f"text among the numbers of {', '.join(text)}")
    for name in _NAMES:
        empty = table[name].isna() | (table[name].astype(str).str.strip() == "")
        _check_rows(table, where, empty, f"no {name}")
    for name in ("outer_fold", "fold"):
        counted = table[name].ge(0) & (table[name] % 1 == 0)
        _check_rows(table, where, ~counted, f"{name} no whole number from 0")
    _check_rows(table, where, ~table["probability"].between(0, 1), "probability outside [0, 1]")
    _check_rows(
        table, where, ~table["probability_std"].ge(0), "probability_std negative or missing"
    )
    _check_rows(table, where, ~table["label"].isin([0, 1]), "label neither 0 nor 1")
    between = table["prior"].between(0, 1, inclusive="neither")
    _check_rows(table, where, ~between, "prior not between 0 and 1")
    twice = table.duplicated(["trial", "subject"], keep=False)
    _check_rows(table, where, twice, "more than one row of one trial")
    check_labels(table, where)


def check_labels(table: pd.DataFrame, where: str) -> None:
    """Raise MgmtError naming the subjects that have label 0 in one row and 1 in another."""
    labels = table.groupby("subject", sort=True)["label"].nunique()
    torn = labels[labels > 1].index
    if len(torn):
        raise _fault(where, f"two labels for {shorten_list(list(torn))}")


def shorten_list(names: list[str], limit: int = 5) -> str:
    """The first few names and how many more there are, for an error of one line."""
    shown = ", ".join(str(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def _check_rows(table: pd.DataFrame, where: str, bad: pd.Series[bool], what: str) -> None:
    if bad.any():
        rows = table.loc[bad, ["trial", "subject"]]
        named = [f"{r.subject} ({r.trial})" for r in rows.itertuples()]
        raise _fault(where, f"{what} for {shorten_list(named)}")


def _fault(where: str, what: str) -> MgmtError:
    return MgmtError(
        f"{where}: {what}. Delete what wrote these predictions and run that stage again."
    )
