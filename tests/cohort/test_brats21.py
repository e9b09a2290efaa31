from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError, parse
from mgmt_ray.cohort.brats21 import Brats21Config, read_brats21
from mgmt_ray.cohort.cohort import Exclusion
from tests.cohort.conftest import kinds, reasons, touch

NAMES = ("flair", "t1", "t1ce", "t2", "seg")
SERIES = ("FLAIR", "T1w", "T1wCE", "T2w")


def config(root: Path, **more: object) -> Brats21Config:
    return parse(Brats21Config, {"reader": "brats21", "root": root, **more}, "test")


def add_case(root: Path, number: str, names: Sequence[str] = NAMES) -> None:
    """Empty files under the public names: the reader does not open them."""
    folder = root / "BraTS2021_Training_Data" / f"BraTS2021_{number}"
    touch(*(folder / f"BraTS2021_{number}_{name}.nii.gz" for name in names))


def add_series(root: Path, number: str, split: str = "train") -> None:
    for name in SERIES:
        (root / split / number / name).mkdir(parents=True)


def write_labels(root: Path, *rows: str) -> None:
    lines = ["BraTS21ID,MGMT_value", *rows]
    (root / "train_labels.csv").write_text("\n".join(lines) + "\n")


def test_a_faulty_case_must_be_named_with_its_zeros(tmp_path: Path) -> None:
    with pytest.raises(MgmtError, match="109: write five digits in quotes"):
        config(tmp_path, faulty=["109"])


def test_everyone_found_is_a_subject_excluded_or_a_problem(tmp_path: Path) -> None:
    for number in ("00002", "00003", "00005", "00006", "00007", "00109"):
        add_case(tmp_path, number)
    add_case(tmp_path, "00008", NAMES[:-1])
    add_case(tmp_path, "00009", ("flair", "seg"))
    add_case(tmp_path, "00011", ("seg",))
    write_labels(
        tmp_path, "00002,1", "00005,2", "00006,1", "00006,1", "00007,0", "00007,1",
        "00008,1", "00009,0", "00010,1", "00011,1", "00109,",
    )  # fmt: skip
    result = read_brats21(config(tmp_path))
    assert [(s.id, s.label) for s in result.subjects] == [("00002", 1), ("00009", 0)]
    assert reasons(result) == {
        "00003": "not in train_labels.csv",
        "00010": "no scans",
        "00011": "no scans",
        "00109": "scans known to be faulty",
    }
    assert kinds(result) == {
        "00005": "unknown_label",
        "00006": "duplicated_subject",
        "00007": "two_labels",
        "00008": "no_mask",
        "00009": "missing_modality",
    }
    assert read_brats21(config(tmp_path, modalities=["FLAIR"])).subjects[1].id == "00009"


def test_zeros_that_a_spreadsheet_dropped_come_back(tmp_path: Path) -> None:
    for number in ("00002", "01234"):
        add_case(tmp_path, number)
    write_labels(tmp_path, "2,1", "1234,0")
    assert [(s.id, s.label) for s in read_brats21(config(tmp_path)).subjects] == [
        ("00002", 1),
        ("01234", 0),
    ]
    write_labels(tmp_path, "2,1", "00002,0")
    assert kinds(read_brats21(config(tmp_path))) == {"00002": "two_labels"}


@pytest.mark.parametrize("cell", ["2.0", "BraTS2021_00002", "brats2021_2"])
def test_a_case_number_is_read_as_scripts_and_task_1_write_it(tmp_path: Path, cell: str) -> None:
    add_case(tmp_path, "00002")
    write_labels(tmp_path, f"{cell},1.0")
    assert [(s.id, s.label) for s in read_brats21(config(tmp_path)).subjects] == [("00002", 1)]


def test_ids_that_are_not_numbers_are_named_all_at_once(tmp_path: Path) -> None:
    add_case(tmp_path, "00002")
    write_labels(tmp_path, "2.5,1", "00002,1", "P3,1")
    with pytest.raises(MgmtError, match=r"'2\.5', 'P3' are not numbers of up to five digits"):
        read_brats21(config(tmp_path))


def test_a_case_in_two_folders_is_a_problem(tmp_path: Path) -> None:
    add_case(tmp_path, "00002")
    add_case(tmp_path / "again", "00002")
    write_labels(tmp_path, "00002,1")
    assert kinds(read_brats21(config(tmp_path))) == {"00002": "duplicated_subject"}


