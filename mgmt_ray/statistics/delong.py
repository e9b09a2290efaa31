"""Variance, interval and test of AUC by DeLong et al. 1988, computed as by Sun and Xu 2014."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from scipy.stats import norm, rankdata
from scipy.stats import t as student_t

from mgmt_ray.statistics.intervals import (
    CONFIDENCE,
    Interval,
    Labels,
    PerSubject,
    logit_interval,
    student_quantile,
)

_NORMAL_QUANTILE = float(norm.ppf((1 + CONFIDENCE) / 2))


def delong_variance(labels: Labels, probabilities: PerSubject) -> float:
    """Return the variance of an AUC over samples of subjects (DeLong et al. 1988, eq. 5).

    Returns:
        At least 0; NaN where a class has fewer than two subjects.

    >>> delong_variance(np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.8]))
    0.125
    """
    return _variance(*_placements(labels, probabilities))


def delong_interval(labels: Labels, probabilities: PerSubject) -> Interval:
    """Return an AUC with its interval, normal on the logit scale (Pepe 2003, sec. 5.2.3).

    :func:`logit_interval` with the margin z·s, s² being :func:`delong_variance`: wide, as it should
    be with few subjects, where the classes are perfectly separated.

    Returns:
        Bounds in [0, 1]; NaN where a class has fewer than two subjects. Where all probabilities
        are equal, the AUC is 0.5 for any sample of subjects, and the interval is this point.

    >>> labels = np.repeat([0, 1], 20)
    >>> str(delong_interval(labels, np.arange(40.0) % 20 + 4 * labels))
    '0.680 [0.498, 0.820]'
    >>> str(delong_interval(labels, labels.astype(float)))  # perfectly separated
    '1.000 [0.832, 1.000]'
    """
    methylated, unmethylated = _placements(labels, probabilities)
    if not len(methylated) or not len(unmethylated):
        return Interval(math.nan, math.nan, math.nan)
    margin = _NORMAL_QUANTILE * math.sqrt(_variance(methylated, unmethylated))
    pairs = min(len(methylated), len(unmethylated))
    return logit_interval(_mean(methylated, unmethylated), margin, pairs)


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a test set can show of a model with a true AUC.

    Attributes:
        interval: expected 95 % interval of the AUC.
        power: probability that the two-sided permutation test against 0.5 has p < 0.05.
        corrected_power: the same for p < 0.05 / m, as for the best of m models by Holm's method.
    """

    interval: Interval
    power: float
    corrected_power: float


def prospect(auc: float, num_methylated: int, num_unmethylated: int, num_models: int) -> Prospect:
    """Return what to expect of a test set before it is opened, from its size alone.

    Standard error by Hanley and McNeil 1982 (eq. 2, Q1 = A / (2 − A), Q2 = 2A² / (1 + A)); under
    chance the rank sum's, which is exact. The interval is that of :func:`delong_interval`.

    >>> show = prospect(0.65, 24, 33, num_models=3)
    >>> str(show.interval), round(show.power, 2), round(show.corrected_power, 2)
    ('0.650 [0.493, 0.780]', 0.48, 0.31)
    """
    m, n = num_methylated, num_unmethylated
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + (m - 1) * (q1 - auc**2) + (n - 1) * (q2 - auc**2)) / (m * n)
    std, chance_std = math.sqrt(variance), math.sqrt((m + n + 1) / (12 * m * n))
    interval = logit_interval(auc, _NORMAL_QUANTILE * std, min(m, n))

    def power(level: float) -> float:
        needed = norm.ppf(1 - level / 2) * chance_std
        return float(norm.cdf((auc - 0.5 - needed) / std) + norm.cdf((0.5 - auc - needed) / std))

    level = 1 - CONFIDENCE
    return Prospect(interval, power(level), power(level / num_models))


