"""Confidence intervals: bootstrap and jackknife of subjects, exact binomial, means of models."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Int, Integer
from scipy.special import expit, logit
from scipy.stats import beta
from scipy.stats import t as student_t

from mgmt_ray.base import stream

Labels: TypeAlias = Integer[np.ndarray, " subject"]
"""1 methylated, 0 unmethylated."""

PerSubject: TypeAlias = Float[np.ndarray, " subject"]
"""A number of each subject, like its probability of methylation."""

Draws: TypeAlias = Integer[np.ndarray, "resample subject"]
"""How often each subject is drawn in each bootstrap resample."""

PerResample: TypeAlias = Float[np.ndarray, " resample"]
"""A number of each bootstrap resample."""

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the bounds of its 95 % interval.

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

    >>> str(read_interval({"auc": 0.66, "auc_low": 0.479, "auc_high": 0.803}, "auc"))
    '0.660 [0.479, 0.803]'
    """
    return Interval(row[metric], row[f"{metric}_low"], row[f"{metric}_high"])


def bootstrap_weights(
    labels: Labels, seed: int, num_resamples: int = NUM_RESAMPLES, *, stratified: bool = True
) -> Draws:
    """Draw bootstrap resamples: how often each subject occurs in each of them.

    Stratified, methylated and unmethylated subjects are drawn separately, with replacement, each
    class at its own size; otherwise together, so that the share of methylated varies too. The
    random stream is named "bootstrap": subjects with the same labels in the same order get the same
    resamples, so that models of one test set are resampled together.

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


def percentile_interval(value: float, resampled: PerResample) -> Interval:
    """Return the percentile interval of a bootstrap (Efron and Tibshirani 1993, ch. 13).

    It shrinks to a point where all resamples agree, as they do when the classes are perfectly
    separated: such an interval shows the method's limit, not certainty.

    >>> str(percentile_interval(0.5, np.linspace(0.0, 1.0, 1001)))
    '0.500 [0.025, 0.975]'
    """
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Interval(value, float(low), float(high))


def logit_interval(value: float, margin: float, num_pairs: int) -> Interval:
    """Return the interval of an AUC or AP that is symmetric on the logit scale.

    logit(value) ± margin / (value·(1 − value)), so within [0, 1]. A value of 1 (or 0) has no margin
    and no finite logit: its interval is Clopper and Pearson's for k of k (or 0 of k) pairs in the
    right order, k being the number of subjects in the smaller class. So many pairs can be formed
    that share no subject and so are independent, and each is in order with probability AUC.

    Args:
        margin: standard error times the quantile; NaN gives no bounds.
        num_pairs: k.

    >>> str(logit_interval(0.8, 0.1, 10)), str(logit_interval(1.0, 0.0, 10))
    ('0.800 [0.682, 0.882]', '1.000 [0.692, 1.000]')
    """
    if math.isnan(value) or math.isnan(margin):
        return Interval(value, math.nan, math.nan)
    if value in (0.0, 1.0):
        return exact_interval(int(value) * num_pairs, num_pairs)
    half = margin / (value * (1 - value))
    return Interval(value, float(expit(logit(value) - half)), float(expit(logit(value) + half)))


def leave_one_out(num_subjects: int) -> Draws:
    """Return the jackknife's samples: each leaves out one subject.

    >>> leave_one_out(3).tolist()
    [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
    """
    return 1 - np.eye(num_subjects, dtype=np.int64)


def jackknife_std(labels: Labels, values: PerSubject) -> float:
    """Return the standard error of a metric, classes being sampled separately.

    The jackknife of several samples (Arvesen 1969): Σ (n − 1)/n · Σ (θᵢ − mean)², each class with
    its own n and mean. Of an AUC it is :func:`.delong.delong_variance`'s root exactly.

    Args:
        values: the metric without each subject.

    Returns:
        NaN where a class has fewer than two subjects.
    """
    classes = [values[labels == label] for label in (0, 1)]
    if min(map(len, classes)) < 2:
        return math.nan
    return math.sqrt(sum((len(v) - 1) * float(np.var(v)) for v in classes))


def student_quantile(num_subjects: int) -> float:
    """Return the factor of a standard error in a 95 % interval of two classes' subjects.

    Student's t with n − 2 degrees of freedom, since the standard error is estimated too.
    """
    return float(student_t.ppf((1 + CONFIDENCE) / 2, num_subjects - 2))


def interval_columns(intervals: Mapping[str, Interval]) -> dict[str, float]:
    """Return intervals by column name, the inverse of :func:`read_interval`."""
    numbers = [n for i in intervals.values() for n in (i.value, i.low, i.high)]
    return dict(zip(column_names(*intervals), numbers, strict=True))


def column_names(*metrics: str) -> tuple[str, ...]:
    """Return the columns that hold these metrics with their intervals."""
    return tuple(f"{metric}{bound}" for metric in metrics for bound in ("", "_low", "_high"))


def exact_interval(successes: int, trials: int) -> Interval:
    """Return Clopper and Pearson's (1934) interval of a proportion; its coverage is at least 95 %.

    >>> str(exact_interval(18, 24))
    '0.750 [0.533, 0.902]'
    """
    assert 0 <= successes <= trials and trials > 0, f"{successes} successes of {trials}"
    tail = (1 - CONFIDENCE) / 2
    failures = trials - successes
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, failures + 1))
    high = 1.0 if failures == 0 else float(beta.ppf(1 - tail, successes + 1, failures))
    return Interval(successes / trials, low, high)


def mean_over_models(
    values: Float[np.ndarray, "model resample"], outers: Int[np.ndarray, " model"]
) -> PerResample:
    """Average over the models of an outer split, then over the splits, which have equal weight.

    Models whose value is NaN are omitted; NaN where no model has one.

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


def defined_interval(values: PerResample) -> Interval:
    """Return the interval of the first value, the sample's, from the others that are not NaN."""
    value, resampled = float(values[0]), values[1:]
    defined = resampled[~np.isnan(resampled)]
    if math.isnan(value) or not len(defined):
        return Interval(value, math.nan, math.nan)
    return percentile_interval(value, defined)


def _nan_mean(values: Float[np.ndarray, "row resample"]) -> PerResample:
    defined = ~np.isnan(values)
    total, count = np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0)
    mean: np.ndarray = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return mean
