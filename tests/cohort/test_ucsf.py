from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError, parse
from mgmt_ray.cohort.cohort import Exclusion
from mgmt_ray.cohort.scan import read_scan, voxel_hash
from mgmt_ray.cohort.subject import STRUCTURAL, Subject
from mgmt_ray.cohort.ucsf import UcsfConfig, read_ucsf
from tests.cohort.conftest import kinds, reasons, touch
from tests.layouts.ucsf import write_ucsf_copy

MORE = ("SWI", "DWI", "ADC", "ASL")
NAMES = ("T1", "T1c", "T2", "FLAIR", *MORE, "tumor_segmentation")
TABLE = "UCSF-PDGM-metadata_v5.csv"
HEADER = "ID,Sex,Age at MRI,WHO CNS Grade,MGMT status,IDH,BraTS21 ID"


def config(root: Path, **more: object) -> UcsfConfig:
    return parse(UcsfConfig, {"reader": "ucsf", "root": root, **more}, "test")


def add_case(root: Path, number: str, names: Sequence[str] = NAMES) -> Path:
    """Empty files under the public names: the reader does not open them."""
    folder = root / "UCSF-PDGM-v5" / f"UCSF-PDGM-{number}_nifti"
    return touch(*(folder / f"UCSF-PDGM-{number}_{name}.nii.gz" for name in names)).parent


def write_table(root: Path, *rows: str, name: str = TABLE) -> None:
    root.mkdir(exist_ok=True)
    (root / name).write_text("\n".join([HEADER, *rows]) + "\n")


def row(number: str, status: str = "positive", grade: str = "4", brats21: str = "") -> str:
    return f"UCSF-PDGM-{number},F,61,{grade},{status},wildtype,{brats21}"


def test_what_is_more_than_structural_is_there_for_some_and_is_no_copy(
    source: tuple[Subject, ...], tmp_path: Path
) -> None:
    write_ucsf_copy(source, tmp_path, seed=1)
    result = read_ucsf(config(tmp_path))
    without = [s for s in result.subjects if not s.has_all(MORE)]
    assert len(without) == 2
    assert [e for e in result.exclusions if e.scope != "cohort"] == [
        Exclusion(subject.id, modality, f"no {modality}")
        for subject in without
        for modality in MORE
    ]
    rich = next(s for s in result.subjects if s.has_all(MORE))
    scans = {m: read_scan(path) for m, path in rich.scans.items()}
    assert len({voxel_hash(scan) for scan in scans.values()}) == 8
    for modality in MORE:
        assert scans[modality].grid.difference(scans["T1"].grid) == ""
        assert ((scans[modality].voxels > 0) == (scans["T1"].voxels > 0)).mean() > 0.9


def test_a_subject_of_brats21_is_the_person_of_its_reader(
    source: tuple[Subject, ...], tmp_path: Path
) -> None:
    first = source[0].id
    ids = write_ucsf_copy(source, tmp_path, seed=1, brats21_ids={first: "00097"})
    persons = {s.id: s.person for s in read_ucsf(config(tmp_path)).subjects}
    assert persons.pop(ids[first]) == "BraTS2021_00097"
    assert all(name == person for name, person in persons.items())


def test_other_grades_can_be_let_in(source: tuple[Subject, ...], tmp_path: Path) -> None:
    write_ucsf_copy(source, tmp_path, seed=1)
    two, all_grades = (read_ucsf(config(tmp_path, grades=g)).subjects for g in ([2], []))
    assert [s.covariates["grade"] for s in two] == ["2"]
    assert Counter(s.covariates["grade"] for s in all_grades) == {"4": 10, "3": 1, "2": 1}
    hashes = {voxel_hash(read_scan(s.scans["T2"])) for s in all_grades}
    assert len(hashes) == 12, "no copy of another subject"


