from __future__ import annotations

from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.unlabelled import read_patients, unused_files
from tests.cohort.conftest import kinds, touch


def test_a_folder_per_patient_names_scans_by_their_modality(tmp_path: Path) -> None:
    touch(
        tmp_path / "A" / "FLAIR.nii.gz", tmp_path / "A" / "mask.nii", tmp_path / "A" / "T9.nii.gz"
    )
    touch(tmp_path / "B" / "T1GD" / "1.dcm", tmp_path / "C" / "notes.txt", tmp_path / ".d" / "x")
    touch(tmp_path / "-odd" / "FLAIR.nii.gz")
    result = read_patients(tmp_path, ("FLAIR", "T1GD"))
    first, second = result.subjects
    assert (first.id, first.scans, first.mask) == (
        "A",
        {"FLAIR": tmp_path / "A" / "FLAIR.nii.gz"},
        tmp_path / "A" / "mask.nii",
    )
    assert (second.id, second.scans, second.mask) == ("B", {"T1GD": tmp_path / "B" / "T1GD"}, None)
    assert kinds(result) == {"C": "missing_modality", "-odd": "wrong_format"}


def test_a_scan_of_another_case_or_format_is_not_left_out(tmp_path: Path) -> None:
    names = {
        "lower": ("flair.nii.gz", "Mask.NII.GZ"),
        "other": ("FLAIR.mgz", "mask.nrrd"),
        "pair": ("FLAIR.hdr", "mask.nii"),
        "both": ("FLAIR.nii.gz", "mask.nii.gz"),
        "series": ("FLAIR", "MASK.nii"),
    }
    touch(*(tmp_path / patient / name for patient, pair in names.items() for name in pair))
    touch(tmp_path / "pair" / "FLAIR.img", tmp_path / "both" / "flair.nii")
    touch(
        tmp_path / "both" / "FLAIR.json",
        tmp_path / "alone" / "T1.nii",
        tmp_path / "alone/FLAIR.json",
    )
    result = read_patients(tmp_path, ("FLAIR", "T1"))
    read = {s.id: (s.scans["FLAIR"].name, s.mask and s.mask.name) for s in result.subjects[1:]}
    assert read == names
    assert [*result.subjects[0].scans] == ["T1"]  # a sidecar is no scan


def test_files_that_may_be_scans_and_are_not_read_are_named(tmp_path: Path) -> None:
    touch(tmp_path / "A" / "A_flair.nii.gz", tmp_path / "A" / "T1.nii", tmp_path / "A" / "n.TXT")
    touch(tmp_path / "B" / "T1.nii", tmp_path / "B" / "T1.nii.gz", tmp_path / "B" / "t2" / "1.dcm")
    touch(tmp_path / "C" / "T1.nii", tmp_path / "D_T1.nii")
    subjects = read_patients(tmp_path, ("FLAIR", "T1")).subjects
    unused = {"": "D_T1.nii", "A": "A_flair.nii.gz", "B": "T1.nii, t2"}
    assert unused_files(tmp_path, subjects) == unused


def test_a_link_to_the_folder_itself_is_no_patient(tmp_path: Path) -> None:
    touch(tmp_path / "scans" / "A" / "T1.nii")
    (tmp_path / "scans" / "all").symlink_to(tmp_path / "scans")
    result = read_patients(tmp_path / "scans", ("T1",))
    assert [s.id for s in result.subjects] == ["A"] and not result.problems


@pytest.mark.parametrize("table", [False, True])
def test_of_ids_that_differ_in_case_none_is_read(table: bool, tmp_path: Path) -> None:
    touch(*(tmp_path / name / "T1.nii" for name in ("p1", "P1", "P2")))
    if table:
        rows = ["subject,T1", "p1,p1/T1.nii", "P1,P1/T1.nii", "P2,P2/T1.nii"]
        (tmp_path / "cohort.csv").write_text("\n".join(rows))
    result = read_patients(tmp_path, ("T1",))
    assert [s.id for s in result.subjects] == ["P2"]
    assert kinds(result) == {"P1": "duplicated_subject", "p1": "duplicated_subject"}


def test_a_table_needs_neither_labels_nor_masks(tmp_path: Path) -> None:
    touch(tmp_path / "a.nii.gz", tmp_path / "m.nii.gz")
    rows = [
        "subject,label,FLAIR,age,mask",
        "A,methylated,a.nii.gz,61,m.nii.gz",
        "B,,a.nii.gz,,",
        "C,,gone.nii.gz,,",
        "D,,,,",
        "E,,a.nii.gz,,",
        "E,,a.nii.gz,,",
    ]
    (tmp_path / "cohort.csv").write_text("\n".join(rows))
    result = read_patients(tmp_path, ("FLAIR", "T1"))
    first, second = result.subjects
    assert first.covariates == {"age": "61"} and first.mask == tmp_path / "m.nii.gz"
    assert (second.id, second.mask) == ("B", None)
    # what the table says of methylation is not read
    assert first.label == second.label
    assert kinds(result) == {"C": "no_file", "D": "missing_modality", "E": "duplicated_subject"}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (None, "no such folder"),
        ({}, r"has no patients\. Put the scans .* like P001/FLAIR.nii.gz"),
        ({"cohort.csv": "subject,T2\nA,x"}, "has no column of the study.s modalities"),
    ],
)
def test_a_folder_without_patients_is_an_error(
    files: dict[str, str] | None, words: str, tmp_path: Path
) -> None:
    folder = tmp_path / "scans"
    if files is not None:
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
    with pytest.raises(MgmtError, match=words):
        read_patients(folder, ("FLAIR",))


def test_a_broken_link_of_a_patient_is_named(tmp_path: Path) -> None:
    (tmp_path / "P1").mkdir()
    (tmp_path / "P1" / "FLAIR.nii.gz").symlink_to(".git/annex/objects/nothing")
    (problem,) = read_patients(tmp_path, ["FLAIR"]).problems
    assert (problem.kind, problem.found) == ("no_file", "the link is broken")
    assert "git annex get" in problem.remedy
