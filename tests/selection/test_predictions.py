from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.selection.predictions import (
    check_predictions,
    read_complete_table,
    read_predictions,
    shorten_list,
    write_table,
)


def table() -> pd.DataFrame:
    """Two trials that predict the subjects 00005 and 00012."""
    return pd.DataFrame(
        {
            "subject": ["00005", "00012"] * 2,
            "split": "validation",
            "outer_fold": 0,
            "fold": 0,
            "network": "random",
            "modality": "T1",
            "trial": ["a", "a", "b", "b"],
            "probability": [0.1, 1 / 3, 0.5, 1.0],
            "probability_std": 0.0,
            "label": [0, 1, 0, 1],
            "weights_sha256": "0012e4",
            "prior": 0.5,
        }
    )


def test_a_table_comes_back_to_the_last_digit_with_ids_as_text(tmp_path: Path) -> None:
    path = tmp_path / "validation.csv"
    write_table(table(), path)
    again = read_predictions(path)
    pd.testing.assert_frame_equal(again, table(), check_dtype=False, check_exact=True)
    assert read_predictions(path)["subject"].tolist() == ["00005", "00012"] * 2
    assert read_predictions(path)["weights_sha256"].tolist() == ["0012e4"] * 4


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("probability", 1.2, r"probability outside \[0, 1\] for 00012 \(b\)"),
        ("probability", float("nan"), r"probability outside \[0, 1\] for 00012 \(b\)"),
        ("probability_std", float("nan"), "probability_std negative or missing"),
        ("probability_std", -0.1, "probability_std negative or missing"),
        ("label", 2, "label neither 0 nor 1"),
        ("prior", 1.0, r"prior not between 0 and 1 for 00012 \(b\)"),
        ("prior", 0.0, "prior not between 0 and 1"),
        ("prior", float("nan"), "prior not between 0 and 1"),
        ("label", 0, "two labels for 00012"),
        ("network", "", r"no network for 00012 \(b\)"),
        ("network", None, "no network"),
        ("modality", " ", "no modality"),
        ("subject", "", "no subject"),
        ("trial", "", "no trial"),
        ("outer_fold", -1, r"outer_fold is not a non-negative integer for 00012 \(b\)"),
        ("fold", 0.5, "fold is not a non-negative integer"),
        ("fold", float("nan"), "fold is not a non-negative integer"),
        ("subject", "00005", r"more than one row of one trial for 00005 \(b\)"),
    ],
)
def test_a_faulty_row_is_refused_by_name(column: str, value: object, message: str) -> None:
    faulty = table().astype({"outer_fold": float, "fold": float})
    faulty.loc[3, column] = value
    with pytest.raises(MgmtError, match=message):
        check_predictions(faulty, "here.csv")


@pytest.mark.parametrize(
    "column", ["probability", "prior", "probability_std", "label", "outer_fold", "fold"]
)
def test_text_among_numbers_is_refused_by_its_column(column: str, tmp_path: Path) -> None:
    faulty = table().astype({column: object})
    faulty.loc[3, column] = "high"
    path = tmp_path / "validation.csv"
    write_table(faulty, path)
    with pytest.raises(MgmtError, match=f"validation.csv: text in the number column {column}"):
        read_predictions(path)


def test_a_table_of_results_is_read_whole_or_named(tmp_path: Path) -> None:
    path = tmp_path / "ensembles" / "metrics.csv"
    metrics = pd.DataFrame({"network": ["0012"], "auc": [0.5], "auc_low": [float("nan")]})
    write_table(metrics, path)
    columns = ("network", "auc", "auc_low")
    pd.testing.assert_frame_equal(read_complete_table(path, columns), metrics, check_dtype=False)
    with pytest.raises(MgmtError, match=r"metrics.csv: no column sen, .*mgmt-ray ensemble STUDY"):
        read_complete_table(path, (*columns, "sen"))
    write_table(metrics.assign(auc="high"), path)
    with pytest.raises(MgmtError, match=r"metrics.csv: text in the number column auc\."):
        read_complete_table(path, columns)
    write_table(metrics.iloc[:0], path)
    assert read_complete_table(path, columns).empty


def test_missing_and_unknown_columns_are_named() -> None:
    with pytest.raises(MgmtError, match=r"missing: \['weights_sha256'\], unknown: \['weight'\]"):
        check_predictions(table().rename(columns={"weights_sha256": "weight"}), "here.csv")


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(MgmtError, match=r"here\.csv: no rows"):
        check_predictions(table().iloc[:0], "here.csv")


def test_a_table_that_is_not_there_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(MgmtError, match="Run `mgmt-ray run STUDY` first"):
        read_predictions(tmp_path / "validation.csv")


def test_an_empty_file_is_not_a_table(tmp_path: Path) -> None:
    (tmp_path / "validation.csv").touch()
    with pytest.raises(MgmtError, match="not a readable table"):
        read_predictions(tmp_path / "validation.csv")


def test_long_lists_of_names_are_cut() -> None:
    assert shorten_list(list("abc"), 3) == "a, b, c"
    assert shorten_list(list("abcde"), 3) == "a, b, c and 2 more"
