from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Exclusion
from mgmt_ray.cohort.reader import ReaderResult
from mgmt_ray.cohort.subject import MODALITIES, modality_group
from mgmt_ray.cohort.upenn import UpennConfig, read_upenn
from tests.cohort.conftest import reasons, touch

STRUCTURAL = ("T1", "T1GD", "T2", "FLAIR")
DTI = ("DTI_AD", "DTI_FA", "DTI_RD", "DTI_TR")
DSC = ("DSC_ap-rCBV", "DSC_PH", "DSC_PSR")
TABLE = "UPENN-GBM_clinical_info_v2.1.csv"


def add_scans(
    root: Path,
    name: str,
    structural: tuple[str, ...] = STRUCTURAL,
    dti: tuple[str, ...] = DTI,
    dsc: tuple[str, ...] = DSC,
    mask: bool = True,
) -> None:
    """Empty files under the public names: the reader does not open them."""
    images = root / "NIfTI-files"
    for folder, scans in (
        ("images_structural", structural),
        ("images_DTI", dti),
        ("images_DSC", dsc),
    ):
        for scan in scans:
            touch(images / folder / name / f"{name}_{scan}.nii.gz")
    if mask:
        touch(images / "automated_segm" / f"{name}_automated_approx_segm.nii.gz")


def write_table(root: Path, mgmt: dict[str, str], name: str = TABLE) -> None:
    lines = ["ID,Gender,Age_at_scan_years,IDH1,MGMT,KPS,GTR_over90percent"]
    lines += [f"{i},F,61.5,Wildtype,{status},Not Available,Y" for i, status in mgmt.items()]
    (root / name).write_text("\n".join(lines) + "\n")


def one_subject(root: Path, **scans: tuple[str, ...]) -> str:
    """A copy with one methylated subject; its id."""
    name = "UPENN-GBM-00001_11"
    add_scans(root, name, **scans)
    write_table(root, {name: "Methylated"})
    return name


def read_copy(root: Path, modalities: tuple[str, ...] = (), **more: bool) -> ReaderResult:
    return read_upenn(UpennConfig(reader="upenn", root=root, modalities=modalities, **more))


def test_a_complete_subject_offers_every_modality_by_its_public_name(tmp_path: Path) -> None:
    name = one_subject(tmp_path)
    (subject,) = read_copy(tmp_path).subjects
    images = tmp_path / "NIfTI-files"
    assert (subject.id, subject.person) == (name, "UPENN-GBM-00001")  # of all sessions
    assert set(subject.scans) == set(MODALITIES)
    assert subject.scans["T1GD"] == images / f"images_structural/{name}/{name}_T1GD.nii.gz"
    assert subject.scans["FA"] == images / f"images_DTI/{name}/{name}_DTI_FA.nii.gz"
    assert subject.scans["ap-rCBV"] == images / f"images_DSC/{name}/{name}_DSC_ap-rCBV.nii.gz"
    assert subject.mask == images / f"automated_segm/{name}_automated_approx_segm.nii.gz"
    assert subject.covariates == {
        "age": "61.5",
        "sex": "F",
        "idh1": "Wildtype",
        "gross_total_resection": "Y",
        "mask_kind": "automatic",
    }


def test_everyone_out_has_one_reason(tmp_path: Path) -> None:
    status = {
        "UPENN-GBM-00001_11": "Methylated",
        "UPENN-GBM-00001_21": "Methylated",
        "UPENN-GBM-00002_11": "Indeterminate",
        "UPENN-GBM-00003_11": "Not Available",
        "UPENN-GBM-00004_11": "Unmethylated",
        "UPENN-GBM-00005_11": "Methylated",
        "UPENN-GBM-00006_11": "Methylated",
        "UPENN-GBM-00007_11": "Unmethylated",
    }
    write_table(tmp_path, status)
    for name in ("UPENN-GBM-00001_11", "UPENN-GBM-00002_11", "UPENN-GBM-00003_11"):
        add_scans(tmp_path, name)
    add_scans(tmp_path, "UPENN-GBM-00001_21", mask=False)
    add_scans(tmp_path, "UPENN-GBM-00005_11", mask=False)
    add_scans(tmp_path, "UPENN-GBM-00006_11", structural=("T1", "T2", "FLAIR"))
    add_scans(tmp_path, "UPENN-GBM-00007_11", structural=())
    add_scans(tmp_path, "UPENN-GBM-00008_11")
    add_scans(tmp_path, "UPENN-GBM-00009_21", mask=False)
    cohort = read_copy(tmp_path)
    labels = {s.id: s.label for s in cohort.subjects}
    assert labels == {f"UPENN-GBM-0000{i}_11": label for i, label in ((1, 1), (6, 1), (7, 0))}
    assert [(p.subject, p.kind) for p in cohort.problems] == [
        ("UPENN-GBM-00005_11", "no_mask"),
        ("UPENN-GBM-00006_11", "missing_modality"),
    ]
    assert reasons(cohort) == {
        "UPENN-GBM-00001_21": "follow-up scan",
        "UPENN-GBM-00002_11": "MGMT Indeterminate",
        "UPENN-GBM-00003_11": "MGMT Not Available",
        "UPENN-GBM-00004_11": "no baseline scans",
        "UPENN-GBM-00008_11": "not in the clinical table",
        "UPENN-GBM-00009_21": "follow-up scan",
    }
    assert max(Counter(e.subject for e in cohort.exclusions).values()) == 1
    assert [e for e in cohort.exclusions if e.scope != "cohort"] == [
        Exclusion("UPENN-GBM-00007_11", "Struct", "no Struct")
    ]
    assert len(reasons(cohort)) + len(cohort.subjects) + 1 == 10


