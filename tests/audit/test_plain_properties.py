from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from mgmt_ray.audit.plain_properties import Source, nifti_facts, without_ids
from mgmt_ray.audit.property_check import CheckedProperty, judge_properties
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.statistics.leak_detection import PropertyAssociation

HEADERS: dict[str, dict[str, Any]] = {
    "header (descrip)": {"descrip": b"other program"},
    "header (intent_name)": {"intent_name": b"x"},
    "scale (scl_slope)": {"scl_slope": 2.0},
    "scale (scl_inter)": {"scl_inter": 1.0},
    "header (xyzt_units)": {"xyzt_units": 10},
    "header (qform_code)": {"qform_code": 3},
}


def written(path: Path, affine: np.ndarray | None = None, kind: type = np.int16) -> Path:
    voxels = np.arange(24).reshape(4, 3, 2).astype(kind)
    image = nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine)
    path.write_bytes(gzip.compress(image.to_bytes(), mtime=0))
    return path


def differences(first: Path, second: Path) -> set[str]:
    one, other = dict(nifti_facts(first)), dict(nifti_facts(second))
    return {name for name in one | other if one.get(name) != other.get(name)}


@pytest.mark.parametrize("fact", HEADERS)
def test_every_field_of_a_header_is_a_property(fact: str, tmp_path: Path) -> None:
    plain, other = written(tmp_path / "a.nii.gz"), tmp_path / "b.nii.gz"
    content = bytearray(gzip.decompress(plain.read_bytes()))
    header = nibabel.Nifti1Header(bytes(content[:348]))
    for field, value in HEADERS[fact].items():
        header[field] = value
    content[:348] = header.binaryblock
    other.write_bytes(gzip.compress(bytes(content), mtime=0))
    assert differences(plain, plain) == set()
    assert fact in differences(plain, other)


def test_spacing_origin_orientation_and_number_type_are_properties(tmp_path: Path) -> None:
    plain = written(tmp_path / "a.nii.gz")
    moved = np.eye(4)
    moved[0, 3] = 1.0
    for affine, kind, fact in (
        (np.diag([1.01, 1, 1, 1]), np.int16, "spacing (pixdim[1])"),
        (moved, np.int16, "origin (qoffset_x)"),
        (np.diag([-1, 1, 1, 1]), np.int16, "orientation"),
        (np.eye(4), np.float32, "number type (datatype)"),
    ):
        assert fact in differences(plain, written(tmp_path / "b.nii.gz", affine, kind))


def test_the_way_of_compression_is_a_property(tmp_path: Path) -> None:
    plain = written(tmp_path / "a.nii.gz")
    content = gzip.decompress(plain.read_bytes())
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(content, 1, mtime=7))
    (tmp_path / "c.nii").write_bytes(content)
    names = {"flags of compression", "time of compression"}
    assert names <= differences(plain, tmp_path / "b.nii.gz")
    assert names <= differences(plain, tmp_path / "c.nii")


def test_ids_and_long_numbers_are_taken_out_of_names() -> None:
    subject = Subject("S007_11", 1, {}, None, person="S007")
    assert without_ids("data/S007/S007_11_T1_20010203.nii.gz", subject) == "data/ID/ID_T1_N.nii.gz"


@pytest.mark.parametrize(
    ("source", "auc", "p", "outcome"),
    [
        ("biology", 0.65, 0.001, "passed"),
        ("biology", 0.95, 0.001, "failed"),
        ("table", 0.65, 0.001, "warning"),
        ("table", 0.8, 0.001, "failed"),
        ("file", 0.7, 0.01, "warning"),
        ("file", 0.8, 0.01, "failed"),
        ("file", 0.8, 0.02, "passed"),
    ],
)
def test_what_separates_plausibly_is_not_called_a_leak(
    source: Source, auc: float, p: float, outcome: str
) -> None:
    tested = CheckedProperty("column age", source, PropertyAssociation(auc, p))
    dull = CheckedProperty("grid", "file", PropertyAssociation(0.5, 1.0))
    check = judge_properties([dull, tested], "2 properties")
    assert check.outcome == outcome
    assert f"column age: AUC {auc:.2f}" in check.found