def delong_p(labels: Labels, probabilities_a: PerSubject, probabilities_b: PerSubject) -> float:
    """Return the two-sided p-value of the difference between two AUCs of the same subjects.

    t = (A − B) / s, with s² the variance of the difference (DeLong et al. 1988, eq. 8); the
    subjects' contributions are subtracted first, which accounts for their covariance. Unlike the
    paper it takes Student's t with n − 2 degrees of freedom for the normal distribution: of 25
    subjects the normal rejects up to 7.6 % of true null hypotheses at the level of 5 %.

    Returns:
        In [0, 1]; 1 where both models order every pair alike; NaN where a class has fewer than two
        subjects, and where a model is constant: that would test the other's AUC against 0.5, for
        which there is a better test (:func:`.comparisons.permutation_p`).

    >>> labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    >>> a = np.array([0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9])  # AUC 15/16
    >>> b = np.array([0.1, 0.2, 0.7, 0.6, 0.4, 0.3, 0.8, 0.9])  # AUC 12/16
    >>> round(delong_p(labels, a, b), 3)
    0.31
    """
    if _is_constant(probabilities_a) or _is_constant(probabilities_b):
        return math.nan
    difference, std = _difference(labels, probabilities_a, probabilities_b)
    if std == 0:
        return 1.0 if difference == 0 else math.nan
    return float(2 * student_t.sf(abs(difference) / std, len(labels) - 2))


def delong_difference(
    labels: Labels, probabilities_a: PerSubject, probabilities_b: PerSubject
) -> Interval:
    """Return the difference A − B of two AUCs of the same subjects, ± t·s as in :func:`delong_p`.

    It excludes 0 where that p-value is below 0.05. A constant model's AUC is 0.5 for any subjects:
    then it is the other's :func:`delong_interval` less 0.5. Bounds are NaN where a class has fewer
    than two subjects.
    """
    if _is_constant(probabilities_b):
        area = delong_interval(labels, probabilities_a)
        return Interval(area.value - 0.5, area.low - 0.5, area.high - 0.5)
    if _is_constant(probabilities_a):
        area = delong_interval(labels, probabilities_b)
        return Interval(0.5 - area.value, 0.5 - area.high, 0.5 - area.low)
    difference, std = _difference(labels, probabilities_a, probabilities_b)
    half = student_quantile(len(labels)) * std
    return Interval(difference, difference - half, difference + half)


def _is_constant(probabilities: PerSubject) -> bool:
    return bool((probabilities == probabilities[0]).all())


def _difference(labels: Labels, a: PerSubject, b: PerSubject) -> tuple[float, float]:
    """Return A − B and its standard error; NaN where a class has fewer than two subjects."""
    methylated_a, unmethylated_a = _placements(labels, a)
    methylated_b, unmethylated_b = _placements(labels, b)
    methylated, unmethylated = methylated_a - methylated_b, unmethylated_a - unmethylated_b
    if not len(methylated) or not len(unmethylated):
        return math.nan, math.nan
    return _mean(methylated, unmethylated), math.sqrt(_variance(methylated, unmethylated))


def _placements(
    labels: Labels, probabilities: PerSubject
) -> tuple[Int[np.ndarray, " methylated"], Int[np.ndarray, " unmethylated"]]:
    """Count, twice, the subjects of the other class that each one is ordered rightly with.

    For methylated subjects those below, for unmethylated ones those above; ties count 1. From
    mid-ranks among all subjects less those within the class (Sun and Xu 2014, sec. III). Whole
    numbers, so that it is exact whether contributions vary at all.
    """
    ranks = 2 * rankdata(probabilities)
    is_methylated = labels == 1
    below = ranks[is_methylated] - 2 * rankdata(probabilities[is_methylated])
    not_above = ranks[~is_methylated] - 2 * rankdata(probabilities[~is_methylated])
    return below.astype(np.int64), 2 * int(is_methylated.sum()) - not_above.astype(np.int64)


def _mean(
    methylated: Int[np.ndarray, " methylated"], unmethylated: Int[np.ndarray, " unmethylated"]
) -> float:
    return float(methylated.sum()) / (2 * len(methylated) * len(unmethylated))


def _variance(
    methylated: Int[np.ndarray, " methylated"], unmethylated: Int[np.ndarray, " unmethylated"]
) -> float:
    """Return the variance of the mean: each class's sample variance over its number of subjects."""
    num_methylated, num_unmethylated = len(methylated), len(unmethylated)
    if min(num_methylated, num_unmethylated) < 2:
        return math.nan
    of_methylated = np.var(methylated, ddof=1) / (4 * num_unmethylated**2)
    of_unmethylated = np.var(unmethylated, ddof=1) / (4 * num_methylated**2)
    return float(of_methylated / num_methylated + of_unmethylated / num_unmethylated)
