from __future__ import annotations

from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.csv_rows import group_alike, read_label, read_rows, row_problem


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
@pytest.mark.parametrize("first", ["", "\n", "sep={}\n", '"SEP={}"\r\n', " , ;\n"])
def test_the_delimiter_is_found_in_the_first_line(
    tmp_path: Path, delimiter: str, first: str
) -> None:
    path = table(tmp_path, f"{first.format(delimiter)}a{delimiter}b\n1{delimiter}x\n")
    if first == " , ;\n":
        path = table(tmp_path, f"{delimiter * 3}\na{delimiter}b\n1{delimiter}x\n")
    assert read_rows(path, ()) == (["a", "b"], [{"a": "1", "b": "x"}])


def test_the_delimiter_is_the_one_that_finds_the_columns(tmp_path: Path) -> None:
    path = table(tmp_path, "a;b, c, d, e\n1;45,5\n")
    assert read_rows(path, ("a",))[1] == [{"a": "1", "b, c, d, e": "45,5"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_tables_are_read_as_spreadsheets_save_them(
    tmp_path: Path, encoding: str, line_end: str
) -> None:
    lines = ['"ID"\tSite \t\t', '001\t"Köln"\t\t', "\t\t\t", ""]
    (tmp_path / "table.csv").write_bytes(line_end.join(lines).encode(encoding))
    _, rows = read_rows(tmp_path / "table.csv", ("ID",))
    assert rows == [{"ID": "001", "Site": "Köln", "": ""}]


def test_columns_are_found_in_any_case_and_spelling(tmp_path: Path) -> None:
    path = table(tmp_path, "SUBJECT,Mgmt_Status,Site,AGE\n1,x,y,z\n")
    columns, _ = read_rows(path, ("subject", "MGMT status"), ("age",))
    assert columns == ["subject", "MGMT status", "Site", "age"]
    # an exact name goes before others, which stay as they are
    assert read_rows(table(tmp_path, "t1,T1\n1,2\n"), ("T1",))[0] == ["t1", "T1"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a\nx\nK\xf6ln\n".encode("latin-1"), "line 3 has a character that is not UTF-8"),
        (b"PK\x03\x04rest", "is an Excel workbook"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is no table but a pointer of Git LFS"),
        (b"\xef\xbb\xbf<!doctype html>\n<body>", "is no table but a web page"),
        ("a,b\n1,2\n".encode("utf-16-le"), "is not a text file"),
        (b'a,b\n1,"2\n3,4\n', "line 3: is not a table"),
        (b"", "has no column a; its columns are none"),
    ],
)
def test_a_file_that_is_no_table_of_text_is_named_as_what_it_is(
    tmp_path: Path, content: bytes, says: str
) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(MgmtError, match=rf"table\.csv: {says}"):
        read_rows(tmp_path / "table.csv", ("a",))


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        *((word, 1) for word in ("1", "1.0", "1,00", " 1 ", "TRUE", "Methylated ", "POSITIVE")),
        *((word, 0) for word in ("0", "0.0", "0.", "False", "Unmethylated", "un-methylated")),
        ("\N{FULLWIDTH DIGIT ONE}", 1),
        ("methylated\N{NO-BREAK SPACE}", 1),
        ("non\N{EN DASH}methylated", 0),
        *((word, None) for word in ("", "NA", "n/a", "NaN", "Unknown", "not available", "-", "?")),
        *((word, None) for word in (".", "#N/A", "Not_Available", "Indeterminate")),
    ],
)
def test_labels_are_read_as_people_and_programs_write_them(cell: str, label: int | None) -> None:
    assert row_problem("P1", Path("t.csv"), "label", [cell]) is None
    assert read_label(cell) == label


@pytest.mark.parametrize("cell", ["2", "0.7", "1.5", "10", "01", "meth", "+", "hypomethylated"])
def test_another_label_is_a_problem(cell: str) -> None:
    problem = row_problem("P1", Path("t.csv"), "MGMT", [cell])
    assert problem is not None and problem.found == f"MGMT is {cell!r}"


def test_spellings_of_one_label_are_one_label() -> None:
    problem = row_problem("P1", Path("t.csv"), "MGMT", ["1.0", "Methylated"])
    assert problem is not None and problem.kind == "duplicated_subject"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n3", "row 3 has 1 cell and the header 2.*truncated"),
        ("a,b,c\n1,2\n", "row 2 has 2 cells and the header 3"),
        ("a,b\n1,2,3\n", "row 2 has 3 cells and the header 2"),
        ("a\n" + "1,2\n" * 9, "row 3 has 2 cells, row 4 has 2 cells and 6 more and the header"),
        ("a,b,a\n1,2,3\n", "has column a more than once"),
        ("b,c\n1,2\n", "has no column a; its columns are b, c. Give"),
        ("a|b\n1|2\n", r"its columns are a\|b. Put commas, semicolons or tabs between cells"),
        ('"b\nc"\n1\n', r"its columns are 'b\\nc'"),
    ],
)
def test_what_would_be_read_wrongly_is_rejected(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(MgmtError, match=says) as error:
        read_rows(table(tmp_path, text), ("a",))
    assert str(error.value).isprintable()


def test_empty_cells_beyond_the_header_are_left_alone(tmp_path: Path) -> None:
    assert read_rows(table(tmp_path, "a,b\n1,2,,\n"), ())[1] == [{"a": "1", "b": "2"}]


def test_the_same_fault_of_many_subjects_is_one_line_with_their_number() -> None:
    names = [f"P{number}" for number in range(600)]
    alike = [(n, f"{n}: {n}.nii: has {n[1:]} bytes.", f"has {n[1:]} bytes of {n}") for n in names]
    few = [(n, f"{n}: no mask.", "no mask") for n in names[:3]]
    assert group_alike([*few, *alike]) == [
        *(message for _, message, _ in few),
        "P0: P0.nii: has 0 bytes. (599 more like this: P1, P2, P3 and 596 more)",
    ]
