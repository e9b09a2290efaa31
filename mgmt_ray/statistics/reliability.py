"""Reliability: whether 60 % of the subjects with a probability of 60 % are methylated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mgmt_ray.statistics.calibrators import CALIBRATION_VERSIONS, Recalibrated
from mgmt_ray.statistics.intervals import Interval, Labels, PerSubject, exact_interval

MAX_BINS = 10
SUBJECTS_PER_BIN = 10

RELIABILITY_COLUMNS: tuple[str, ...] = (
    *("network", "ensemble", "version", "bin", "count"),
    *("mean_probability", "share_methylated", "low", "high"),
)
"""``bin`` counts from 1, by increasing probability; the bounds are Clopper and Pearson's."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Subjects of similar probability; ``share`` is methylated, with its exact interval."""

    count: int
    mean_probability: float
    share: Interval


def reliability_table(recalibrated: Recalibrated) -> pd.DataFrame:
    """Return the bins of a reliability diagram for each network, ensemble and version."""
    rows: list[tuple[object, ...]] = []
    for key, labels, probabilities in recalibrated.models():
        for version in CALIBRATION_VERSIONS:
            for number, b in enumerate(reliability_bins(labels, probabilities[version]), start=1):
                share = (b.share.value, b.share.low, b.share.high)
                rows.append((*key.values(), version, number, b.count, b.mean_probability, *share))
    return pd.DataFrame(rows, columns=list(RELIABILITY_COLUMNS))


def reliability_bins(labels: Labels, probabilities: PerSubject) -> list[Bin]:
    """Divide n subjects into min(10, n // 10) bins of equal size, by increasing probability.

    Equal sizes, not equal widths, so that each share rests on as many subjects (Nguyen and O'Connor
    2015). Equal probabilities stay together, which makes bins fewer or uneven.

    >>> p = np.linspace(0.0, 1.0, 20)
    >>> for b in reliability_bins((p > 0.4).astype(int), p):
    ...     print(b.count, round(b.mean_probability, 3), b.share)
    10 0.237 0.200 [0.025, 0.556]
    10 0.763 1.000 [0.692, 1.000]
    """
    num_subjects = len(labels)
    num_bins = max(1, min(MAX_BINS, num_subjects // SUBJECTS_PER_BIN))
    ordered = np.sort(probabilities)
    sizes = [len(part) for part in np.array_split(ordered, num_bins)]
    lowest = ordered[np.cumsum(sizes)[:-1]]
    bin_of_subject = np.searchsorted(lowest, probabilities, side="right")
    bins = []
    for number in np.unique(bin_of_subject):
        in_bin = bin_of_subject == number
        count, num_methylated = int(in_bin.sum()), int(labels[in_bin].sum())
        mean = float(probabilities[in_bin].mean())
        bins.append(Bin(count, mean, exact_interval(num_methylated, count)))
    return bins


def expected_calibration_error(labels: Labels, probabilities: PerSubject) -> float:
    """Return the ECE, Σ count/n · |mean probability − share of methylated| over bins, in [0, 1].

    Naeini, Cooper and Hauskrecht 2015, with bins of equal size (see :func:`reliability_bins`). By
    chance alone it is above 0, the more so the fewer subjects: with bins of 10 about 0.1 for
    perfect calibration.

    >>> labels = np.array([0] * 8 + [1] * 2)
    >>> round(expected_calibration_error(labels, np.full(10, 0.5)), 3)
    0.3
    """
    bins = reliability_bins(labels, probabilities)
    gaps = (b.count * abs(b.mean_probability - b.share.value) for b in bins)
    return float(sum(gaps) / len(labels))