def test_modalities_that_a_case_does_not_have_are_a_reason(tmp_path: Path) -> None:
    add_case(tmp_path, "00002", ("t1", "seg"))
    write_labels(tmp_path, "00002,1")
    result = read_brats21(config(tmp_path, modalities=["FLAIR"]))
    assert result.exclusions == (Exclusion("00002", "cohort", "none of the study's modalities"),)


def test_dicom_without_masks_says_where_they_belong(tmp_path: Path) -> None:
    add_series(tmp_path, "00002")
    write_labels(tmp_path, "00002,1")
    (problem,) = read_brats21(config(tmp_path, images="dicom")).problems
    assert problem.kind == "no_mask"
    assert "00002.nii.gz" in problem.remedy and "cohort.masks" in problem.remedy


def test_masks_are_matched_by_the_number_they_begin_with(tmp_path: Path) -> None:
    for number in ("00002", "00003", "00005", "00006"):
        add_series(tmp_path, number)
    write_labels(tmp_path, "00002,1", "00003,0", "00005,1", "00006,0")
    masks = tmp_path / "masks"
    for name in ("00002.nii.gz", "BraTS2021_00003_seg.nii.gz", "000051.nii.gz", "00005.txt"):
        touch(masks / name)
    touch(*(masks / name for name in ("00006.nii.gz", "00006_b.nii.gz", "._00002.nii.gz")))
    result = read_brats21(config(tmp_path, images="dicom", masks=masks))
    assert {s.id: s.mask.name for s in result.subjects} == {
        "00002": "00002.nii.gz",
        "00003": "BraTS2021_00003_seg.nii.gz",
    }
    assert result.subjects[0].scans["T1GD"] == tmp_path / "train/00002/T1wCE"
    assert {p.subject: p.found for p in result.problems} == {
        "00005": "no tumour mask",
        "00006": "2 masks (00006.nii.gz, 00006_b.nii.gz)",
    }
    with pytest.raises(MgmtError, match="nowhere: no such folder"):
        read_brats21(config(tmp_path, images="dicom", masks=tmp_path / "nowhere"))


def test_masks_of_the_study_go_before_task_ones_own(tmp_path: Path) -> None:
    add_case(tmp_path, "00002")
    write_labels(tmp_path, "00002,1")
    mask = touch(tmp_path / "masks" / "00002_corrected.nii.gz")
    assert read_brats21(config(tmp_path, masks=tmp_path / "masks")).subjects[0].mask == mask


def test_each_task_has_its_own_folders(tmp_path: Path) -> None:
    add_case(tmp_path, "00002")
    add_series(tmp_path, "00003")
    add_series(tmp_path, "00004", split="test")
    write_labels(tmp_path, "00002,1", "00003,0")
    nifti, dicom = (reasons(read_brats21(config(tmp_path, images=i))) for i in ("nifti", "dicom"))
    assert nifti == {"00003": "no scans"}
    assert dicom == {"00002": "no scans", "00004": "not in train_labels.csv"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root.rmdir(), "no such folder.*train_labels.csv"),
        (lambda root: write_labels(root), "no BraTS21 images; looked for.*BraTS2021_00002"),
        (lambda root: add_case(root, "00002"), "no table; looked for train_labels.csv"),
    ],
)
def test_a_folder_of_another_layout_says_what_was_looked_for(
    tmp_path: Path, make: object, message: str
) -> None:
    root = tmp_path / "copy"
    root.mkdir()
    make(root)  # type: ignore[operator]
    with pytest.raises(MgmtError, match=message):
        read_brats21(config(root))


def test_links_that_point_nowhere_and_unpacked_files_are_not_missed(tmp_path: Path) -> None:
    for number in ("00002", "00003", "00005"):
        add_case(tmp_path, number)
    folder = tmp_path / "BraTS2021_Training_Data"
    for path in (folder / "BraTS2021_00003").iterdir():
        path.rename(path.with_suffix(""))
    for path in [*(folder / "BraTS2021_00002").glob("*_t*.nii.gz")]:
        path.unlink()
        path.symlink_to("nowhere")
    mask = folder / "BraTS2021_00005" / "BraTS2021_00005_seg.nii.gz"
    mask.unlink()
    mask.symlink_to("nowhere")
    write_labels(tmp_path, "00002,1", "00003,0", "00005,0")
    result = read_brats21(config(tmp_path))
    assert [(s.id, len(s.scans)) for s in result.subjects] == [("00002", 1), ("00003", 4)]
    assert result.exclusions == ()
    assert [(p.subject, p.kind, p.modality) for p in result.problems] == [
        *(("00002", "no_file", modality) for modality in ("T2", "T1", "T1GD")),
        ("00005", "no_file", ""),
    ]
    assert {p.found for p in result.problems} == {"the link is broken"}
