from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import t
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score, roc_auc_score

from mgmt_ray.base import MgmtError, stream
from mgmt_ray.splits.draw import SplitConfig
from mgmt_ray.statistics.delong import delong_variance
from mgmt_ray.statistics.result_tables import RESULT_TABLES, evaluate_ensembles
from mgmt_ray.statistics.slice_classification import (
    LEVELS,
    MAX_BLOCK_SIZE,
    SLICE_COLUMNS,
    SLICE_METRICS,
    best_slice_models,
    classification_scores,
    read_classified_slices,
    read_segmentations,
    resample_by_label,
    score_model,
    slice_classification_table,
    slice_tables,
)
from tests.report.sliced import NUM_SLICES, write_sliced_study
from tests.statistics.conftest import row_of

SLICE_TABLES = ("slice_overlap", "slice_seconds", "slice_classification", "slice_best")


def slices_of(
    patients: Mapping[str, tuple[int, Sequence[float]]], fold: int = 0, **others: object
) -> pd.DataFrame:
    """One model's slices: each patient's label and probabilities."""
    rows = [
        {
            "subject": subject,
            "depth": depth,
            "split": "test",
            "outer_fold": 0,
            "fold": fold,
            "network": "chen",
            "modality": "FLAIR",
            "trial": f"chen_fold{fold}",
            "probability": probability,
            "label": label,
            **others,
        }
        for subject, (label, probabilities) in patients.items()
        for depth, probability in enumerate(probabilities)
    ]
    return pd.DataFrame(rows, columns=list(SLICE_COLUMNS))


def scores(labels: Sequence[int], probabilities: Sequence[float]) -> dict[str, float]:
    once = np.ones((1, len(labels)), dtype=np.int64)
    values_by_metric = classification_scores(np.array(labels), np.array(probabilities), once)
    return {name: float(values[0]) for name, values in values_by_metric.items()}


def test_scores_are_those_of_scikit_learn() -> None:
    draws = stream(0, "slices")
    labels = draws.integers(0, 2, 50)
    probabilities = draws.uniform(0, 1, 50)
    called = probabilities >= 0.5
    expected = {
        "accuracy": accuracy_score(labels, called),
        "recall": recall_score(labels, called),
        "precision": precision_score(labels, called),
        "f1": f1_score(labels, called),
        "auc": roc_auc_score(labels, probabilities),
    }
    assert list(expected) == list(SLICE_METRICS)
    assert scores(labels.tolist(), probabilities.tolist()) == pytest.approx(expected)


def test_what_is_not_defined_is_no_number() -> None:
    nobody_called = scores([1, 0, 0], [0.4, 0.3, 0.1])
    assert math.isnan(nobody_called["precision"])
    assert (nobody_called["f1"], nobody_called["recall"], nobody_called["auc"]) == (0, 0, 1)
    nobody_methylated = scores([0, 0], [0.4, 0.6])
    assert math.isnan(nobody_methylated["recall"]) and math.isnan(nobody_methylated["auc"])
    assert nobody_methylated["precision"] == 0


def test_drawing_a_patient_twice_is_having_its_slices_twice() -> None:
    labels, probabilities = np.array([1, 1, 0]), np.array([0.9, 0.2, 0.6])
    resampled = classification_scores(labels, probabilities, np.array([[2, 2, 1]]))
    twice = scores([1, 1, 1, 1, 0], [0.9, 0.2, 0.9, 0.2, 0.6])
    assert {name: float(v[0]) for name, v in resampled.items()} == pytest.approx(twice)


def test_a_patient_has_the_mean_over_its_slices() -> None:
    # by slice 2 of 5 are right, by patient both: means 0.6 and 0.45
    table = slice_classification_table(
        slices_of({"A": (1, (0.4, 0.8)), "B": (0, (0.6, 0.6, 0.15))})
    )
    assert tuple(table.columns) == RESULT_TABLES["slice_classification"].columns
    by_slice, by_patient = (row_of(table, level=level) for level in ("slice", "patient"))
    assert by_slice["accuracy"] == pytest.approx(2 / 5)
    assert by_patient["accuracy"] == 1
    assert (by_slice["num_patients"], by_slice["num_rows"]) == (2, 5)
    assert (by_patient["num_patients"], by_patient["num_rows"]) == (2, 2)


