from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.splits.draw import SplitConfig
from mgmt_ray.statistics.slice_classification import BEST_SLICE_COLUMNS, CLASSIFICATION_COLUMNS
from mgmt_ray.statistics.slice_overlap import OVERLAP_COLUMNS, SECONDS_COLUMNS
from mgmt_ray.statistics.slice_tables import (
    SLICE_TABLES,
    read_classified_slices,
    read_segmentations,
    write_slice_tables,
)
from tests.report.sliced import NUM_SLICES, write_sliced_study


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two outer splits, two seeds and an external cohort; tests that change it take a copy."""
    return write_sliced_study(
        tmp_path_factory.mktemp("nested") / "out",
        modalities=("FLAIR",),
        num_subjects=40,
        split_config=SplitConfig(outer_folds=2, folds=2),
        num_seeds=2,
        external=("elsewhere",),
    )


def table(out: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(out / "ensembles" / f"{name}.csv")


def test_every_table_has_its_columns(nested: Path) -> None:
    columns = (OVERLAP_COLUMNS, SECONDS_COLUMNS, CLASSIFICATION_COLUMNS, BEST_SLICE_COLUMNS)
    for name, expected in zip(SLICE_TABLES, columns, strict=True):
        assert list(table(nested, name).columns) == list(expected)


def test_splits_and_seeds_are_told_apart_and_each_patient_counts_once(nested: Path) -> None:
    scores = table(nested, "slice_classification")
    test = scores[scores["phase"] == "test"]
    # 2 splits of 2 folds with 2 seeds each; every one of the 40 is tested in one split
    assert set(test["num_models"]) == {8} and set(test["num_splits"]) == {2}
    assert test["num_patients"].tolist() == [40, 40]
    assert test["num_rows"].tolist() == [40 * NUM_SLICES, 40]
    overlap = table(nested, "slice_overlap")
    assert set(overlap["num_models"]) == {8}
    assert set(overlap[overlap["phase"] == "test"]["num_patients"]) == {40}
    assert set(overlap[overlap["phase"] == "test"]["num_slices"]) == {40 * NUM_SLICES}
    assert table(nested, "slice_seconds")["num_patients"].tolist() == [40]
    best = table(nested, "slice_best")
    assert best.groupby("outer")["trial"].nunique().to_dict() == {0: 1, 1: 1}
    assert len(best) == 2 * 3 * 2


def test_seconds_are_of_unseen_patients_alone(tmp_path: Path) -> None:
    """In a study of one split, whose training patients are never tested."""
    out = write_sliced_study(tmp_path / "out", ("FLAIR",), 40, SplitConfig(folds=2))
    segmented = read_segmentations(out)
    assert segmented is not None
    tested = segmented[segmented["split"] == "test"]["subject"].nunique()
    assert tested < segmented["subject"].nunique()
    assert table(out, "slice_seconds")["num_patients"].tolist() == [tested]


def test_phases_follow_one_another(nested: Path) -> None:
    overlap = table(nested, "slice_overlap")
    assert list(dict.fromkeys(overlap["phase"])) == ["train", "validation", "test"]


def test_an_external_cohorts_tables_are_of_its_own_patients_alone(nested: Path) -> None:
    external = nested / "external" / "elsewhere"
    for name in ("slice_overlap", "slice_classification"):
        found = table(external, name)
        assert set(found["phase"]) == {"external"} and set(found["num_patients"]) == {30}
    assert not (external / "ensembles" / "slice_best.csv").exists()


def test_a_study_without_slices_keeps_no_table_of_an_earlier_run(
    nested: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(nested, out)
    for name in ("slice_predictions", "segmentations"):
        (out / "ensembles" / f"{name}.csv").unlink()
    write_slice_tables(out)
    assert not any((out / "ensembles" / f"{name}.csv").exists() for name in SLICE_TABLES)
    assert read_classified_slices(out) is None and read_segmentations(out) is None


def test_a_trials_table_of_another_version_is_refused(nested: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(nested, out)
    path = next(out.glob("trials/*/segmentations.csv"))
    pd.read_csv(path).drop(columns="hd95_mm").to_csv(path, index=False)
    with pytest.raises(MgmtError, match="no column hd95_mm, so another version"):
        write_slice_tables(out)
    path.unlink()
    with pytest.raises(MgmtError, match="not there yet"):
        write_slice_tables(out)
