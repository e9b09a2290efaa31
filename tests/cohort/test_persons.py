from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.persons import (
    PersonRef,
    count_matches,
    find_persons,
    find_shared_names,
    find_shared_voxels,
    read_crosswalk,
)
from mgmt_ray.cohort.scan import EMPTY_HASH


def known(name: str, person: str = "", cohort: str = "") -> PersonRef:
    return PersonRef(cohort, name, person or name)


def persons(people: list[PersonRef], *rows: tuple[str, ...]) -> dict[str, str]:
    return {name: person for (_, name), person in find_persons(people, rows).items()}


PEOPLE = [known(name) for name in "ABCDEFGH"]
CELLS = st.sampled_from([*"ABCDEFGH", "Basel", "12", ""])
ROWS = st.lists(st.lists(CELLS, max_size=4).map(tuple), max_size=8)


def test_ids_and_persons_in_a_row_are_one_person() -> None:
    people = [known("U-1_11", "U-1"), known("00042"), known("X")]
    assert persons(people, ("id", "id"), ("00042", "U-1")) == {
        "U-1_11": "00042",
        "00042": "00042",
        "X": "X",
    }
    assert persons(people, ("U-1_11", "X"))["X"] == "U-1"


def test_sites_ages_and_dates_connect_nobody() -> None:
    rows = (("A", "Basel", "7"), ("B", "Basel", "7"), ("C", "12.5.2020"), ("12.5.2020", "D"))
    assert persons(PEOPLE[:4], *rows) == {name: name for name in "ABCD"}


def test_an_id_that_nobody_here_has_connects_its_rows() -> None:
    assert persons(PEOPLE[:4], ("A", "XX-17"), ("xx-17", "C"))["C"] == "A"


def test_rows_that_share_a_person_are_one_person() -> None:
    rows = (("C", "D"), ("B", "Basel", "C"), ("D", "A"))
    assert persons(PEOPLE[:5], *rows) == {"A": "A", "B": "A", "C": "A", "D": "A", "E": "E"}


def test_a_persons_other_subjects_come_along() -> None:
    people = [known("a_1", "a"), known("a_2", "a"), known("b")]
    assert persons(people, ("a_2", "b")) == {"a_1": "a", "a_2": "a", "b": "a"}


@pytest.mark.parametrize(
    ("cell", "person"),
    [
        ("upenn-gbm-00003_21", "UPENN-GBM-00003"),
        ("UPENN-GBM-00003_11.nii.gz", "UPENN-GBM-00003"),
        ("UCSF-PDGM-022", "UCSF-PDGM-0022"),
        ("UCSF-PDGM-0022_FU001d_nifti", "UCSF-PDGM-0022"),
        ("brats2021_00002", "BraTS2021_00002"),
        ("TCGA-02-0006-01A-01D", "TCGA-02-0006"),
    ],
)
def test_public_ids_are_told_in_any_spelling_and_of_any_session(cell: str, person: str) -> None:
    people = [known("here", person), known("Q")]
    assert persons(people, (cell, "Q")) == {"here": min(person, "Q"), "Q": min(person, "Q")}


def test_one_id_in_two_hospitals_is_two_people_and_a_public_name_is_one() -> None:
    people = [known("P1"), known("P1", cohort="b"), known("U", "UPENN-GBM-00003")]
    people += [
        known("00007", "UPENN-GBM-00003", "b"),
        known("P2", "anna"),
        known("P3", "anna", "b"),
    ]
    found = find_persons(people)
    assert found["", "U"] == found["b", "00007"]
    assert found["", "P2"] == found["b", "P3"] == "anna"
    parts = find_persons(people, (), [(("", "P1"), ("b", "00007"))])
    assert parts["", "P1"] == parts["", "U"] != parts["b", "P1"]


def test_a_crosswalk_that_makes_everybody_one_person_is_refused() -> None:
    people = [known(f"P{i}") for i in range(40)]
    with pytest.raises(MgmtError, match=r"40 subjects .* would be one person. Keep columns of ids"):
        find_persons(people, [(f"P{i}", "scanner1") for i in range(40)])


def test_a_crosswalk_tells_how_many_it_names() -> None:
    assert count_matches(PEOPLE, [("a", "stranger"), ("H", "")]) == 2
    assert count_matches(PEOPLE, [("stranger",)]) == 0


@given(ROWS)
def test_persons_are_the_connected_parts_of_a_graph(rows: list[tuple[str, ...]]) -> None:
    part = {name: {name} for name in "ABCDEFGH"}
    for _ in part:  # spreading along rows, as often as a chain can be long
        for row in rows:
            union = set().union(*(part[cell] for cell in row if cell in part))
            for name in union:
                part[name] = union
    assert persons(PEOPLE, *rows) == {name: min(part[name]) for name in part}


@given(ROWS, st.randoms())
def test_no_order_and_no_repetition_matters(rows: list[tuple[str, ...]], random: object) -> None:
    shuffled = [tuple(reversed(row)) for row in rows] + rows[:2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    expected = persons(PEOPLE, *rows)
    assert persons(PEOPLE, *shuffled) == expected
    assert persons(PEOPLE[::-1], *rows) == expected


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
        ("", "c"): {"T1": "x", "T2": "y"},
        ("", "a"): {"FLAIR": "x", "T2": "y", "T1": "1"},
        ("", "b"): {"T1": "2", "T2": "3"},
        ("", "d"): {"T1": "x"},
    }
    assert find_shared_voxels(hashes) == [
        (("", "a"), ("", "c"), ("T1", "T2")),
        (("", "a"), ("", "d"), ("T1",)),
        (("", "c"), ("", "d"), ("T1",)),
    ]


def test_empty_scans_and_one_subjects_own_scans_are_no_pair() -> None:
    hashes = {
        ("", "a"): {"T1": EMPTY_HASH, "T2": "x", "FLAIR": "x"},
        ("", "b"): {"T1": EMPTY_HASH, "T2": "y"},
    }
    assert find_shared_voxels(hashes) == []


def test_thousands_of_scans_are_compared() -> None:
    hashes = {("", f"{n:04d}"): {m: f"{n % 2990}{m}" for m in ("T1", "T2")} for n in range(3000)}
    assert [first for (_, first), _, _ in find_shared_voxels(hashes)] == [
        f"{n:04d}" for n in range(10)
    ]


def test_names_in_common_are_found_whatever_their_spelling() -> None:
    here = [PersonRef("", "UPENN-GBM-00003_11", "UPENN-GBM-00003"), PersonRef("", "x", "Anna")]
    there = [
        PersonRef("o", "upenn-gbm-00003_21", "P7"),
        PersonRef("o", "3", "anna"),
        PersonRef("o", "4", "Bert"),
    ]
    assert find_shared_names(here, there) == [
        (("", "UPENN-GBM-00003_11"), ("o", "upenn-gbm-00003_21")),
        (("", "x"), ("o", "3")),
    ]