def test_mean_and_deviation_are_over_folds_and_a_fold_without_a_value_is_counted() -> None:
    folds = [
        {"A": (1, (0.9,)), "B": (0, (0.1,)), "C": (0, (0.2,)), "D": (1, (0.8,))},
        {"A": (1, (0.9,)), "B": (0, (0.9,)), "C": (0, (0.2,)), "D": (1, (0.2,))},
        {"A": (1, (0.4,)), "B": (0, (0.1,)), "C": (0, (0.2,)), "D": (1, (0.3,))},
    ]
    table = slice_classification_table(pd.concat([slices_of(p, f) for f, p in enumerate(folds)]))
    row = row_of(table, level="patient")
    # right are 4, 2 and 2 of 4; of those called methylated 2 of 2, 1 of 2, and in the last none is
    assert row["accuracy"] == pytest.approx(2 / 3)
    assert row["accuracy_std"] == pytest.approx(np.std([1, 0.5, 0.5], ddof=1))
    assert row["precision"] == pytest.approx(0.75)
    assert row["precision_std"] == pytest.approx(np.std([1, 0.5], ddof=1))
    assert (row["precision_undefined"], row["accuracy_undefined"]) == (1, 0)
    assert row["num_models"] == 3


def test_the_interval_is_wider_than_if_slices_were_independent() -> None:
    draws = stream(0, "slices of a patient are alike")
    predictions = {f"S{i:02}": (i % 2, float(draws.uniform())) for i in range(30)}
    patients = {s: (label, (p,) * 15) for s, (label, p) in predictions.items()}
    alone = {f"{s}_{j}": (label, (p,)) for s, (label, p) in predictions.items() for j in range(15)}
    rows = [
        row_of(slice_classification_table(slices_of(rows)), level="slice")
        for rows in (patients, alone)
    ]
    for metric in ("accuracy", "auc"):
        assert rows[0][metric] == pytest.approx(rows[1][metric])
        widths = [row[f"{metric}_high"] - row[f"{metric}_low"] for row in rows]
        # as of dice: 15 equal slices say what one does, √15 = 3.87 times as wide
        assert widths[0] / widths[1] == pytest.approx(15**0.5, rel=0.15)


@pytest.mark.parametrize("num_slices", [1, 3])
def test_an_auc_has_the_interval_of_its_patients(num_slices: int) -> None:
    draws = stream(0, "patients")
    patients = {
        f"S{i:02}": (i % 2, (float(draws.uniform() + 0.2 * (i % 2)),) * num_slices)
        for i in range(30)
    }
    rows = [row_of(slice_classification_table(slices_of(patients)), level=n) for n in LEVELS]
    labels = np.array([label for label, _ in patients.values()])
    p = np.array([values[0] for _, values in patients.values()])
    area = roc_auc_score(labels, p)
    margin = t.ppf(0.975, 28) * math.sqrt(delong_variance(labels, p)) / (area * (1 - area))
    for row in rows:  # equal slices say what one does
        bounds = (row["auc_low"], row["auc_high"])
        expected = (expit(logit(area) - margin), expit(logit(area) + margin))
        assert bounds == pytest.approx(expected)


def test_perfectly_separated_patients_are_not_certain() -> None:
    patients = {f"S{i}": (int(i < 3), (0.9, 0.8) if i < 3 else (0.1, 0.2)) for i in range(7)}
    for row in slice_classification_table(slices_of(patients)).to_dict("records"):
        # 3 of 3 pairs of patients in order
        assert row["auc_low"] == pytest.approx(0.025 ** (1 / 3))
        assert (row["auc"], row["auc_high"]) == (1, 1)


def test_training_and_validation_have_no_interval() -> None:
    patients = {"A": (1, (0.9, 0.4)), "B": (0, (0.1, 0.6))}
    parts = [slices_of(patients, split=s) for s in ("train", "validation", "test", "external")]
    table = slice_classification_table(pd.concat(parts))
    known = table.groupby("phase")["accuracy_low"].agg(lambda low: bool(low.notna().all()))
    assert known.to_dict() == {"train": False, "validation": False, "test": True, "external": True}


def test_both_levels_and_all_models_have_the_same_resamples() -> None:
    patients = {f"S{i}": (i % 2, (0.1 * i,) * 4) for i in range(9)}
    models = pd.concat([slices_of(patients, fold) for fold in range(2)])
    by_slice, by_patient = slice_classification_table(models).to_dict("records")
    for metric in SLICE_METRICS:
        columns = [metric, f"{metric}_low", f"{metric}_high"]
        # every patient has the same number of equal slices, so that levels agree
        assert [by_slice[c] for c in columns] == pytest.approx([by_patient[c] for c in columns])


def test_many_rows_are_scored_in_blocks_without_a_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patients = {f"S{i}": (i % 2, (0.1 * i, 0.5)) for i in range(9)}
    rows = slices_of(patients)
    drawn = resample_by_label(rows, "test", seed=1)
    whole = score_model(rows, drawn)
    assert len(drawn.weights) * len(rows) < MAX_BLOCK_SIZE
    monkeypatch.setattr("mgmt_ray.statistics.slice_classification.MAX_BLOCK_SIZE", 1000)
    parts = score_model(rows, drawn)
    for name in SLICE_METRICS:
        np.testing.assert_array_equal(whole[name], parts[name])


