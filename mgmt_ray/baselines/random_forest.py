"""The random forest on the six radiomic features (Li et al. 2018, Schmitz et al. 2024)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from mgmt_ray.baselines.baseline_model import Probabilities, Table
from mgmt_ray.study.baseline_config import ForestConfig

if TYPE_CHECKING:  # reading a study does not load scikit-learn
    from sklearn.ensemble import RandomForestClassifier

LARGEST_SEED = 2**32
"""Exclusive upper bound of scikit-learn's seeds."""


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """A fitted random forest.

    Attributes:
        classifier: scikit-learn's forest.
        config: its hyperparameters.
        checksum: SHA-256 of every split and leaf.
    """

    classifier: RandomForestClassifier
    config: ForestConfig
    checksum: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256()
        for tree in self.classifier.estimators_:
            nodes = tree.tree_
            for array in (nodes.children_left, nodes.feature, nodes.threshold, nodes.value):
                digest.update(np.ascontiguousarray(array).tobytes())
        object.__setattr__(self, "checksum", digest.hexdigest())

    @property
    def summary(self) -> dict[str, Any]:
        """Hyperparameters, and the features' importances (mean decrease of impurity)."""
        importances = [float(share) for share in self.classifier.feature_importances_]
        return self.config.model_dump(mode="json") | {"importances": importances}

    def predict(self, values: Table) -> Probabilities:
        """Return, for each subject, the mean over trees of the leaf's share of methylated."""
        return self.classifier.predict_proba(values)[:, 1].astype(np.float64)


def grow_forest(
    values: Table,
    labels: Int64[np.ndarray, " subject"],
    config: ForestConfig,
    seed: int,
    threads: int,
) -> Forest:
    """Fit a random forest to training subjects; classes are not balanced.

    Args:
        values: the six features; none may be missing.
        labels: 1 for methylated; both classes must occur.
        config: hyperparameters.
        seed: from a named stream (see :func:`mgmt_ray.base.stream_seed`).
        threads: grow trees in parallel; their number does not change the result.

    Examples:
        >>> features = np.arange(24.0).reshape(4, 6)
        >>> labels = np.array([0, 0, 1, 1])
        >>> forest = grow_forest(features, labels, ForestConfig(trees=5, min_leaf=1), 0, 1)
        >>> forest.predict(features[:1]) < 0.5
        array([ True])
    """
    from sklearn.ensemble import RandomForestClassifier

    classifier = RandomForestClassifier(
        n_estimators=config.trees,
        max_depth=config.depth,
        min_samples_leaf=config.min_leaf,
        random_state=seed % LARGEST_SEED,
        n_jobs=threads,
    )
    classifier.fit(values, labels)
    classifier.set_params(n_jobs=1)  # threads sum the trees in any order, which changes rounding
    return Forest(classifier, config)