def test_everyone_found_is_a_subject_excluded_or_a_problem(tmp_path: Path) -> None:
    for number in ("0004", "0005", "0007", "0008", "0009", "0010", "0011", "0012", "0013"):
        add_case(tmp_path, number)
    add_case(tmp_path, "0014", NAMES[:-1])
    add_case(tmp_path, "0015", ("T1", *MORE, "tumor_segmentation"))
    add_case(tmp_path, "0431_FU001d")
    add_case(tmp_path, "0433_FU007d")
    add_case(tmp_path, "0017", ("T1_bias", "T1c_bias", "T2_bias", "FLAIR_bias", "FA"))
    write_table(
        tmp_path, row("004"), row("005", "negative"), row("007", "indeterminate"),
        row("008", "unknown"), row("009", "positive", "2"), row("010", "high"),
        row("011"), row("011"), row("012"), row("012", "negative"), row("014"), row("015"),
        row("016"), row("017"), row("0431_FU001d"),
    )  # fmt: skip
    result = read_ucsf(config(tmp_path))
    assert [(s.id, s.label) for s in result.subjects] == [
        ("UCSF-PDGM-0004", 1),
        ("UCSF-PDGM-0005", 0),
        ("UCSF-PDGM-0015", 1),
    ]
    assert reasons(result) == {
        "UCSF-PDGM-0007": "MGMT indeterminate",
        "UCSF-PDGM-0008": "MGMT unknown",
        "UCSF-PDGM-0009": "WHO grade 2",
        "UCSF-PDGM-0013": "not in the metadata table",
        "UCSF-PDGM-0016": "no scans",
        "UCSF-PDGM-0017": "no scans",
        "UCSF-PDGM-0431_FU001d": "follow-up scan",
        "UCSF-PDGM-0433_FU007d": "follow-up scan",
    }
    assert kinds(result) == {
        "UCSF-PDGM-0010": "unknown_label",
        "UCSF-PDGM-0011": "duplicated_subject",
        "UCSF-PDGM-0012": "two_labels",
        "UCSF-PDGM-0014": "no_mask",
        "UCSF-PDGM-0015": "missing_modality",
    }


def test_scans_are_matched_by_their_exact_names(tmp_path: Path) -> None:
    folder = add_case(tmp_path, "0004", (*NAMES, "T1_bias", "brain_segmentation", "DTI_FA"))
    write_table(tmp_path, row("004"))
    (subject,) = read_ucsf(config(tmp_path)).subjects
    assert subject.scans["T1"] == folder / "UCSF-PDGM-0004_T1.nii.gz"
    assert subject.scans["T1GD"] == folder / "UCSF-PDGM-0004_T1c.nii.gz"
    assert set(subject.scans) == {*STRUCTURAL, *MORE}
    assert subject.mask == folder / "UCSF-PDGM-0004_tumor_segmentation.nii.gz"
    assert subject.covariates == {"age": "61", "sex": "F", "idh1": "wildtype", "grade": "4"}


def test_each_modality_beyond_the_structural_is_its_own_group(tmp_path: Path) -> None:
    add_case(tmp_path, "0004", ("T1", "T1c", "T2", "FLAIR", "SWI", "tumor_segmentation"))
    write_table(tmp_path, row("004"))
    result = read_ucsf(config(tmp_path, modalities=["T2", "SWI", "ADC"]))
    assert set(result.subjects[0].scans) == {"T2", "SWI"}
    assert result.exclusions == (Exclusion("UCSF-PDGM-0004", "ADC", "no ADC"),)
    (out,) = read_ucsf(config(tmp_path, modalities=["DWI"])).exclusions
    assert out == Exclusion("UCSF-PDGM-0004", "cohort", "none of the study's modalities")


def test_columns_that_are_optional_may_be_missing(tmp_path: Path) -> None:
    add_case(tmp_path, "0004")
    (tmp_path / TABLE).write_text("ID,MGMT status\nUCSF-PDGM-004,Negative\n")
    (subject,) = read_ucsf(config(tmp_path, grades=[])).subjects
    assert (subject.label, subject.covariates) == (0, {})
    with pytest.raises(MgmtError, match="has no column WHO CNS Grade"):
        read_ucsf(config(tmp_path))


