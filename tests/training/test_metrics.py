import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from mgmt_ray.training.metrics import score


def test_scores_equal_scikit_learns_with_ties() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        probability = random.integers(0, 12, 60) / 11
        label = random.integers(0, 2, 60).astype(float)
        scores = score(probability, label, np.zeros(60))
        # float64 sums in another order
        assert scores.auc == pytest.approx(roc_auc_score(label, probability), abs=1e-12)
        assert scores.ap == pytest.approx(average_precision_score(label, probability), abs=1e-12)
        assert scores.sen == pytest.approx((probability > 0.5)[label == 1].mean())
        assert scores.spe == pytest.approx((probability <= 0.5)[label == 0].mean())


def test_a_missing_class_leaves_its_scores_undefined() -> None:
    scores = score(np.array([0.2, 0.7]), np.array([0.0, 0.0]), np.array([0.5, 1.5]))
    assert np.isnan(scores.auc) and np.isnan(scores.sen)
    assert scores.spe == 0.5
    assert scores.loss == 1.0
