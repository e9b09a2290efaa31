"""Copies of public data sets, which tests write in their layouts, have what was copied."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from mgmt_ray.cohort.brats21 import FAULTY
from mgmt_ray.cohort.datasets import CohortConfig, read_data_set
from mgmt_ray.cohort.reader import ReaderResult
from mgmt_ray.cohort.scan import read_scan, voxel_hash
from mgmt_ray.cohort.subject import STRUCTURAL, Subject
from tests.cohort.conftest import reasons
from tests.layouts.brats21 import write_brats21_copy
from tests.layouts.tcga import write_tcga_copy
from tests.layouts.ucsf import write_ucsf_copy

BRATS21_OUT = {"not in train_labels.csv": 2, "scans known to be faulty": 3}
OUT = {
    "brats21": BRATS21_OUT,
    "brats21-dicom": BRATS21_OUT,
    "ucsf": {
        "follow-up scan": 2,
        "MGMT indeterminate": 1,
        "MGMT unknown": 1,
        "WHO grade 2": 1,
        "WHO grade 3": 1,
    },
    "tcga": {"follow-up scan": 1, "no methylation data": 1},
}
"""Irregularities of each layout, by the reason for which its reader excludes them."""


def write_copy(layout: str, source: tuple[Subject, ...], root: Path, seed: int) -> dict[str, str]:
    match layout:
        case "ucsf":
            return write_ucsf_copy(source, root, seed)
        case "tcga":
            return write_tcga_copy(source, root, seed)
    return write_brats21_copy(source, root, seed, "dicom" if "dicom" in layout else "nifti")


def read_copy(layout: str, root: Path, **more: object) -> ReaderResult:
    reader, _, images = layout.partition("-")
    keys = {"reader": reader, "root": root, **more}
    keys |= {"images": images, "masks": root / "masks"} if images else {}
    keys |= {"rule": "stp27"} if layout == "tcga" else {}
    return read_data_set(TypeAdapter(CohortConfig).validate_python(keys))


@pytest.mark.parametrize("layout", OUT)
def test_a_copy_has_the_labels_and_voxels_of_its_source_and_known_irregularities(
    layout: str, source: tuple[Subject, ...], tmp_path: Path
) -> None:
    ids = write_copy(layout, source, tmp_path, seed=1)
    result = read_copy(layout, tmp_path)
    assert result.problems == ()
    assert Counter(reasons(result).values()) == OUT[layout]
    by_id = {subject.id: subject for subject in result.subjects}
    assert set(by_id) == set(ids.values())
    assert len({subject.person for subject in result.subjects}) == len(source)
    for old in source:
        new = by_id[ids[old.id]]
        assert new.label == old.label
        for modality in STRUCTURAL:
            scan, original = read_scan(new.scans[modality]), read_scan(old.scans[modality])
            assert np.array_equal(scan.voxels, original.voxels)
            assert scan.grid.difference(original.grid) == ""
        assert np.array_equal(read_scan(new.mask).voxels, read_scan(old.mask).voxels)
        if layout == "ucsf":
            assert new.covariates["sex"] == old.covariates["sex"]
            assert new.covariates.get("age") == old.covariates.get("age")


@pytest.mark.parametrize("layout", OUT)
def test_the_seed_alone_decides_a_copy(
    layout: str, source: tuple[Subject, ...], tmp_path: Path
) -> None:
    copies, ids = [], []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        root = tmp_path / name
        ids.append(write_copy(layout, source[:3], root, seed))
        files = (path for path in root.rglob("*") if path.is_file())
        copies.append({path.relative_to(root): path.read_bytes() for path in files})
    assert ids[0] == ids[1] != ids[2]
    assert copies[0] == copies[1] != copies[2]


def test_the_faulty_cases_of_brats21_can_be_included(
    source: tuple[Subject, ...], tmp_path: Path
) -> None:
    write_copy("brats21", source, tmp_path, seed=1)
    result = read_copy("brats21", tmp_path, faulty=())
    faulty = [subject for subject in result.subjects if subject.id in FAULTY]
    assert [subject.id for subject in faulty] == list(FAULTY)
    hashes = {voxel_hash(read_scan(subject.scans["T1"])) for subject in (*source, *faulty)}
    assert len(hashes) == 13, "no copy of another subject"
    assert not read_scan(faulty[0].scans["FLAIR"]).voxels.any()
