from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.persons import by_voxels, read_crosswalk, same_persons
from mgmt_ray.cohort.scan import EMPTY_HASH
from mgmt_ray.cohort.subject import Subject


def subject(name: str, person: str = "") -> Subject:
    return Subject(name, 1, {}, Path("mask"), person=person)


def persons(subjects: list[Subject], *rows: tuple[str, ...]) -> dict[str, str]:
    return {s.id: s.person for s in same_persons(subjects, rows)}


SUBJECTS = [subject(name) for name in "ABCDEFGH"]
CELLS = st.sampled_from([*"ABCDEFGH", "Basel", "12", ""])
ROWS = st.lists(st.lists(CELLS, max_size=4).map(tuple), max_size=8)


def test_ids_and_persons_in_a_row_are_one_person() -> None:
    subjects = [subject("U-1_11", "U-1"), subject("00042"), subject("X")]
    assert persons(subjects, ("id", "id"), ("00042", "U-1")) == {
        "U-1_11": "00042",
        "00042": "00042",
        "X": "X",
    }
    assert persons(subjects, ("U-1_11", "X"))["X"] == "U-1"


def test_other_cells_connect_nobody() -> None:
    rows = (("A", "Basel", "7"), ("B", "Basel", "7"), ("C", "stranger"), ("stranger", "D"))
    assert persons(SUBJECTS[:4], *rows) == {name: name for name in "ABCD"}


def test_rows_that_share_a_person_are_one_person() -> None:
    rows = (("C", "D"), ("B", "Basel", "C"), ("D", "A"))
    assert persons(SUBJECTS[:5], *rows) == {"A": "A", "B": "A", "C": "A", "D": "A", "E": "E"}


def test_a_persons_other_subjects_come_along() -> None:
    subjects = [subject("a_1", "a"), subject("a_2", "a"), subject("b")]
    assert persons(subjects, ("a_2", "b")) == {"a_1": "a", "a_2": "a", "b": "a"}


def test_two_cohorts_are_connected_in_one_call() -> None:
    training, external = [subject("T1"), subject("T2")], [subject("E1"), subject("E2")]
    together = same_persons((*training, *external), [("E2", "T1")])
    assert [s.id for s in together] == ["T1", "T2", "E1", "E2"]
    assert {s.person for s in together[:2]} & {s.person for s in together[2:]} == {"E2"}


def test_an_id_of_two_cohorts_stands_for_both_persons() -> None:
    subjects = [subject("1", "anna"), subject("1", "bert"), subject("2")]
    assert {s.person for s in same_persons(subjects, [("1", "2")])} == {"2"}


@given(ROWS)
def test_persons_are_the_connected_parts_of_a_graph(rows: list[tuple[str, ...]]) -> None:
    part = {name: {name} for name in "ABCDEFGH"}
    for _ in part:  # spreading along rows, as often as a chain can be long
        for row in rows:
            union = set().union(*(part[cell] for cell in row if cell in part))
            for name in union:
                part[name] = union
    assert persons(SUBJECTS, *rows) == {name: min(part[name]) for name in part}


@given(ROWS, st.randoms())
def test_no_order_and_no_repetition_matters(rows: list[tuple[str, ...]], random: object) -> None:
    shuffled = [tuple(reversed(row)) for row in rows] + rows[:2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    expected = persons(SUBJECTS, *rows)
    assert persons(SUBJECTS, *shuffled) == expected
    assert persons(SUBJECTS[::-1], *rows) == expected
    once = list(same_persons(SUBJECTS, rows))
    assert persons(once, *rows) == expected


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_crosswalk_is_read_with_any_delimiter(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "crosswalk.csv"
    path.write_text(
        "\ufeffours,theirs,site\nA,B , x\nC\n".replace(",", delimiter), encoding="utf-8"
    )
    assert read_crosswalk(path) == (("ours", "theirs", "site"), ("A", "B", "x"), ("C",))


def test_a_crosswalk_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "crosswalk.xlsx"
    with pytest.raises(MgmtError, match="crosswalk cannot be read"):
        read_crosswalk(path)
    path.write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(MgmtError, match=r"crosswalk cannot be read.*CSV \(UTF-8\)"):
        read_crosswalk(path)


def test_equal_voxels_are_found_under_any_modality() -> None:
    hashes = {
        "c": {"T1": "x", "T2": "y"},
        "a": {"FLAIR": "x", "T2": "y", "T1": "1"},
        "b": {"T1": "2", "T2": "3"},
        "d": {"T1": "x"},
    }
    assert by_voxels(hashes) == [
        ("a", "c", ("T1", "T2")),
        ("a", "d", ("T1",)),
        ("c", "d", ("T1",)),
    ]


def test_empty_scans_and_one_subjects_own_scans_are_no_pair() -> None:
    hashes = {
        "a": {"T1": EMPTY_HASH, "T2": "x", "FLAIR": "x"},
        "b": {"T1": EMPTY_HASH, "T2": "y"},
    }
    assert by_voxels(hashes) == []


def test_thousands_of_scans_are_compared_at_once() -> None:
    hashes = {f"{n:04d}": {m: f"{n % 2990}{m}" for m in ("T1", "T2")} for n in range(3000)}
    began = time.perf_counter()
    pairs = by_voxels(hashes)
    assert [first for first, _, _ in pairs] == [f"{n:04d}" for n in range(10)]
    # comparing all 4.5 million pairs of subjects would take longer; this takes about 0.02 s
    assert time.perf_counter() - began < 1