def test_every_resample_has_as_many_patients_of_each_class_as_the_test_set() -> None:
    patients = {f"S{i}": (int(i < 3), (0.5, 0.6)) for i in range(9)}
    drawn = resample_by_label(slices_of(patients), "test", seed=0)
    methylated = drawn.patients.isin([name for name, (label, _) in patients.items() if label])
    assert set(drawn.weights[:, methylated].sum(axis=1)) == {3}
    assert set(drawn.weights[:, ~methylated].sum(axis=1)) == {6}
    assert len(np.unique(drawn.weights, axis=0)) > 100


GOOD = {"A": (1, (0.9, 0.8)), "B": (0, (0.1, 0.2))}
BAD = {"A": (1, (0.1, 0.2)), "B": (0, (0.9, 0.8))}


def three_phases(fold: int, validation: dict[str, Any], test: dict[str, Any]) -> pd.DataFrame:
    parts = {"train": GOOD, "validation": validation, "test": test}
    return pd.concat([slices_of(rows, fold, split=split) for split, rows in parts.items()])


def test_the_best_model_is_that_of_validation_whatever_the_test_says() -> None:
    slices = pd.concat([three_phases(0, BAD, GOOD), three_phases(1, GOOD, BAD)])
    table = best_slice_models(slices)
    assert tuple(table.columns) == RESULT_TABLES["slice_best"].columns
    assert set(table["trial"]) == {"chen_fold1"} and set(table["fold"]) == {1}
    row = row_of(table, phase="test", level="slice")
    assert (row["auc"], row["num_rows"]) == (0, 4)
    assert math.isnan(row["auc_low"])  # a patient per class has no standard error
    assert row_of(table, phase="validation", level="patient")["auc"] == 1
    assert math.isnan(row_of(table, phase="train", level="slice")["auc_low"])


def test_of_models_equal_by_slice_the_better_by_patient_is_best_then_the_first() -> None:
    # by slice both have 2 of 4 pairs right; by patient 0 of 1, and 1 of 1
    worse = {"A": (1, (0.9, 0.2)), "B": (0, (0.8, 0.5))}
    worse_area = scores([1, 1, 0, 0], [0.9, 0.2, 0.8, 0.5])["auc"]
    better = {"A": (1, (0.9, 0.4)), "B": (0, (0.5, 0.45))}
    assert scores([1, 1, 0, 0], [0.9, 0.4, 0.5, 0.45])["auc"] == worse_area
    models = [three_phases(f, v, GOOD) for f, v in enumerate((worse, better, better))]
    assert set(best_slice_models(pd.concat(models))["fold"]) == {1}


def test_each_outer_split_has_its_best() -> None:
    parts = [
        three_phases(fold, GOOD if fold == outer else BAD, GOOD).assign(
            outer_fold=outer, trial=f"outer{outer}_fold{fold}"
        )
        for outer in (0, 1)
        for fold in (0, 1)
    ]
    table = best_slice_models(pd.concat(parts))
    chosen = table[["outer_fold", "trial"]].drop_duplicates()
    assert chosen.to_numpy().tolist() == [[0, "outer0_fold0"], [1, "outer1_fold1"]]


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
    for name in SLICE_TABLES:
        assert tuple(table(nested, name).columns) == RESULT_TABLES[name].columns


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
    assert best.groupby("outer_fold")["trial"].nunique().to_dict() == {0: 1, 1: 1}
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
        written = table(external, name)
        assert set(written["phase"]) == {"external"} and set(written["num_patients"]) == {30}
    assert not (external / "ensembles" / "slice_best.csv").exists()


def test_a_study_without_slices_keeps_no_table_of_an_earlier_run(
    nested: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(nested, out)
    for name in ("slice_predictions", "segmentations"):
        (out / "ensembles" / f"{name}.csv").unlink()
    evaluate_ensembles(out)
    assert not any((out / "ensembles" / f"{name}.csv").exists() for name in SLICE_TABLES)
    assert read_classified_slices(out) is None and read_segmentations(out) is None


def test_a_trials_table_of_another_version_is_refused(nested: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(nested, out)
    path = next(out.glob("trials/*/segmentations.csv"))
    pd.read_csv(path).drop(columns="hd95_mm").to_csv(path, index=False)
    with pytest.raises(MgmtError, match="no column hd95_mm, so another version"):
        slice_tables(out)
    path.unlink()
    with pytest.raises(MgmtError, match="not there yet"):
        slice_tables(out)
