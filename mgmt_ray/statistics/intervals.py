"""Confidence intervals: bootstrap resamples and percentiles, exact binomial, means over models."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer
from scipy.stats import beta

from mgmt_ray.base import stream

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the bounds of its 95 % interval.

    Example:
        >>> interval = Interval(0.66, 0.479, 0.803)
        >>> str(interval), interval.excludes(0.5)
        ('0.660 [0.479, 0.803]', False)
    """

    value: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Return whether a value lies outside the interval; its bounds belong to it."""
        return not self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def read_interval(row: Mapping[Hashable, Any], metric: str) -> Interval:
    """Read a metric's interval from the columns METRIC, METRIC_low and METRIC_high of a row.

    Example:
        >>> str(read_interval({"auc": 0.66, "auc_low": 0.479, "auc_high": 0.803}, "auc"))
        '0.660 [0.479, 0.803]'
    """
    return Interval(row[metric], row[f"{metric}_low"], row[f"{metric}_high"])


def bootstrap_weights(
    labels: Integer[np.ndarray, " subject"],
    seed: int,
    num_resamples: int = NUM_RESAMPLES,
    *,
    stratified: bool = True,
) -> Int[np.ndarray, "resample subject"]:
    """Draw bootstrap resamples: how often each subject occurs in each of them.

    Stratified, methylated and unmethylated subjects are drawn separately, with replacement, each
    class at its own size; otherwise together, so that the share of methylated varies too. The
    random stream is named "bootstrap": subjects with the same labels in the same order get the same
    resamples, so that models of one test set are resampled together.

    Args:
        labels: 1 methylated, 0 unmethylated.
        num_resamples: number of rows.
        stratified: whether each resample has as many methylated as the sample.

    Example:
        >>> labels = np.array([1, 1, 1, 0, 0])
        >>> weights = bootstrap_weights(labels, seed=42, num_resamples=3)
        >>> weights.shape, weights @ labels  # every resample has 3 methylated subjects
        ((3, 5), array([3, 3, 3]))
    """
    draws = stream(seed, "bootstrap")
    weights = np.zeros((num_resamples, len(labels)), dtype=np.int64)
    everyone = np.arange(len(labels))
    strata = [everyone[labels == label] for label in (0, 1)] if stratified else [everyone]
    for stratum in strata:
        if len(stratum):
            uniform = np.full(len(stratum), 1 / len(stratum))
            weights[:, stratum] = draws.multinomial(len(stratum), uniform, size=num_resamples)
    return weights


def percentile_interval(
    value: float, resampled: Float[np.ndarray, " resample"], confidence: float = CONFIDENCE
) -> Interval:
    """Return the percentile interval of a bootstrap (Efron and Tibshirani 1993, ch. 13).

    It shrinks to a point where all resamples agree, as they do when the classes are perfectly
    separated: such an interval shows the method's limit, not certainty.

    Example:
        >>> str(percentile_interval(0.5, np.linspace(0.0, 1.0, 1001)))
        '0.500 [0.025, 0.975]'
    """
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Interval(value, float(low), float(high))


def interval_columns(intervals: Mapping[str, Interval]) -> dict[str, float]:
    """Return intervals by column name, the inverse of :func:`read_interval`."""
    return {
        f"{name}{bound}": number
        for name, interval in intervals.items()
        for bound, number in (
            ("", interval.value),
            ("_low", interval.low),
            ("_high", interval.high),
        )
    }


def column_names(*metrics: str) -> tuple[str, ...]:
    """Return the columns that hold these metrics with their intervals."""
    return tuple(f"{metric}{bound}" for metric in metrics for bound in ("", "_low", "_high"))


def exact_interval(successes: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """Return Clopper and Pearson's (1934) interval of a proportion.

    Args:
        successes: from 0 to ``trials``.
        trials: at least 1.
        confidence: minimum coverage.

    Example:
        >>> str(exact_interval(18, 24))
        '0.750 [0.533, 0.902]'
    """
    assert 0 <= successes <= trials and trials > 0, f"{successes} successes of {trials}"
    tail = (1 - confidence) / 2
    failures = trials - successes
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, failures + 1))
    high = 1.0 if failures == 0 else float(beta.ppf(1 - tail, successes + 1, failures))
    return Interval(successes / trials, low, high)


def mean_over_models(
    values: Float[np.ndarray, "model resample"], outers: Int[np.ndarray, " model"]
) -> Float[np.ndarray, " resample"]:
    """Average over the models of an outer split, then over the splits, which have equal weight.

    Args:
        values: NaN where a model's value is not defined; such a model is omitted.
        outers: number of each model's outer split.

    Returns:
        NaN where no model has a value.

    Example:
        >>> mean_over_models(np.array([[0.5], [0.7], [0.8]]), np.array([0, 0, 1]))
        array([0.7])
    """
    by_split = [_nan_mean(values[outers == outer]) for outer in np.unique(outers)]
    return _nan_mean(np.stack(by_split))


def std_over_models(
    values: Float[np.ndarray, " model"], outers: Int[np.ndarray, " model"]
) -> float:
    """Return the standard deviation (n − 1) of models about the mean of their outer split.

    With several splits it is pooled: squares are summed over all of them and divided by the sum of
    their n − 1, so that differences between test sets do not count as variation between folds. NaN
    where no split has two models with a value.

    Example:
        >>> round(std_over_models(np.array([0.5, 0.7, 0.8]), np.array([0, 0, 1])), 3)
        0.141
    """
    squares, degrees_of_freedom = 0.0, 0
    for outer in np.unique(outers):
        of_split = values[outers == outer]
        defined = of_split[~np.isnan(of_split)]
        if len(defined):
            squares += float(((defined - defined.mean()) ** 2).sum())
            degrees_of_freedom += len(defined) - 1
    return math.sqrt(squares / degrees_of_freedom) if degrees_of_freedom else math.nan


def defined_interval(
    value: float, resampled: Float[np.ndarray, " resample"], confidence: float = CONFIDENCE
) -> Interval:
    """Return the percentile interval over the resamples in which the value is not NaN."""
    defined = resampled[~np.isnan(resampled)]
    if math.isnan(value) or not len(defined):
        return Interval(value, math.nan, math.nan)
    return percentile_interval(value, defined, confidence)


def _nan_mean(values: Float[np.ndarray, "row resample"]) -> Float[np.ndarray, " resample"]:
    defined = ~np.isnan(values)
    total, count = np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0)
    mean: np.ndarray = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return mean
