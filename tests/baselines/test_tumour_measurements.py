from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from mgmt_ray.base import MgmtError
from mgmt_ray.baselines.radiomic_features import EMPTY_VALUE, measure_features
from mgmt_ray.baselines.tumour_measurements import (
    COLUMNS,
    FEATURE_NAMES,
    MeasurementOptions,
    measure_tumours,
    write_measurements,
)
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.reader import LABEL_PRESETS
from mgmt_ray.cohort.scan import read_scan
from mgmt_ray.cohort.upenn import UpennConfig, read_upenn
from mgmt_ray.study.baseline_config import FEATURE_SCANS
from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize
from mgmt_ray.synthetic.scan_writer import write_scan

HERE = Resources(backend="in-process")
ALL = MeasurementOptions(features=True, resample=False)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    config = SyntheticConfig(subjects=5, grid=(24, 28, 28), modalities=FEATURE_SCANS)
    synthesize(config, tmp_path / "data")
    reader = UpennConfig(reader="upenn", root=tmp_path / "data", modalities=FEATURE_SCANS)
    found = read_upenn(reader)
    return Cohort(found.subjects)


class Steps:
    """Records the calls of a progress callback."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.calls.append((done, total))


def test_every_tumour_is_measured_once(cohort: Cohort, tmp_path: Path) -> None:
    path, steps = tmp_path / "radiomics", Steps()
    first = measure_tumours(cohort, ALL, path, HERE, steps)
    assert steps.calls == [(n, 5) for n in range(1, 6)]
    for subject in cohort.subjects:
        labels = read_scan(subject.mask).voxels
        whole = {m: read_scan(subject.scans[m]).voxels for m in FEATURE_SCANS}
        measured = first[subject.id]
        assert measured.features == measure_features(whole, labels)
        # voxels of 1 mm
        assert measured.volumes_ml["tumour_ml"] == pytest.approx((labels > 0).sum() / 1000)
    steps = Steps()
    assert measure_tumours(cohort, ALL, path, HERE, steps) == first
    assert steps.calls == []
    write_measurements(first, tmp_path / "radiomics.csv")
    with (tmp_path / "radiomics.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [*rows[0]] == list(COLUMNS)
    for row, measured in zip(rows, first.values(), strict=True):
        assert row["subject"] == measured.subject and row["checksum"] == measured.checksum
        numbers = {**measured.features, **measured.volumes_ml}
        assert {name: float(row[name]) for name in numbers} == numbers


def test_what_changed_is_measured_again_and_nothing_else(cohort: Cohort, tmp_path: Path) -> None:
    path, steps = tmp_path / "radiomics", Steps()
    volumes = MeasurementOptions(features=False, resample=False)
    first = measure_tumours(cohort, volumes, path, HERE, Steps())
    assert np.isnan([first[cohort.subjects[0].id].features[name] for name in FEATURE_NAMES]).all()
    touched, *_ = cohort.subjects
    os.utime(touched.scans["T1"], ns=(1, 1))
    measure_tumours(cohort, volumes, path, HERE, steps)
    assert steps.calls == []  # no scan is read for a volume
    os.utime(touched.mask, ns=(1, 1))
    again = measure_tumours(cohort, volumes, path, HERE, steps)
    assert steps.calls == [(1, 1)]
    assert again[touched.id].checksum == first[touched.id].checksum
    whole = measure_tumours(cohort, ALL, path, HERE, Steps())
    assert not np.isnan([whole[touched.id].features[name] for name in FEATURE_NAMES]).any()


def test_a_subject_without_a_scan_has_volumes_and_a_flag(cohort: Cohort, tmp_path: Path) -> None:
    first, *others = cohort.subjects
    scans = {m: p for m, p in first.scans.items() if m != "T2"}
    part = Cohort((replace(first, scans=scans), *others))
    for _ in range(2):  # measured, and read back
        measured = measure_tumours(part, ALL, tmp_path / "r", HERE, Steps())[first.id]
        assert np.isnan(list(measured.features.values())).all()
        assert measured.volumes_ml["tumour_ml"] > 0
        assert measured.flags == ("no T2",)


def test_an_empty_region_is_flagged(cohort: Cohort, tmp_path: Path) -> None:
    first = cohort.subjects[0]
    write_scan(np.minimum(read_scan(first.mask).voxels, 2), first.mask)
    measured = measure_tumours(cohort, ALL, tmp_path / "r", HERE, Steps())[first.id]
    assert measured.flags == ("empty enhancing",)
    assert measured.features["glszm_level_variance_T1GD_enhancing"] == EMPTY_VALUE
    assert measured.features["ngtdm_busyness_T2_core"] > 0  # its necrosis is there


def test_a_scan_on_another_grid_is_an_error_or_resampled_onto_the_masks(
    cohort: Cohort, tmp_path: Path
) -> None:
    subject = cohort.subjects[0]
    before = measure_tumours(cohort, ALL, tmp_path / "before", HERE, Steps())[subject.id]
    path = str(subject.scans["T1"])
    SimpleITK.WriteImage(SimpleITK.ReadImage(path)[:, :, 1:], path)
    with pytest.raises(MgmtError, match="is not on the grid of its mask"):
        measure_tumours(cohort, ALL, tmp_path / "r", HERE, Steps())
    wanted = MeasurementOptions(features=True, resample=True)
    after = measure_tumours(cohort, wanted, tmp_path / "r", HERE, Steps())[subject.id]
    # voxels lie where they lay; interpolation is in single precision
    assert after.features == pytest.approx(before.features, rel=1e-5)


def test_a_damaged_scan_is_named_and_the_others_are_kept(cohort: Cohort, tmp_path: Path) -> None:
    path, steps, subject = tmp_path / "r", Steps(), cohort.subjects[2]
    whole = subject.scans["FLAIR"].read_bytes()
    subject.scans["FLAIR"].write_bytes(whole[:-50])
    with pytest.raises(MgmtError, match=f"subject {subject.id}: .*{subject.scans['FLAIR'].name}"):
        measure_tumours(cohort, ALL, path, HERE, Steps())
    subject.scans["FLAIR"].write_bytes(whole)
    assert len(measure_tumours(cohort, ALL, path, HERE, steps)) == 5
    assert steps.calls == [(1, 1)]


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_ray_measures_the_same(cohort: Cohort, tmp_path: Path) -> None:
    here = measure_tumours(cohort, ALL, tmp_path / "here", HERE, Steps())
    assert measure_tumours(cohort, ALL, tmp_path / "ray", Resources(), Steps()) == here


def test_labels_of_another_preset_are_measured_as_the_same_parts(
    cohort: Cohort, tmp_path: Path
) -> None:
    first = cohort.subjects[0]
    part = Cohort((first,))
    before = measure_tumours(part, ALL, tmp_path / "r", HERE, Steps())[first.id]
    assert before.volumes_ml["enhancing_ml"] > 0
    labels = read_scan(first.mask).voxels
    write_scan(np.where(labels == 4, 3, labels), first.mask)
    as_2023 = replace(ALL, labels=LABEL_PRESETS["brats2023"])
    after = measure_tumours(part, as_2023, tmp_path / "r", HERE, Steps())[first.id]
    assert (after.features, after.volumes_ml, after.flags) == (
        before.features,
        before.volumes_ml,
        (),
    )
    # the choice is part of what a measurement is of
    again = measure_tumours(part, ALL, tmp_path / "r", HERE, Steps())[first.id]
    assert again.flags == ("empty enhancing",)
    unknown = MeasurementOptions(features=False, resample=False, labels=None)
    whole = measure_tumours(part, unknown, tmp_path / "r", HERE, Steps())
    volumes = whole[first.id].volumes_ml
    assert volumes["tumour_ml"] == before.volumes_ml["tumour_ml"]
    assert np.isnan(volumes["enhancing_ml"]) and not whole[first.id].flags
    write_measurements(whole, tmp_path / "radiomics.csv")
    with (tmp_path / "radiomics.csv").open(newline="") as file:
        assert [row["edema_ml"] for row in csv.DictReader(file)] == [""]
