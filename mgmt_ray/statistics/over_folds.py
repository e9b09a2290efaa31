"""Mean and deviation over the models of a study: its folds, seeds and outer splits.

Models are trained on overlapping subjects and tested on the same ones, so their deviation is no
measure of how sure a mean is: that is what resampled patients are for.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int

from mgmt_ray.statistics.intervals import CONFIDENCE, Interval, percentile_interval


def mean_over_models(
    values: Float[np.ndarray, "model resample"], outers: Int[np.ndarray, " model"]
) -> Float[np.ndarray, " resample"]:
    """Mean over the models of an outer split, then over the splits, which have equal weight.

    Args:
        values: NaN where a model's value is not defined; such a model is left out.
        outers: number of each model's outer split.

    Returns:
        NaN where no model has a value.
    """
    by_split = [_known_mean(values[outers == outer]) for outer in np.unique(outers)]
    return _known_mean(np.stack(by_split))


def deviation_over_models(
    values: Float[np.ndarray, " model"], outers: Int[np.ndarray, " model"]
) -> float:
    """Standard deviation (n − 1) of an outer split's models about their mean.

    With several splits the squares are summed over all of them and divided by the sum of their
    n − 1, so that test sets that differ do not count as a deviation of folds. NaN where no split
    has two models with a value.
    """
    squares, freedom = 0.0, 0
    for outer in np.unique(outers):
        own = values[outers == outer]
        known = own[~np.isnan(own)]
        if len(known):
            squares += float(((known - known.mean()) ** 2).sum())
            freedom += len(known) - 1
    return math.sqrt(squares / freedom) if freedom else math.nan


def known_interval(
    value: float, resampled: Float[np.ndarray, " resample"], confidence: float = CONFIDENCE
) -> Interval:
    """The bootstrap's percentile interval over the resamples in which the value is defined."""
    known = resampled[~np.isnan(resampled)]
    if math.isnan(value) or not len(known):
        return Interval(value, math.nan, math.nan)
    return percentile_interval(value, known, confidence)


def _known_mean(values: Float[np.ndarray, "row resample"]) -> Float[np.ndarray, " resample"]:
    known = ~np.isnan(values)
    total, number = np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0)
    mean: np.ndarray = np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)
    return mean
