"""How sure a number is: stratified bootstrap for AUC, AP and Brier, exact binomial for rates."""

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
    """A value with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Whether a value lies outside the interval; its bounds belong to it."""
        return not self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def read_interval(row: Mapping[Hashable, Any], metric: str) -> Interval:
    """A metric's interval in a row of a table ("auc", "ap", "brier", "sen", "auc_difference", ...).

    It is that of the columns named like the metric, ``_low`` and ``_high`` added.
    """
    return Interval(row[metric], row[f"{metric}_low"], row[f"{metric}_high"])


def bootstrap_weights(
    labels: Integer[np.ndarray, " subject"],
    seed: int,
    num_resamples: int = NUM_RESAMPLES,
    *,
    stratified: bool = True,
) -> Int[np.ndarray, "resample subject"]:
    """How often each subject is drawn in each resample.

    Stratified, methylated and unmethylated subjects are drawn apart, with replacement, each class
    at its own size; else all together, so that the share of methylated varies too. The stream is
    named "bootstrap": subjects with the same labels in the same order get the same resamples, so
    that models of one test set are resampled together.

    Args:
        labels: 1 methylated, 0 unmethylated.
        seed: the study's.
        num_resamples: rows to draw.
        stratified: whether each resample has as many methylated as the sample.
    """
    draws = stream(seed, "bootstrap")
    weights = np.zeros((num_resamples, len(labels)), dtype=np.int64)
    everybody = np.arange(len(labels))
    parts = [everybody[labels == label] for label in (0, 1)] if stratified else [everybody]
    for members in parts:
        if len(members):
            evenly = np.full(len(members), 1 / len(members))
            weights[:, members] = draws.multinomial(len(members), evenly, size=num_resamples)
    return weights


def percentile_interval(
    value: float, resampled: Float[np.ndarray, " resample"], confidence: float = CONFIDENCE
) -> Interval:
    """The percentile interval of a bootstrap (Efron and Tibshirani 1993, ch. 13).

    It shrinks to a point where all resamples agree, as they do when the classes are perfectly
    separated: such an interval shows the method's limit, not certainty.
    """
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Interval(value, float(low), float(high))


def interval_columns(intervals: Mapping[str, Interval]) -> dict[str, float]:
    """Intervals under a table's column names, as :func:`read_interval` reads them back."""
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
    """The columns that hold these metrics with their intervals."""
    return tuple(f"{metric}{bound}" for metric in metrics for bound in ("", "_low", "_high"))


def exact_interval(successes: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """Clopper and Pearson's (1934) interval of a proportion: covers at least ``confidence``.

    Args:
        successes: from 0 to ``trials``.
        trials: at least 1.
        confidence: least share of intervals that hold the true proportion.
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
    """Mean over the models of an outer split, then over the splits, which have equal weight.

    Args:
        values: NaN where a model's value is not defined; such a model is left out.
        outers: number of each model's outer split.

    Returns:
        NaN where no model has a value.
    """
    by_split = [_nan_mean(values[outers == outer]) for outer in np.unique(outers)]
    return _nan_mean(np.stack(by_split))


def std_over_models(
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


def defined_interval(
    value: float, resampled: Float[np.ndarray, " resample"], confidence: float = CONFIDENCE
) -> Interval:
    """The bootstrap's percentile interval over the resamples in which the value is defined."""
    known = resampled[~np.isnan(resampled)]
    if math.isnan(value) or not len(known):
        return Interval(value, math.nan, math.nan)
    return percentile_interval(value, known, confidence)


def _nan_mean(values: Float[np.ndarray, "row resample"]) -> Float[np.ndarray, " resample"]:
    known = ~np.isnan(values)
    total, number = np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0)
    mean: np.ndarray = np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)
    return mean
