"""First-order features of a masked volume: what a network must beat without any texture."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64, Shaped
from scipy.stats import skew

from mgmt_ray.baselines.baseline_model import Table
from mgmt_ray.baselines.logistic import Logistic, fit_logistic

FIRST_ORDER_FEATURES = ("mean", "deviation", "skewness", "log_voxels")


def first_order_features(
    volume: Shaped[np.ndarray, "depth height width"],
) -> tuple[float, float, float, float]:
    """Return mean, standard deviation, skewness, and logarithm of the number of tumour voxels.

    They do not depend on where a value lies in the tumour.

    Args:
        volume: as networks read it: scaled to [0, 1], 0 outside the tumour. A tumour voxel that is
            exactly 0 (the minimum of a map with negative values) counts as background.

    Returns:
        In the order of :data:`FIRST_ORDER_FEATURES`; a constant tumour has skewness 0.

    >>> first_order_features(np.array([[[0.0, 0.25, 0.25, 0.625]]]))[:2]
    (0.375, 0.1767766952966369)
    """
    voxels = volume[volume != 0].astype(np.float64)
    deviation = float(voxels.std())
    skewness = float(skew(voxels)) if np.ptp(voxels) > 0 else 0.0
    return float(voxels.mean()), deviation, skewness, float(np.log(len(voxels)))


def fit_first_order(features: Table, labels: Int64[np.ndarray, " subject"]) -> Logistic:
    """Fit logistic regression to the features of training subjects (see :func:`fit_logistic`).

    Args:
        features: a row of :func:`first_order_features` per subject.
        labels: 1 for methylated; both classes must occur.
    """
    return fit_logistic(features, labels, FIRST_ORDER_FEATURES, ["median"] * 4)
