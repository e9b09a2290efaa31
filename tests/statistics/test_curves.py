from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score, roc_curve

from mgmt_ray.base import stream
from mgmt_ray.statistics.calibrators import recalibrate
from mgmt_ray.statistics.curves import (
    DECISION_COLUMNS,
    THRESHOLDS,
    decision_table,
    net_benefit,
    precision_recall_points,
    roc_points,
)
from tests.statistics.conftest import split_predictions


def tied_case() -> tuple[np.ndarray, np.ndarray]:
    draws = stream(0, "test")
    return draws.integers(0, 2, 40), draws.random(40).round(1)


def test_roc_points_are_those_of_scikit_learn_and_bound_the_auc() -> None:
    labels, probabilities = tied_case()
    false_positives, true_positives = roc_points(labels, probabilities)
    expected = roc_curve(labels, probabilities, drop_intermediate=False)
    np.testing.assert_allclose(false_positives, expected[0], atol=1e-15)
    np.testing.assert_allclose(true_positives, expected[1], atol=1e-15)
    area = np.trapezoid(true_positives, false_positives)
    assert area == pytest.approx(roc_auc_score(labels, probabilities))


def test_the_area_under_precision_recall_steps_is_the_average_precision() -> None:
    labels, probabilities = tied_case()
    recall, precision = precision_recall_points(labels, probabilities)
    area = (np.diff(recall) * precision[1:]).sum()
    assert area == pytest.approx(average_precision_score(labels, probabilities))
    assert recall[0] == 0
    assert recall[-1] == 1
    assert precision[-1] == pytest.approx(labels.mean())


def test_net_benefit_is_its_definition_at_every_threshold() -> None:
    draws = stream(0, "test")
    labels, p = (np.arange(57) < 24).astype(int), np.round(draws.random(57), 2)
    benefits = net_benefit(labels, p, THRESHOLDS)
    for t, benefit in zip(THRESHOLDS, benefits, strict=True):
        _, fp, _, tp = confusion_matrix(labels, p >= t).ravel()
        assert benefit == pytest.approx(tp / 57 - fp / 57 * t / (1 - t))


def test_the_table_has_treat_all_and_the_calibrated_probabilities() -> None:
    recalibrated = recalibrate(split_predictions("validation"), split_predictions("test"))
    table = decision_table(recalibrated)
    assert tuple(table.columns) == DECISION_COLUMNS
    assert len(table) == 2 * 76
    assert (table["threshold"].min(), table["threshold"].max()) == (0.05, 0.8)
    predicted = recalibrated.probabilities[recalibrated.probabilities["network"] == "random"]
    expected = net_benefit(
        predicted["label"].to_numpy(), predicted["temperature scaled"].to_numpy(), THRESHOLDS
    )
    rows = table[table["network"] == "random"]
    np.testing.assert_array_equal(rows["net_benefit"], expected)
    share = predicted["label"].mean()
    np.testing.assert_allclose(
        rows["treat_all"], share - (1 - share) * THRESHOLDS / (1 - THRESHOLDS), atol=1e-12
    )
