from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from mgmt_ray.cohort.datasets import CohortConfig, read_data_set
from mgmt_ray.cohort.subject import MODALITIES, STRUCTURAL


def config(**content: Any) -> CohortConfig:
    return TypeAdapter(CohortConfig).validate_python(content)


@pytest.mark.parametrize(
    ("reader", "modalities"),
    [
        ("upenn", MODALITIES),
        ("brats21", STRUCTURAL),
        ("tcga", STRUCTURAL),
        ("ucsf", (*STRUCTURAL, "SWI", "DWI", "ADC", "ASL")),
    ],
)
def test_all_that_a_data_set_has_is_wanted_by_default(
    tmp_path: Path, reader: str, modalities: tuple[str, ...]
) -> None:
    assert set(config(reader=reader, root=tmp_path).modalities) == set(modalities)


def test_a_plain_table_must_say_which_columns_are_scans(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="no modality given; list the scans to read"):
        config(reader="table", root=tmp_path)
    assert config(reader="table", root=tmp_path, modalities=["T1c", "SWI"]).modalities == (
        "T1c",
        "SWI",
    )


@pytest.mark.parametrize(
    ("modalities", "says"),
    [
        (("FLAIR", "T1c"), r"no modality T1c; available: ap-rCBV, PH, .*T1GD"),
        (("FLAIR", "FLAIR"), "FLAIR listed more than once"),
    ],
)
def test_modalities_that_cannot_be_read_are_rejected(
    tmp_path: Path, modalities: tuple[str, ...], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        config(reader="upenn", root=tmp_path, modalities=modalities)


def test_names_of_files_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="write letters, digits, - and _ only"):
        config(reader="table", root=tmp_path, modalities=["../T1"])


def test_an_id_that_yaml_read_as_a_number_is_rejected(tmp_path: Path) -> None:
    exclude = yaml.safe_load("[00123]")
    with pytest.raises(ValidationError, match="83: write ids in quotes, like '00123'"):
        config(reader="brats21", root=tmp_path, exclude=exclude)
    with pytest.raises(ValidationError, match="83: write ids in quotes"):
        config(reader="brats21", root=tmp_path, faulty=exclude)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"truncated": "keep_together"}, "truncated: keep_together is only for same_person"),
        (
            {"empty_mask": "exclude_scans"},
            "empty_mask: is not a problem of a single scan; write exclude_subject",
        ),
        ({"trucated": "exclude_scans"}, "trucated"),
        ({"truncated": "ignore"}, "exclude_subject"),
    ],
)
def test_rules_that_make_no_sense_are_rejected(
    tmp_path: Path, rules: dict[str, str], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        config(reader="upenn", root=tmp_path, rules=rules)


def test_the_reader_decides_the_layout(small_cohort: Path) -> None:
    result = read_data_set(config(reader="upenn", root=small_cohort, modalities=("PH", "FLAIR")))
    assert len(result.subjects) == 20
    assert result.problems == ()
