from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mgmt_ray.base import parse
from mgmt_ray.cohort.brats21 import FAULTY, Brats21Config, read_brats21
from mgmt_ray.cohort.reader import ReaderResult
from mgmt_ray.cohort.scan import read_scan, voxel_hash
from mgmt_ray.cohort.subject import STRUCTURAL, Subject
from mgmt_ray.cohort.upenn import UpennConfig, read_upenn
from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize
from tests.layouts.brats21 import write_brats21_copy


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Subject, ...]:
    """Five subjects with all structural scans, read from a synthetic UPENN-GBM."""
    folder = tmp_path_factory.mktemp("brats21-source")
    config = SyntheticConfig(
        subjects=5, grid=(18, 24, 22), modalities=STRUCTURAL, signal={"T2": 2.0}, seed=3
    )
    synthesize(config, folder)
    subjects = read_upenn(UpennConfig(reader="upenn", root=folder, modalities=STRUCTURAL)).subjects
    assert len(subjects) == 5 and {s.label for s in subjects} == {0, 1}
    return subjects


def config(root: Path, **more: object) -> Brats21Config:
    return parse(Brats21Config, {"reader": "brats21", "root": root, **more}, "test")


def reasons(reading: ReaderResult) -> dict[str, str]:
    return {e.subject: e.reason for e in reading.exclusions if e.scope == "cohort"}


def test_a_copy_has_the_labels_and_voxels_of_its_source(
    sources: tuple[Subject, ...], tmp_path: Path
) -> None:
    ids = write_brats21_copy(sources, tmp_path, seed=1)
    reading = read_brats21(config(tmp_path))
    by_id = {subject.id: subject for subject in reading.subjects}
    assert set(by_id) == set(ids.values()) and reading.problems == ()
    for source in sources:
        subject = by_id[ids[source.id]]
        assert subject.label == source.label
        assert subject.person == f"BraTS2021_{subject.id}"
        assert set(subject.scans) == set(STRUCTURAL)
        for modality in STRUCTURAL:
            assert subject.scans[modality].read_bytes() == source.scans[modality].read_bytes()
        assert subject.mask.read_bytes() == source.mask.read_bytes()
    assert Counter(reasons(reading).values()) == {
        "not in train_labels.csv": 2,
        "scans known to be faulty": 3,
    }
    on_disk = {p.name for p in (tmp_path / "BraTS2021_Training_Data").iterdir()}
    assert len(on_disk) == len(reading.subjects) + len(reading.exclusions)


def test_a_dicom_copy_has_the_voxels_and_grids_of_its_source(
    sources: tuple[Subject, ...], tmp_path: Path
) -> None:
    ids = write_brats21_copy(sources, tmp_path, seed=1, images="dicom")
    reading = read_brats21(config(tmp_path, images="dicom", masks=tmp_path / "masks"))
    by_id = {subject.id: subject for subject in reading.subjects}
    assert set(by_id) == set(ids.values()) and reading.problems == ()
    for source in sources:
        subject = by_id[ids[source.id]]
        assert subject.label == source.label
        for modality, path in subject.scans.items():
            scan, original = read_scan(path), read_scan(source.scans[modality])
            assert path.is_dir()
            assert np.array_equal(scan.voxels, original.voxels)
            assert scan.grid.difference(original.grid) == ""
            assert scan.grid.difference(read_scan(subject.mask).grid) == ""
    assert sorted(reasons(reading)) == sorted(
        {*FAULTY, *(path.name for path in (tmp_path / "test").iterdir())}
    )


def test_ids_follow_from_the_seed_alone(sources: tuple[Subject, ...], tmp_path: Path) -> None:
    first = write_brats21_copy(sources, tmp_path / "a", seed=1)
    assert write_brats21_copy(sources[::-1], tmp_path / "b", seed=1) == first
    assert write_brats21_copy(sources, tmp_path / "a", seed=1) == first, "repeated in place"
    assert write_brats21_copy(sources, tmp_path / "c", seed=2) != first
    assert read_brats21(config(tmp_path / "a")).problems == ()


def test_the_faulty_cases_can_be_included(sources: tuple[Subject, ...], tmp_path: Path) -> None:
    write_brats21_copy(sources, tmp_path, seed=1)
    reading = read_brats21(config(tmp_path, faulty=[]))
    faulty = [subject for subject in reading.subjects if subject.id in FAULTY]
    assert [subject.id for subject in faulty] == list(FAULTY)
    hashes = {voxel_hash(read_scan(subject.scans["T1"])) for subject in (*sources, *faulty)}
    assert len(hashes) == 8, "no copy of another subject"
    assert not read_scan(faulty[0].scans["FLAIR"]).voxels.any()