def test_a_strange_brats21_id_is_a_problem_because_it_identifies_overlap(tmp_path: Path) -> None:
    for number in ("0004", "0005"):
        add_case(tmp_path, number)
    write_table(tmp_path, row("004", brats21="case 97"), row("005", brats21="BraTS2021_00098"))
    result = read_ucsf(config(tmp_path))
    assert [s.person for s in result.subjects] == ["BraTS2021_00098"]
    (problem,) = result.problems
    assert (problem.subject, problem.kind) == ("UCSF-PDGM-0004", "wrong_format")
    assert "BraTS21 ID is 'case 97'" in problem.found


@pytest.mark.parametrize("grade", ["4", "4.0", "IV", "iv", "WHO grade 4", "Grade IV"])
def test_a_grade_is_read_however_it_is_written(tmp_path: Path, grade: str) -> None:
    add_case(tmp_path, "0004")
    write_table(tmp_path, row("004", grade=grade))
    assert len(read_ucsf(config(tmp_path)).subjects) == 1
    assert reasons(read_ucsf(config(tmp_path, grades=[2, 3]))) == {"UCSF-PDGM-0004": "WHO grade 4"}


@pytest.mark.parametrize("grade", ["5", "high", "4.5", "VI", '"4\nor 3"'])
def test_a_grade_that_cannot_be_read_is_a_problem(tmp_path: Path, grade: str) -> None:
    add_case(tmp_path, "0004")
    write_table(tmp_path, row("004", grade=grade))
    result = read_ucsf(config(tmp_path))
    assert result.subjects == result.exclusions == ()
    (problem,) = result.problems
    assert problem.kind == "unknown_label" and "WHO CNS Grade is '" in problem.found
    assert str(problem).isprintable()


def test_a_grade_that_is_not_given_is_a_reason(tmp_path: Path) -> None:
    add_case(tmp_path, "0004")
    write_table(tmp_path, row("004", grade=""))
    assert reasons(read_ucsf(config(tmp_path))) == {"UCSF-PDGM-0004": "WHO grade not given"}


@pytest.mark.parametrize(
    ("folder", "number"),
    [
        ("UCSF-PDGM-004_nifti", "004"),
        ("UCSF-PDGM-004_nifti", "0004"),
        ("UCSF-PDGM-0004", "0004"),
        ("UCSF-PDGM-004", "004"),
    ],
)
def test_folders_and_files_may_be_numbered_as_in_the_table(
    tmp_path: Path, folder: str, number: str
) -> None:
    touch(*(tmp_path / folder / f"UCSF-PDGM-{number}_{name}.nii.gz" for name in NAMES))
    write_table(tmp_path, row("004"))
    (subject,) = read_ucsf(config(tmp_path)).subjects
    assert (subject.id, subject.person) == ("UCSF-PDGM-0004", "UCSF-PDGM-0004")
    assert set(subject.scans) == {*STRUCTURAL, *MORE}


def test_the_same_number_with_three_and_four_digits_is_a_problem(tmp_path: Path) -> None:
    for number in ("004", "0004"):
        add_case(tmp_path, number)
    write_table(tmp_path, row("004"))
    assert kinds(read_ucsf(config(tmp_path))) == {"UCSF-PDGM-0004": "duplicated_subject"}


def test_unpacked_files_are_read_and_packed_ones_go_before_them(tmp_path: Path) -> None:
    folder = add_case(tmp_path, "0004")
    for name in ("T1", "tumor_segmentation"):
        path = folder / f"UCSF-PDGM-0004_{name}.nii.gz"
        path.rename(path.with_suffix(""))
    (folder / "UCSF-PDGM-0004_T2.nii").touch()
    write_table(tmp_path, row("004"))
    (subject,) = read_ucsf(config(tmp_path)).subjects
    assert subject.scans["T1"].name == "UCSF-PDGM-0004_T1.nii"
    assert subject.scans["T2"].name == "UCSF-PDGM-0004_T2.nii.gz"
    assert subject.mask.name == "UCSF-PDGM-0004_tumor_segmentation.nii"


def test_an_id_of_another_data_set_is_an_error(tmp_path: Path) -> None:
    add_case(tmp_path, "0004")
    write_table(tmp_path, "UPENN-GBM-00001_11,F,61,4,positive,wildtype,")
    with pytest.raises(MgmtError, match="ids 'UPENN-GBM-00001_11' do not look like UCSF-PDGM-004"):
        read_ucsf(config(tmp_path))
