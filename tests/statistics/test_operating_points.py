from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from statsmodels.stats.proportion import proportion_confint

from mgmt_ray.base import stream
from mgmt_ray.statistics.calibrators import recalibrate
from mgmt_ray.statistics.intervals import bootstrap_weights
from mgmt_ray.statistics.operating_points import (
    OPERATING_COLUMNS,
    classification_rates,
    operating_points_table,
    overall_scores,
)
from tests.statistics.conftest import split_predictions


def test_rates_and_intervals_are_those_of_published_libraries() -> None:
    draws = stream(0, "test")
    labels = (np.arange(57) < 24).astype(int)
    called = draws.random(57) < 0.3 + 0.4 * labels
    tn, fp, fn, tp = confusion_matrix(labels, called).ravel().tolist()
    counts = {
        "sen": (tp, tp + fn),
        "spe": (tn, tn + fp),
        "ppv": (tp, tp + fp),
        "npv": (tn, tn + fn),
    }
    for rate, interval in classification_rates(labels, called).items():
        right, number = counts[rate]
        low, high = proportion_confint(right, number, method="beta")
        assert interval.value == pytest.approx(right / number)
        assert (interval.low, interval.high) == pytest.approx((low, high))


def test_accuracy_and_f1_are_those_of_scikit_learn() -> None:
    labels = (np.arange(57) < 24).astype(int)
    called = stream(0, "test").random(57) < 0.3 + 0.4 * labels
    weights = bootstrap_weights(labels, seed=42)
    scores = overall_scores(labels, called, weights)
    assert scores["accuracy"].value == pytest.approx(accuracy_score(labels, called))
    assert scores["f1"].value == pytest.approx(f1_score(labels, called))
    for interval in scores.values():
        assert interval.low < interval.value < interval.high
    none_called = overall_scores(labels, np.zeros(57, dtype=bool), weights)
    assert (none_called["f1"].value, none_called["f1"].high) == (0, 0)


def test_a_value_of_nobody_is_not_a_number() -> None:
    rates = classification_rates(np.array([1, 0, 0]), np.zeros(3, dtype=bool))
    assert np.isnan([rates["ppv"].value, rates["ppv"].low, rates["ppv"].high]).all()
    assert (rates["sen"].value, rates["spe"].value) == (0, 1)
    assert rates["npv"].value == pytest.approx(2 / 3)


def test_each_point_calls_the_test_subjects_at_its_threshold() -> None:
    test = split_predictions("test")
    recalibrated = recalibrate(split_predictions("validation", subjects=range(80)), test)
    table = operating_points_table(recalibrated)
    assert tuple(table.columns) == OPERATING_COLUMNS
    assert table["point"].tolist() == ["0.5", "validation", "prior"] * 2
    chosen = recalibrated.fits.set_index("network")["threshold"]
    for row in table.itertuples():
        threshold = {"0.5": 0.5, "validation": chosen[row.network], "prior": 0.6}[row.point]
        assert row.threshold == pytest.approx(threshold)
        rows = test[test["network"] == row.network]
        called = rows["probability"] >= threshold
        assert row.sen == pytest.approx(called[rows["label"] == 1].mean())
        assert row.spe == pytest.approx(1 - called[rows["label"] == 0].mean())
        assert row.ppv == pytest.approx(rows.loc[called, "label"].mean())
        assert row.npv == pytest.approx(1 - rows.loc[~called, "label"].mean())
        assert row.sen_low < row.sen < row.sen_high
    assert table.groupby("point")["sen"].first().nunique() > 1


def test_a_subject_exactly_at_the_threshold_is_called_methylated() -> None:
    validation = split_predictions("validation", subjects=range(80), networks=("random",))
    test = split_predictions("test", networks=("random",))
    (threshold,) = recalibrate(validation, test).fits["threshold"]
    assert threshold != 0.5
    for point, exactly in (("0.5", 0.5), ("validation", threshold)):
        for p, called in ((exactly, 1.0), (np.nextafter(exactly, 0) - 1e-12, 0.0)):
            recalibrated = recalibrate(validation, test.assign(probability=p))
            row = operating_points_table(recalibrated).set_index("point").loc[point]
            assert (row["sen"], row["spe"]) == (called, 1 - called)


def test_thresholds_of_several_outer_splits_are_averaged_as_shifts() -> None:
    test = split_predictions("test", outers=(0, 1), shared=57, networks=("random",))
    validation = split_predictions("validation", outers=(0, 1), networks=("random",))
    recalibrated = recalibrate(validation, test)
    row = operating_points_table(recalibrated).set_index("point").loc["validation"]
    thresholds = recalibrated.fits["threshold"].to_numpy()
    assert row["threshold"] == pytest.approx(thresholds.mean())
    odds = [
        rows.set_index("subject")["probability"].pipe(lambda p: p / (1 - p)) * (1 - t) / t
        for (_, rows), t in zip(test.groupby("outer_fold"), thresholds, strict=True)
    ]
    called = (odds[0] / (1 + odds[0]) + odds[1] / (1 + odds[1])) / 2 >= 0.5
    label = test.drop_duplicates("subject").set_index("subject")["label"]
    assert row["sen"] == pytest.approx(called[label == 1].mean())
    assert row["spe"] == pytest.approx(1 - called[label == 0].mean())
