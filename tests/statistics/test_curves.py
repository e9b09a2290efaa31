from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from mgmt_ray.base import stream
from mgmt_ray.statistics.curves import precision_recall_points, roc_points


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
