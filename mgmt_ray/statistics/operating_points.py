"""Operating points: sensitivity, specificity and predictive values at three thresholds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Bool

from mgmt_ray.statistics.calibrators import (
    AS_PREDICTED,
    PRIOR_CORRECTED,
    THRESHOLD_CHOSEN,
    Recalibrated,
    mean_fits,
)
from mgmt_ray.statistics.intervals import (
    Draws,
    Interval,
    Labels,
    bootstrap_weights,
    column_names,
    exact_interval,
    interval_columns,
    percentile_interval,
)
from mgmt_ray.training.metrics import THRESHOLD

POINTS: tuple[str, ...] = ("0.5", "validation", "prior")
"""Threshold 0.5 as in Schmitz et al. 2024; the one chosen on validation; 0.5 after the correction
for the training prior."""

_VERSIONS = (AS_PREDICTED, THRESHOLD_CHOSEN, PRIOR_CORRECTED)

RATES: tuple[str, ...] = ("sen", "spe", "ppv", "npv")
OPERATING_COLUMNS = (
    *("network", "ensemble", "point", "threshold"),
    *column_names(*RATES, "accuracy", "f1"),
)
"""``threshold`` is that of the probabilities as predicted, as a mean over outer splits."""


def operating_points_table(recalibrated: Recalibrated, seed: int = 42) -> pd.DataFrame:
    """Return the rates of the test subjects at each operating point, with exact intervals.

    The table has :data:`OPERATING_COLUMNS`; a rate without subjects (PPV where none is called
    methylated) is NaN.
    """
    fits = mean_fits(recalibrated.fits)
    rows: list[dict[str, object]] = []
    resamples: dict[bytes, Draws] = {}
    for key, labels, probabilities in recalibrated.models():
        fit = fits[key["network"], key["ensemble"]]
        thresholds = (THRESHOLD, fit["threshold"], fit["prior_threshold"])
        for point, version, threshold in zip(POINTS, _VERSIONS, thresholds, strict=True):
            called = probabilities[version] >= THRESHOLD
            if labels.tobytes() not in resamples:
                resamples[labels.tobytes()] = bootstrap_weights(labels, seed)
            weights = resamples[labels.tobytes()]
            rates = classification_rates(labels, called) | overall_scores(labels, called, weights)
            rows.append({**key, "point": point, "threshold": threshold, **interval_columns(rates)})
    return pd.DataFrame(rows, columns=list(OPERATING_COLUMNS))


def classification_rates(
    labels: Labels, called: Bool[np.ndarray, " subject"]
) -> dict[str, Interval]:
    """Return sensitivity, specificity and predictive values with Clopper and Pearson's intervals.

    The intervals of PPV and NPV take the number of calls as given; both values hold for the
    prevalence of these subjects.

    Returns:
        By name (see :data:`RATES`), in [0, 1]; NaN where the rate has no subjects.

    >>> called = np.array([True, True, False, False, False])
    >>> str(classification_rates(np.array([1, 1, 1, 0, 0]), called)["sen"])
    '0.667 [0.094, 0.992]'
    """
    methylated = labels == 1
    is_correct = {
        "sen": called[methylated],
        "spe": ~called[~methylated],
        "ppv": methylated[called],
        "npv": ~methylated[~called],
    }
    nan = float("nan")
    return {
        rate: exact_interval(int(c.sum()), len(c)) if len(c) else Interval(nan, nan, nan)
        for rate, c in is_correct.items()
    }


def overall_scores(
    labels: Labels, called: Bool[np.ndarray, " subject"], weights: Draws
) -> dict[str, Interval]:
    """Return accuracy with Clopper and Pearson's interval, and F1 with that of the bootstrap.

    F1 = 2·TP / (2·TP + FP + FN), which no count of independent subjects divides.

    >>> labels = np.array([1, 1, 1, 0, 0])
    >>> called = np.array([True, True, False, False, False])
    >>> scores = overall_scores(labels, called, bootstrap_weights(labels, seed=42))
    >>> scores["accuracy"].value, scores["f1"].value
    (0.8, 0.8)
    """
    methylated = labels == 1
    accuracy = exact_interval(int((methylated == called).sum()), len(labels))
    weights = np.vstack([np.ones(len(labels), np.int64), weights])
    positives = weights @ called.astype(np.int64) + weights @ methylated.astype(np.int64)
    hits = 2 * (weights @ (called & methylated).astype(np.int64))
    f1 = np.divide(hits, positives, out=np.full(len(weights), np.nan), where=positives > 0)
    return {"accuracy": accuracy, "f1": percentile_interval(float(f1[0]), f1[1:])}
