"""Reliability: whether 60 % of the subjects with a probability of 60 % are methylated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Integer

from mgmt_ray.statistics.calibrators import CALIBRATION_VERSIONS, Recalibrated
from mgmt_ray.statistics.intervals import Interval, exact_interval

MAX_BINS = 10
SUBJECTS_PER_BIN = 10

RELIABILITY_COLUMNS: tuple[str, ...] = (
    "network",
    "ensemble",
    "version",
    "bin",
    "count",
    "mean_probability",
    "share_methylated",
    "low",
    "high",
)
"""``bin`` counts from 1, by increasing probability; the bounds are Clopper and Pearson's."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Subjects of similar probability.

    Attributes:
        count: number of subjects.
        mean_probability: of methylation, in [0, 1].
        share: methylated among them, with its exact interval.
    """

    count: int
    mean_probability: float
    share: Interval


def reliability_table(recalibrated: Recalibrated) -> pd.DataFrame:
    """Return the bins of a reliability diagram for each network, ensemble and version.

    Args:
        recalibrated: see :func:`.calibrators.recalibrate`.

    Returns:
        :data:`RELIABILITY_COLUMNS`.
    """
    rows: list[dict[str, object]] = []
    for (network, name), group in recalibrated.probabilities.groupby(
        ["network", "ensemble"], sort=False
    ):
        labels = group["label"].to_numpy(dtype=np.int64)
        for version in CALIBRATION_VERSIONS:
            bins = reliability_bins(labels, group[version].to_numpy(dtype=float))
            rows += [
                {
                    "network": network,
                    "ensemble": name,
                    "version": version,
                    "bin": number,
                    "count": b.count,
                    "mean_probability": b.mean_probability,
                    "share_methylated": b.share.value,
                    "low": b.share.low,
                    "high": b.share.high,
                }
                for number, b in enumerate(bins, start=1)
            ]
    return pd.DataFrame(rows, columns=list(RELIABILITY_COLUMNS))


def reliability_bins(
    labels: Integer[np.ndarray, " subject"], probabilities: Float[np.ndarray, " subject"]
) -> list[Bin]:
    """Divide n subjects into min(10, n // 10) bins of equal size, by increasing probability.

    Equal sizes, not equal widths, so that each share rests on as many subjects (Nguyen and O'Connor
    2015). Equal probabilities stay together, which makes bins fewer or uneven.

    Args:
        labels: 1 methylated, 0 unmethylated; at least one subject.
        probabilities: of methylation, in [0, 1].

    Example:
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


def expected_calibration_error(
    labels: Integer[np.ndarray, " subject"], probabilities: Float[np.ndarray, " subject"]
) -> float:
    """Return the ECE, Σ count/n · |mean probability − share of methylated| over bins, in [0, 1].

    Naeini, Cooper and Hauskrecht 2015, with bins of equal size (see :func:`reliability_bins`). By
    chance alone it is above 0, the more so the fewer subjects: with bins of 10 about 0.1 for
    perfect calibration.

    Example:
        >>> labels = np.array([0] * 8 + [1] * 2)
        >>> round(expected_calibration_error(labels, np.full(10, 0.5)), 3)
        0.3
    """
    bins = reliability_bins(labels, probabilities)
    gaps = (b.count * abs(b.mean_probability - b.share.value) for b in bins)
    return float(sum(gaps) / len(labels))
