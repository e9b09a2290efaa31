from __future__ import annotations

from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.upenn import SUBJECT_ID
from mgmt_ray.cohort.upenn_table import ClinicalRow, read_clinical_table

HEADER_V1 = "ID,Gender,Age_at_scan_years,Survival_from_surgery_days,IDH1,MGMT,KPS,GTR_over90percent"


def table(folder: Path, text: str) -> Path:
    path = folder / "UPENN-GBM_clinical_info_v1.0.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_version_1_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        f"\ufeff{HEADER_V1}\nUPENN-GBM-00001_11,M,70.1,200,NOS/NEC, Methylated ,80,Y\n,,,,,,,\n",
    )
    rows, problems = read_clinical_table(path, SUBJECT_ID)
    assert problems == []
    assert rows == {
        "UPENN-GBM-00001_11": ClinicalRow(
            "UPENN-GBM-00001_11",
            "Methylated",
            1,
            {
                "age": "70.1",
                "sex": "M",
                "idh1": "NOS/NEC",
                "kps": "80",
                "gross_total_resection": "Y",
            },
        )
    }


def test_what_is_not_available_is_no_covariate(tmp_path: Path) -> None:
    path = table(tmp_path, f"{HEADER_V1}\nUPENN-GBM-00001_11,M,,,,Indeterminate,Not Available,\n")
    row = read_clinical_table(path, SUBJECT_ID)[0]["UPENN-GBM-00001_11"]
    assert row.label is None
    assert row.covariates == {"sex": "M"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column ID, MGMT; its columns are none"),
        ("ID;MGMT\na;b\n", "no column ID, MGMT; its columns are ID;MGMT"),
        ("ID,mgmt\na,b\n", "no column MGMT; its columns are ID, mgmt"),
        ("ID,MGMT\n00001,Methylated\n", "ids '00001' do not look like UPENN-GBM-00001_11"),
    ],
)
def test_a_faulty_table_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    path = table(tmp_path, text)
    with pytest.raises(MgmtError, match=says) as error:
        read_clinical_table(path, SUBJECT_ID)
    assert str(error.value).startswith(f"{path}: ")


def test_faults_of_single_rows_are_listed_all_at_once(tmp_path: Path) -> None:
    rows = ["1_11,methylated", "2_11,", "3_11,Methylated", "3_11,Methylated", "4_11,Methylated"]
    rows += ["5_11,Methylated", "5_11,Unmethylated"]
    path = table(tmp_path, "ID,MGMT\n" + "".join(f"UPENN-GBM-0000{row}\n" for row in rows))
    good, problems = read_clinical_table(path, SUBJECT_ID)
    assert list(good) == ["UPENN-GBM-00004_11"]
    assert [(p.subject[-4:], p.kind, p.found) for p in problems] == [
        ("1_11", "unknown_label", "MGMT is 'methylated'"),
        ("2_11", "unknown_label", "MGMT is ''"),
        ("3_11", "duplicated_subject", "2 rows"),
        ("5_11", "two_labels", "2 rows with MGMT 'Methylated' and 'Unmethylated'"),
    ]
    assert {p.where for p in problems} == {str(path)}


def test_a_table_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"PK\x03\x04\xff\xfe\x00")
    with pytest.raises(MgmtError, match="is no table"):
        read_clinical_table(path, SUBJECT_ID)
