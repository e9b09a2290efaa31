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
    Interval,
    Labels,
    column_names,
    exact_interval,
    interval_columns,
)
from mgmt_ray.training.metrics import THRESHOLD

POINTS: tuple[str, ...] = ("0.5", "validation", "prior")
"""Threshold 0.5 as in Schmitz et al. 2024; the one chosen on validation; 0.5 after the correction
for the training prior."""

_VERSIONS = (AS_PREDICTED, THRESHOLD_CHOSEN, PRIOR_CORRECTED)

RATES: tuple[str, ...] = ("sen", "spe", "ppv", "npv")
OPERATING_COLUMNS = ("network", "ensemble", "point", "threshold", *column_names(*RATES))
"""``threshold`` is that of the probabilities as predicted, as a mean over outer splits."""


def operating_points_table(recalibrated: Recalibrated) -> pd.DataFrame:
    """Return the rates of the test subjects at each operating point, with exact intervals.

    The table has :data:`OPERATING_COLUMNS`; a rate without subjects (PPV where none is called
    methylated) is NaN.
    """
    fits = mean_fits(recalibrated.fits)
    rows: list[dict[str, object]] = []
    for key, labels, probabilities in recalibrated.models():
        fit = fits[key["network"], key["ensemble"]]
        thresholds = (THRESHOLD, fit["threshold"], fit["prior_threshold"])
        for point, version, threshold in zip(POINTS, _VERSIONS, thresholds, strict=True):
            rates = classification_rates(labels, probabilities[version] >= THRESHOLD)
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
