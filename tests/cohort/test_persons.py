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


def make_ref(name: str, person: str = "", cohort: str = "") -> PersonRef:
    return PersonRef(cohort, name, person or name)


def persons(refs: list[PersonRef], *rows: tuple[str, ...]) -> dict[str, str]:
    return {name: person for (_, name), person in find_persons(refs, rows).items()}


REFS = [make_ref(name) for name in "ABCDEFGH"]
CELLS = st.sampled_from([*"ABCDEFGH", "Basel", "12", ""])
ROWS = st.lists(st.lists(CELLS, max_size=4).map(tuple), max_size=8)


def test_ids_and_persons_in_a_row_are_one_person() -> None:
    refs = [make_ref("U-1_11", "U-1"), make_ref("00042"), make_ref("X")]
    assert persons(refs, ("id", "id"), ("00042", "U-1")) == {
        "U-1_11": "00042",
        "00042": "00042",
        "X": "X",
    }
    assert persons(refs, ("U-1_11", "X"))["X"] == "U-1"


def test_sites_ages_and_dates_connect_no_rows() -> None:
    rows = (("A", "Basel", "7"), ("B", "Basel", "7"), ("C", "12.5.2020"), ("12.5.2020", "D"))
    assert persons(REFS[:4], *rows) == {name: name for name in "ABCD"}


def test_an_id_of_no_subject_connects_its_rows() -> None:
    assert persons(REFS[:4], ("A", "XX-17"), ("xx-17", "C"))["C"] == "A"


def test_rows_that_share_a_person_are_one_person() -> None:
    rows = (("C", "D"), ("B", "Basel", "C"), ("D", "A"))
    assert persons(REFS[:5], *rows) == {"A": "A", "B": "A", "C": "A", "D": "A", "E": "E"}


def test_a_persons_other_subjects_come_along() -> None:
    refs = [make_ref("a_1", "a"), make_ref("a_2", "a"), make_ref("b")]
    assert persons(refs, ("a_2", "b")) == {"a_1": "a", "a_2": "a", "b": "a"}


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
def test_public_ids_are_recognised_in_any_spelling_and_of_any_session(
    cell: str, person: str
) -> None:
    refs = [make_ref("here", person), make_ref("Q")]
    assert persons(refs, (cell, "Q")) == {"here": min(person, "Q"), "Q": min(person, "Q")}


def test_one_id_in_two_hospitals_is_two_persons_and_a_public_name_is_one() -> None:
    refs = [make_ref("P1"), make_ref("P1", cohort="b"), make_ref("U", "UPENN-GBM-00003")]
    refs += [
        make_ref("00007", "UPENN-GBM-00003", "b"),
        make_ref("P2", "anna"),
        make_ref("P3", "anna", "b"),
    ]
    person = find_persons(refs)
    assert person["", "U"] == person["b", "00007"]
    assert person["", "P2"] == person["b", "P3"] == "anna"
    matched = find_persons(refs, (), [(("", "P1"), ("b", "00007"))])
    assert matched["", "P1"] == matched["", "U"] != matched["b", "P1"]


def test_a_crosswalk_that_connects_all_subjects_is_an_error() -> None:
    refs = [make_ref(f"P{i}") for i in range(40)]
    with pytest.raises(
        MgmtError, match=r"40 subjects .* would be one person. Keep only columns of ids"
    ):
        find_persons(refs, [(f"P{i}", "scanner1") for i in range(40)])


def test_the_subjects_in_a_crosswalk_are_counted() -> None:
    assert count_matches(REFS, [("a", "stranger"), ("H", "")]) == 2
    assert count_matches(REFS, [("stranger",)]) == 0


@given(ROWS)
def test_persons_are_the_connected_components_of_a_graph(rows: list[tuple[str, ...]]) -> None:
    part = {name: {name} for name in "ABCDEFGH"}
    for _ in part:  # spreading along rows, as often as a chain can be long
        for row in rows:
            union = set().union(*(part[cell] for cell in row if cell in part))
            for name in union:
                part[name] = union
    assert persons(REFS, *rows) == {name: min(part[name]) for name in part}


@given(ROWS, st.randoms())
def test_no_order_and_no_repetition_matters(rows: list[tuple[str, ...]], random: object) -> None:
    shuffled = [tuple(reversed(row)) for row in rows] + rows[:2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    expected = persons(REFS, *rows)
    assert persons(REFS, *shuffled) == expected
    assert persons(REFS[::-1], *rows) == expected


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_crosswalk_is_read_with_any_delimiter(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "crosswalk.csv"
    path.write_text(
        "\ufeffours,theirs,site\nA,B , x\nC\n".replace(",", delimiter), encoding="utf-8"
    )
    assert read_crosswalk(path) == (("ours", "theirs", "site"), ("A", "B", "x"), ("C",))


def test_a_crosswalk_that_is_missing_or_not_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "crosswalk.xlsx"
    with pytest.raises(MgmtError, match=r"crosswalk\.xlsx: cannot be read"):
        read_crosswalk(path)
    path.write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(MgmtError, match=r"is an Excel workbook.*CSV \(UTF-8\)"):
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
