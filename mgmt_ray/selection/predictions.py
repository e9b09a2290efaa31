"""The prediction table, all that later stages read of a trial; reading and writing of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from mgmt_ray.base import MgmtError, write_text
from mgmt_ray.selection.result_columns import TEXT_COLUMNS

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
of one draw (0 for networks without policies); ``label`` 1 for methylated; ``split`` "validation",
"test" or "external"; ``outer_fold`` the number of the outer split that the model was trained in;
``weights_sha256`` the checksum of the model's weights; ``prior`` the share of methylated in its
training data, strictly between 0 and 1: 0.5 where classes were balanced by pruning or weighting.
"""


def prediction_rows(
    model: Mapping[str, Any],
    split: str,
    subjects: Sequence[str],
    probability: Sequence[float] | np.ndarray,
    label: Sequence[int],
    std: Sequence[float] | np.ndarray | float = 0.0,
) -> pd.DataFrame:
    """Return one model's prediction table, with :data:`PREDICTION_COLUMNS`.

    Args:
        model: the columns that are the same in all rows: its outer_fold, fold, network, modality,
            trial, weights_sha256 and prior.
        split: "validation", "test" or "external".
        subjects: ids, in the order of all other values.
        label: 1 for methylated.
        std: ``probability_std``.
    """
    rows = {"subject": subjects, "probability": probability, "probability_std": std, "label": label}
    return pd.DataFrame({**model, "split": split, **rows}, columns=list(PREDICTION_COLUMNS))


_NUMBERS = ("outer_fold", "fold", "probability", "probability_std", "label", "prior")
_NAMES = ("subject", "network", "modality", "trial")


def read_table(path: Path, command: str) -> pd.DataFrame:
    """Read a CSV table of a study; ids, names and checksums stay text, numbers stay exact.

    Raises:
        MgmtError: the file does not exist or is not a table.
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
    """Read a table of results and check that it has all of these columns.

    Args:
        path: ``OUT/ensembles/NAME.csv``, of a study or an external cohort.
        columns: required; those not in :data:`TEXT_COLUMNS` must hold numbers.

    Raises:
        MgmtError: the file does not exist, a column is missing, or a number is text.
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
            f"{path}: text in the number column {', '.join(text)}. "
            f"Delete it and run `{command}` again."
        )
    return table


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV table atomically, with all digits of its numbers.

    Example:
        >>> import tempfile
        >>> table = pd.DataFrame({"subject": ["00012"], "probability": [0.1 + 0.2]})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_table(table, Path(folder) / "table.csv")
        ...     again = read_table(Path(folder) / "table.csv", "mgmt-ray run STUDY")
        >>> again.equals(table)  # ids stay text
        True
    """
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def read_predictions(path: Path, command: str = "mgmt-ray run STUDY") -> pd.DataFrame:
    """Read a prediction table and check it (see :func:`check_predictions`)."""
    table = read_table(path, command)
    check_predictions(table, str(path))
    return table


def check_predictions(table: pd.DataFrame, where: str) -> None:
    """Check that a table is a valid prediction table.

    Args:
        table: the columns of :data:`PREDICTION_COLUMNS`.

    Raises:
        MgmtError: a column is missing or unknown, the table is empty, a number is missing or text,
            a probability outside [0, 1], a standard deviation negative, a label neither 0 nor 1, a
            prior not between 0 and 1, the name of a subject, network, modality or trial empty, an
            outer split or fold negative or fractional, a subject twice in one trial, or a subject
            with two labels.
    """
    missing = [name for name in PREDICTION_COLUMNS if name not in table.columns]
    unknown = [name for name in table.columns if name not in PREDICTION_COLUMNS]
    if missing or unknown:
        raise _fault(where, f"columns missing: {missing}, unknown: {unknown}")
    if table.empty:
        raise _fault(where, "no rows")
    text = [name for name in _NUMBERS if not is_numeric_dtype(table[name])]
    if text:
        raise _fault(where, f"text in the number column {', '.join(text)}")
    for name in _NAMES:
        empty = table[name].isna() | (table[name].astype(str).str.strip() == "")
        _check_rows(table, where, empty, f"no {name}")
    for name in ("outer_fold", "fold"):
        is_index = table[name].ge(0) & (table[name] % 1 == 0)
        _check_rows(table, where, ~is_index, f"{name} is not a non-negative integer")
    _check_rows(table, where, ~table["probability"].between(0, 1), "probability outside [0, 1]")
    _check_rows(
        table, where, ~table["probability_std"].ge(0), "probability_std negative or missing"
    )
    _check_rows(table, where, ~table["label"].isin([0, 1]), "label neither 0 nor 1")
    between = table["prior"].between(0, 1, inclusive="neither")
    _check_rows(table, where, ~between, "prior not between 0 and 1")
    duplicated = table.duplicated(["trial", "subject"], keep=False)
    _check_rows(table, where, duplicated, "more than one row of one trial")
    check_labels(table, where)


def check_labels(table: pd.DataFrame, where: str) -> None:
    """Raise MgmtError if subjects have label 0 in one row and 1 in another, and list them."""
    labels = table.groupby("subject", sort=True)["label"].nunique()
    contradictory = labels[labels > 1].index
    if len(contradictory):
        raise _fault(where, f"two labels for {shorten_list(list(contradictory))}")


def shorten_list(names: list[str], limit: int = 5) -> str:
    """Return the first few names and the number of the others, for an error message.

    Example:
        >>> shorten_list(["S1", "S2", "S3"], limit=2)
        'S1, S2 and 1 more'
    """
    shown = ", ".join(str(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def _check_rows(table: pd.DataFrame, where: str, bad: pd.Series[bool], what: str) -> None:
    if bad.any():
        rows = table.loc[bad, ["trial", "subject"]]
        names = [f"{r.subject} ({r.trial})" for r in rows.itertuples()]
        raise _fault(where, f"{what} for {shorten_list(names)}")


def _fault(where: str, what: str) -> MgmtError:
    return MgmtError(
        f"{where}: {what}. Delete the folder or table of these predictions and rerun the command "
        "that writes it."
    )
