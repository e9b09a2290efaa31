from __future__ import annotations

from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.csv_rows import read_rows


def table(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_cells_are_read_by_the_names_of_their_columns(tmp_path: Path) -> None:
    path = table(tmp_path, '\ufeffID, age ,site\n1, 61 ,"Basel, CH"\n,,\n\n2,,\n')
    assert read_rows(path, ("ID",)) == (
        ["ID", "age", "site"],
        [{"ID": "1", "age": "61", "site": "Basel, CH"}, {"ID": "2", "age": "", "site": ""}],
    )


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found_in_the_first_line(tmp_path: Path, delimiter: str) -> None:
    path = table(tmp_path, f"a{delimiter}b\n1{delimiter}x\n")
    assert read_rows(path, (), ",;\t") == (["a", "b"], [{"a": "1", "b": "x"}])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n3", "row 3 has 1 cells and the header 2.*truncated"),
        ("a,b,c\n1,2\n", "row 2 has 2 cells and the header 3"),
        ("a,b\n1,2,3\n", "row 2 has 3 cells and the header 2"),
        ("a,b,a\n1,2,3\n", "has column a more than once"),
        ("b,c\n1,2\n", "has no column a; its columns are b, c"),
        ('"b\nc"\n1\n', r"its columns are 'b\\nc'"),
    ],
)
def test_what_would_be_read_wrongly_is_rejected(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(MgmtError, match=says) as error:
        read_rows(table(tmp_path, text), ("a",))
    assert str(error.value).isprintable()


def test_empty_cells_beyond_the_header_are_left_alone(tmp_path: Path) -> None:
    assert read_rows(table(tmp_path, "a,b\n1,2,,\n"), ())[1] == [{"a": "1", "b": "2"}]
