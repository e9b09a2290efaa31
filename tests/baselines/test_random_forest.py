from __future__ import annotations

import numpy as np
import pytest

from mgmt_ray.baselines.baseline_model import Prevalence
from mgmt_ray.baselines.random_forest import Forest, grow_forest
from mgmt_ray.study.baseline_config import ForestConfig

SMALL = ForestConfig(trees=40)


def drawn(number: int = 120) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    values = random.normal(size=(number, 6)) * 10.0 ** np.arange(-2, 10, 2)
    return values, (random.uniform(size=number) < 0.3 + 0.4 * (values[:, 2] > 0)).astype(np.int64)


def grow(config: ForestConfig = SMALL, seed: int = 2**40 + 5, threads: int = 1) -> Forest:
    return grow_forest(*drawn(), config, seed, threads)


def test_the_defaults_are_the_papers() -> None:
    assert ForestConfig() == ForestConfig(trees=10_000, depth=5, min_leaf=10)


def test_threads_change_nothing() -> None:
    values, _ = drawn()
    one, two = grow(), grow(threads=2)
    assert one.checksum == two.checksum
    assert one.predict(values).tolist() == two.predict(values).tolist()


def test_another_seed_or_subject_gives_another_forest() -> None:
    assert grow().checksum != grow(seed=7).checksum
    values, labels = drawn()
    labels[0] = 1 - labels[0]
    assert grow_forest(values, labels, SMALL, 2**40 + 5, 1).checksum != grow().checksum


def test_trees_are_as_deep_and_leaves_as_large_as_configured() -> None:
    forest = grow(ForestConfig(trees=30, depth=2, min_leaf=25))
    for tree in forest.classifier.estimators_:
        leaves = tree.tree_.children_left == -1
        assert tree.get_depth() <= 2
        # scikit-learn counts a subject once in a leaf, however often the bootstrap drew it
        assert tree.tree_.n_node_samples[leaves].min() >= 25


def test_the_informative_feature_has_the_highest_importance() -> None:
    values, labels = drawn()
    forest = grow(ForestConfig(trees=300))
    assert np.argmax(forest.summary["importances"]) == 2
    high, low = (forest.predict(values[values[:, 2] * s > 0]).mean() for s in (1, -1))
    # 0.7 and 0.3 of 60 subjects each, less what the leaves' size smooths
    assert high - low > 0.2
    assert forest.predict(values).mean() == pytest.approx(labels.mean(), abs=0.05)


def test_prevalence_is_the_same_for_every_subject() -> None:
    model = Prevalence(0.42)
    assert model.predict(np.zeros((3, 0))).tolist() == [0.42] * 3
    assert model.checksum != Prevalence(0.43).checksum
