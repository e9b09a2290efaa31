from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    recall_score,
    roc_auc_score,
)

from mgmt_ray.base import stream
from mgmt_ray.training.metrics import (
    auc,
    average_precision,
    brier,
    score,
    sensitivity,
    specificity,
    unit_weights,
)

cases = st.lists(
    # Few distinct values, so that ties are common.
    st.tuples(st.integers(0, 1), st.integers(0, 8)),
    min_size=2,
    max_size=30,
).filter(lambda rows: 0 < sum(label for label, _ in rows) < len(rows))


def split(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([r[0] for r in rows]), np.array([r[1] / 8 for r in rows])


@settings(deadline=None)  # the first call of scikit-learn's imports, and other work, take long
@given(cases)
def test_metrics_agree_with_scikit_learn_ties_included(rows: list[tuple[int, int]]) -> None:
    labels, probabilities = split(rows)
    weights = unit_weights(len(labels))
    called = probabilities >= 0.5
    expected = [
        (auc, roc_auc_score(labels, probabilities)),
        (average_precision, average_precision_score(labels, probabilities)),
        (brier, brier_score_loss(labels, probabilities)),
        (sensitivity, recall_score(labels, called)),
        (specificity, recall_score(labels, called, pos_label=0)),
    ]
    for metric, value in expected:
        assert metric(labels, probabilities, weights)[0] == pytest.approx(value, abs=1e-12)


@settings(max_examples=50)
@given(cases, st.randoms(use_true_random=False))
def test_weights_mean_repeated_subjects(rows: list[tuple[int, int]], random: object) -> None:
    labels, probabilities = split(rows)
    weights = np.array([[random.randint(0, 3) for _ in rows]])  # type: ignore[attr-defined]
    repeated = np.repeat(np.arange(len(rows)), weights[0])
    if not 0 < labels[repeated].sum() < len(repeated):
        return
    ones = unit_weights(len(repeated))
    for metric in (auc, average_precision, brier, sensitivity, specificity):
        weighted = metric(labels, probabilities, weights)[0]
        again = metric(labels[repeated], probabilities[repeated], ones)[0]
        assert weighted == pytest.approx(again, abs=1e-12)


@given(cases)
def test_auc_turns_round_with_the_labels_and_ignores_monotone_change(
    rows: list[tuple[int, int]],
) -> None:
    labels, probabilities = split(rows)
    weights = unit_weights(len(labels))
    area = auc(labels, probabilities, weights)[0]
    assert 0 <= area <= 1
    assert auc(1 - labels, probabilities, weights)[0] == pytest.approx(1 - area, abs=1e-12)
    assert auc(labels, 1 - probabilities, weights)[0] == pytest.approx(1 - area, abs=1e-12)
    assert auc(labels, np.exp(3 * probabilities), weights)[0] == area


def test_many_resamples_at_once_equal_each_alone() -> None:
    draws = stream(0, "test")
    labels, probabilities = draws.integers(0, 2, 20), draws.random(20).round(1)
    weights = draws.integers(0, 3, (50, 20))
    for metric in (auc, average_precision, brier, sensitivity, specificity):
        together = metric(labels, probabilities, weights)
        alone = [metric(labels, probabilities, row[None])[0] for row in weights]
        np.testing.assert_array_equal(together, alone)


def test_one_half_is_called_methylated() -> None:
    labels, probabilities = np.array([1, 1, 0, 0]), np.array([0.5, 0.49, 0.5, 0.49])
    assert sensitivity(labels, probabilities, unit_weights(4))[0] == 0.5
    assert specificity(labels, probabilities, unit_weights(4))[0] == 0.5


def test_a_missing_class_leaves_its_scores_undefined() -> None:
    scores = score(np.array([0.2, 0.7]), np.array([0.0, 0.0]), np.array([0.5, 1.5]))
    assert np.isnan(scores.auc) and np.isnan(scores.sen)
    assert scores.spe == 0.5
    assert scores.loss == 1.0
    labels, probabilities = np.zeros(3, dtype=int), np.array([0.1, 0.2, 0.9])
    assert np.isnan(average_precision(labels, probabilities, unit_weights(3))[0])
    assert np.isnan(brier(labels, probabilities, 0 * unit_weights(3))[0])
