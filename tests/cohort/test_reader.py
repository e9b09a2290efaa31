"""Masks that are given, missing, or not wanted, in every layout."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from pydantic import TypeAdapter

from mgmt_ray.cohort.datasets import CohortConfig, read_data_set
from mgmt_ray.cohort.reader import ReaderResult
from mgmt_ray.cohort.subject import STRUCTURAL
from mgmt_ray.synthetic.generate import SyntheticConfig
from tests.layouts.cohorts import Layout, write_cohort


@pytest.fixture(scope="module", params=get_args(Layout))
def copy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A cohort in some layout, of which one subject has no mask; the keys of its reader."""
    root = tmp_path_factory.mktemp(request.param)
    config = SyntheticConfig(
        subjects=6, grid=(16, 16, 16), modalities=STRUCTURAL, corrected_masks=0.5, follow_ups=0.0
    )
    write_cohort(request.param, config, root)
    reader, _, images = request.param.partition("-")
    keys = {"reader": reader, "root": root, "modalities": STRUCTURAL}
    if images:
        keys |= {"images": images, "masks": root / "masks"}
    if reader == "tcga":
        keys |= {"rule": "stp27"}
    bare = masks_of(keys).subjects[0]
    while (mask := {s.id: s.mask for s in masks_of(keys).subjects}.get(bare.id)) is not None:
        mask.unlink()
    if reader == "table":
        table = root / "cohort.csv"
        text = table.read_text(encoding="utf-8")
        table.write_text(text.replace(f"images/{bare.id}/mask.nii.gz", ""), encoding="utf-8")
    return keys | {"bare": bare.id}


def masks_of(keys: dict, mask: str = "given") -> ReaderResult:
    asked = {name: value for name, value in keys.items() if name != "bare"} | {"mask": mask}
    return read_data_set(TypeAdapter(CohortConfig).validate_python(asked))


def test_a_missing_mask_is_a_problem_unless_it_is_to_be_predicted(copy: dict) -> None:
    given, where_missing = masks_of(copy), masks_of(copy, "predicted_where_missing")
    assert {p.subject: p.kind for p in given.problems} == {copy["bare"]: "no_mask"}
    assert copy["bare"] not in {s.id for s in given.subjects}
    assert where_missing.problems == ()
    masks = {s.id: s.mask for s in where_missing.subjects}
    assert masks == {s.id: s.mask for s in given.subjects} | {copy["bare"]: None}


def test_given_masks_are_remembered_but_not_used_where_all_are_predicted(copy: dict) -> None:
    given, predicted = masks_of(copy), masks_of(copy, "predicted")
    assert predicted.problems == ()
    assert {s.mask for s in predicted.subjects} == {None}
    unused = {s.id: s.given_mask for s in predicted.subjects}
    assert unused == {s.id: s.mask for s in given.subjects} | {copy["bare"]: None}


def test_a_mask_that_is_named_and_not_there_stays_a_problem(tmp_path: Path) -> None:
    (tmp_path / "f.nii.gz").write_bytes(b"x")
    (tmp_path / "cohort.csv").write_text("subject,label,mask,FLAIR\nA,1,gone.nii.gz,f.nii.gz\n")
    keys = {"reader": "table", "root": tmp_path, "modalities": ["FLAIR"]}
    (problem,) = masks_of(keys, "predicted_where_missing").problems
    assert problem.kind == "no_file"
    assert masks_of(keys, "predicted").problems == ()


def test_a_table_of_predicted_masks_needs_no_column_of_masks(tmp_path: Path) -> None:
    (tmp_path / "f.nii.gz").write_bytes(b"x")
    (tmp_path / "cohort.csv").write_text("subject,label,FLAIR\nA,1,f.nii.gz\n")
    keys = {"reader": "table", "root": tmp_path, "modalities": ["FLAIR"]}
    for mask in ("predicted", "predicted_where_missing"):
        (subject,) = masks_of(keys, mask).subjects
        assert (subject.mask, subject.given_mask) == (None, None)
