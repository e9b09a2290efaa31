from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from mgmt_ray.report.html import write_report
from mgmt_ray.report.html_table import Table
from mgmt_ray.report.section import Section
from mgmt_ray.report.sections.page import shown_tables, write_tables


def table(name: str) -> Table:
    return Table(name, f"of {name}", ("a", "b"), (("x", "1"),))


def test_every_table_shown_has_both_files_and_is_listed(
    whole_report: Path, whole_study: Path
) -> None:
    page = whole_report.read_text(encoding="utf-8")
    names = [part.partition('"')[0] for part in page.split('id="table-')[1:]]
    assert len(names) == len(set(names)) > 35
    files = whole_study / "tables"
    assert {path.name for path in files.iterdir()} == {
        f"{name}{suffix}" for name in {*names} - {"files"} for suffix in (".csv", ".tex")
    } | {"files.csv", "files.tex"}
    listed = {row[0] for row in csv.reader((files / "files.csv").open(encoding="utf-8"))}
    assert {f"tables/{name}.csv" for name in names if name != "files"} <= listed
    figures = {path.name for path in (whole_study / "figures").iterdir()}
    assert {name.partition("/")[2] for name in listed if name.startswith("figures/")} == {
        name for name in figures if name.endswith(".png")
    }


def test_tables_of_sections_dropped_since_are_deleted(tmp_path: Path) -> None:
    write_tables(tmp_path, [table("one"), table("two")])
    write_tables(tmp_path, [table("two")])
    assert {path.name for path in tmp_path.iterdir()} == {"two.csv", "two.tex"}


def test_two_tables_of_one_name_are_refused() -> None:
    sections = [Section("a", "A", {"t": table("one"), "list": [table("one")]})]
    with pytest.raises(AssertionError, match="two tables are named one"):
        shown_tables(sections)


def test_equal_studies_give_equal_files(
    make_study: Callable[..., Path], small_study: Path, tmp_path: Path
) -> None:
    def files(out: Path) -> dict[str, bytes]:
        found = [*out.glob("figures/*"), *out.glob("tables/*"), *out.glob("*.csv")]
        return {path.name: path.read_bytes() for path in found}

    again = make_study(tmp_path, None, ("T1",), ("random",), num_subjects=60, num_epochs=2)
    write_report(again)
    first, second = files(small_study), files(again)
    assert {"roc.png", "roc_chosen.png", "training_random.png", "variance.png"} <= {*first}
    assert first == second