def test_the_raw_dsc_series_is_no_modality(tmp_path: Path) -> None:
    name = one_subject(tmp_path, dsc=("DSC",))
    cohort = read_copy(tmp_path)
    assert set(cohort.subjects[0].scans).isdisjoint({"PH", "PSR", "ap-rCBV"})
    assert cohort.exclusions == (Exclusion(name, "DSC", "no DSC"),)


def test_an_incomplete_group_is_a_problem_and_an_absent_one_is_not(tmp_path: Path) -> None:
    name = one_subject(tmp_path, dti=("DTI_AD", "DTI_RD", "DTI_TR"), dsc=())
    cohort = read_copy(tmp_path)
    assert cohort.exclusions == (Exclusion(name, "DSC", "no DSC"),)
    (problem,) = cohort.problems
    assert (problem.kind, problem.found) == ("missing_modality", "incomplete DTI: FA missing")
    assert modality_group(problem.modality) == "DTI"


def test_only_wanted_modalities_decide_whether_a_group_is_complete(tmp_path: Path) -> None:
    one_subject(tmp_path, structural=("FLAIR",), dti=("DTI_AD",), dsc=())
    cohort = read_copy(tmp_path, ("AD", "FLAIR"))
    assert set(cohort.subjects[0].scans) == {"AD", "FLAIR"}
    assert cohort.exclusions == ()


def test_a_subject_without_the_studys_modalities_is_excluded(tmp_path: Path) -> None:
    one_subject(tmp_path, dsc=())
    assert set(reasons(read_copy(tmp_path, ("PH",))).values()) == {"none of the study's modalities"}


def test_a_doubled_folder_is_read_too(tmp_path: Path) -> None:
    name = one_subject(tmp_path)
    folder = tmp_path / "NIfTI-files" / "images_DTI"
    shutil.move(folder / name, folder / "images_DTI" / name)
    (subject,) = read_copy(tmp_path).subjects
    assert subject.scans["FA"] == folder / "images_DTI" / name / f"{name}_DTI_FA.nii.gz"


def test_the_mask_corrected_by_hand_is_preferred(tmp_path: Path) -> None:
    name = one_subject(tmp_path)
    corrected = tmp_path / "NIfTI-files" / "images_segm" / f"{name}_segm.nii.gz"
    touch(corrected)
    (subject,) = read_copy(tmp_path).subjects
    assert subject.mask == corrected
    assert subject.covariates["mask_kind"] == "corrected"


def test_without_corrected_masks_the_automatic_one_is_taken(tmp_path: Path) -> None:
    name = one_subject(tmp_path)
    images = tmp_path / "NIfTI-files"
    touch(images / "images_segm" / f"{name}_segm.nii.gz")
    (subject,) = read_copy(tmp_path, corrected_masks=False).subjects
    assert subject.covariates["mask_kind"] == "automatic"
    (images / "automated_segm" / f"{name}_automated_approx_segm.nii.gz").unlink()
    (problem,) = read_copy(tmp_path, corrected_masks=False).problems
    assert problem.kind == "no_mask" and "corrected_masks" in problem.found


def test_the_images_are_found_at_and_below_the_root(tmp_path: Path) -> None:
    copy = tmp_path / "archive" / "UPENN-GBM"
    copy.mkdir(parents=True)
    one_subject(copy)
    (copy / TABLE).rename(copy / "NIfTI-files" / TABLE)
    assert read_copy(copy / "NIfTI-files").subjects == read_copy(tmp_path).subjects


def test_a_subject_in_a_single_and_a_doubled_folder_is_a_problem(tmp_path: Path) -> None:
    name = one_subject(tmp_path)
    folder = tmp_path / "NIfTI-files" / "images_DTI"
    touch(folder / "images_DTI" / name / f"{name}_DTI_FA.nii.gz")
    result = read_copy(tmp_path)
    assert result.subjects == ()
    (problem,) = result.problems
    assert (problem.subject, problem.kind) == (name, "duplicated_subject")
    assert str(folder / "images_DTI" / name) in problem.found


