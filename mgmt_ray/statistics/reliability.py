"""Reliability: whether of the subjects called 60 % methylated 60 % are."""

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
"""``bin`` from 1, by rising probability; the bounds are Clopper and Pearson's of the share."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Subjects of similar probability.

    Attributes:
        count: of subjects.
        mean_probability: of methylation as predicted, in [0, 1].
        share: of methylated among them, with its exact interval.
    """

    count: int
    mean_probability: float
    share: Interval


def reliability_table(recalibrated: Recalibrated) -> pd.DataFrame:
    """The bins of a reliability diagram, for each network, ensemble and version.

    Args:
        recalibrated: see :func:`.recalibrated.recalibrate`.

    Returns:
        :data:`RELIABILITY_COLUMNS`.
    """
    rows: list[dict[str, object]] = []
    for (network, name), group in recalibrated.probabilities.groupby(
        ["network", "ensemble"], sort=False
    ):
        labels = group["label"].to_numpy(dtype=np.int64)
        for version in CALIBRATION_VERSIONS:
            found = reliability_bins(labels, group[version].to_numpy(dtype=float))
            rows += [
                {
                    "network": network,
                    "ensemble": name,
                    "version": version,
                    "bin": number,
                    "count": one.count,
                    "mean_probability": one.mean_probability,
                    "share_methylated": one.share.value,
                    "low": one.share.low,
                    "high": one.share.high,
                }
                for number, one in enumerate(found, start=1)
            ]
    return pd.DataFrame(rows, columns=list(RELIABILITY_COLUMNS))


def reliability_bins(
    labels: Integer[np.ndarray, " subject"], probabilities: Float[np.ndarray, " subject"]
) -> list[Bin]:
    """Subjects in bins of equal number, min(10, n // 10) of them, by rising probability.

    Equal numbers, not equal widths, so that every share rests on as many subjects (Nguyen and
    O'Connor 2015). Equal probabilities stay together: bins then are fewer or uneven.

    Args:
        labels: 1 methylated, 0 unmethylated; at least one subject.
        probabilities: of methylation, in [0, 1].
    """
    num_subjects = len(labels)
    num_bins = max(1, min(MAX_BINS, num_subjects // SUBJECTS_PER_BIN))
    ordered = np.sort(probabilities)
    starts = [len(part) for part in np.array_split(ordered, num_bins)]
    lowest = ordered[np.cumsum(starts)[:-1]]
    place = np.searchsorted(lowest, probabilities, side="right")
    bins = []
    for number in np.unique(place):
        own = labels[place == number]
        mean = float(probabilities[place == number].mean())
        bins.append(Bin(len(own), mean, exact_interval(int(own.sum()), len(own))))
    return bins


def expected_calibration_error(
    labels: Integer[np.ndarray, " subject"], probabilities: Float[np.ndarray, " subject"]
) -> float:
    """ECE: Σ count/n · |mean probability − share of methylated| over the bins above, in [0, 1].

    Naeini, Cooper and Hauskrecht 2015, with bins of equal number. It is above 0 by chance
    alone, the more so the fewer subjects: with bins of 10 about 0.1 for perfect calibration.
    """
    found = reliability_bins(labels, probabilities)
    gaps = (one.count * abs(one.mean_probability - one.share.value) for one in found)
    return float(sum(gaps) / len(labels))
