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
"""scikit-learn takes seeds below it."""


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """A grown forest.

    Attributes:
        classifier: scikit-learn's.
        config: how it was grown.
        checksum: fingerprint (SHA-256) of every split and leaf.
    """

    classifier: RandomForestClassifier
    config: ForestConfig
    checksum: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256()
        for tree in self.classifier.estimators_:
            grown = tree.tree_
            for part in (grown.children_left, grown.feature, grown.threshold, grown.value):
                digest.update(np.ascontiguousarray(part).tobytes())
        object.__setattr__(self, "checksum", digest.hexdigest())

    @property
    def facts(self) -> dict[str, Any]:
        """How it was grown, and how much each feature was used (mean decrease of impurity)."""
        used = [float(share) for share in self.classifier.feature_importances_]
        return self.config.model_dump(mode="json") | {"importances": used}

    def predict(self, values: Table) -> Probabilities:
        """Mean over trees of the leaf's share of methylated, by subject."""
        return self.classifier.predict_proba(values)[:, 1].astype(np.float64)


def grow_forest(
    values: Table,
    labels: Int64[np.ndarray, " subject"],
    config: ForestConfig,
    seed: int,
    threads: int,
) -> Forest:
    """Grow a forest on training subjects; classes are not balanced.

    Args:
        values: the six features; none is missing.
        labels: 1 for methylated; both must be there.
        config: how.
        seed: of a named stream.
        threads: that grow trees at a time; their number changes nothing.
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
    classifier.set_params(n_jobs=1)  # threads would add trees' votes in any order, and round so
    return Forest(classifier, config)