def test_unpacked_files_and_links_that_point_nowhere_are_not_missed(tmp_path: Path) -> None:
    name = one_subject(tmp_path)
    images = tmp_path / "NIfTI-files"
    packed = images / f"images_structural/{name}/{name}_T1.nii.gz"
    packed.rename(packed.with_suffix(""))
    for path in (images / "images_DTI" / name).iterdir():
        path.unlink()
        path.symlink_to("nowhere")
    result = read_copy(tmp_path)
    assert result.subjects[0].scans["T1"] == packed.with_suffix("")
    assert [(p.kind, p.modality) for p in result.problems] == [
        ("no_file", modality) for modality in ("AD", "FA", "RD", "TR")
    ]
    assert result.exclusions == ()


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(MgmtError, match=r"nowhere: no such folder.*--data or cohort\.root"):
        read_copy(tmp_path / "nowhere")
    write_table(tmp_path, {})
    with pytest.raises(MgmtError, match="looked for NIfTI-files/ with images_structural"):
        read_copy(tmp_path)
    (tmp_path / TABLE).unlink()
    add_scans(tmp_path, "UPENN-GBM-00001_11")
    with pytest.raises(MgmtError, match="no clinical table; looked for UPENN-GBM_clinical_info_"):
        read_copy(tmp_path)


def test_two_copies_below_one_root_are_an_error(tmp_path: Path) -> None:
    for copy in ("old", "new"):
        (tmp_path / copy).mkdir()
        one_subject(tmp_path / copy)
    with pytest.raises(MgmtError, match="more than one place"):
        read_copy(tmp_path)


HEADER_V1 = "ID,Gender,Age_at_scan_years,Survival_from_surgery_days,IDH1,MGMT,KPS,GTR_over90percent"


def read_text(root: Path, text: str) -> ReaderResult:
    """A copy with a table of version 1 and one subject's scans."""
    add_scans(root, "UPENN-GBM-00001_11")
    (root / "UPENN-GBM_clinical_info_v1.0.csv").write_text(text, encoding="utf-8")
    return read_copy(root)


@pytest.mark.parametrize(
    ("cells", "covariates"),
    [
        (
            "M,70.1,200,NOS/NEC, Methylated ,80,Y",
            {
                "age": "70.1",
                "sex": "M",
                "idh1": "NOS/NEC",
                "kps": "80",
                "gross_total_resection": "Y",
            },
        ),
        ("M,,,,Methylated,Not Available,", {"sex": "M"}),
    ],
)
def test_version_1_is_read_by_the_names_of_its_columns(
    tmp_path: Path, cells: str, covariates: dict[str, str]
) -> None:
    text = f"\ufeff{HEADER_V1}\nUPENN-GBM-00001_11,{cells}\n,,,,,,,\n"
    (subject,) = read_text(tmp_path, text).subjects
    assert subject.label == 1
    assert subject.covariates == covariates | {"mask_kind": "automatic"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column ID, MGMT; its columns are none"),
        ("ID;MGMT status\na;b\n", "no column MGMT; its columns are ID, MGMT status"),
        ("ID,MGMT\n00001,Methylated\n", "ids '00001' do not look like UPENN-GBM-00001_11"),
    ],
)
def test_a_faulty_table_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(MgmtError, match=rf"v1\.0\.csv: .*{says}"):
        read_text(tmp_path, text)


def test_faults_of_single_rows_are_listed_all_at_once(tmp_path: Path) -> None:
    rows = ["1_11,Methylated", "2_11,meth", "3_11,2", "4_11,Methylated", "4_11,Methylated"]
    rows += ["5_11,Methylated", "5_11,Unmethylated"]
    result = read_text(tmp_path, "ID,MGMT\n" + "".join(f"UPENN-GBM-0000{row}\n" for row in rows))
    assert [s.id for s in result.subjects] == ["UPENN-GBM-00001_11"]
    assert [(p.subject[-4:], p.kind, p.found) for p in result.problems] == [
        ("2_11", "unknown_label", "MGMT is 'meth'"),
        ("3_11", "unknown_label", "MGMT is '2'"),
        ("4_11", "duplicated_subject", "2 rows"),
        ("5_11", "two_labels", "2 rows with MGMT 'Methylated' and 'Unmethylated'"),
    ]
    assert {Path(p.where).name for p in result.problems} == {"UPENN-GBM_clinical_info_v1.0.csv"}


def test_a_table_that_is_not_text_is_rejected(tmp_path: Path) -> None:
    one_subject(tmp_path)
    (tmp_path / TABLE).write_bytes(b"PK\x03\x04\xff\xfe\x00")
    with pytest.raises(MgmtError, match="is an Excel workbook"):
        read_copy(tmp_path)
