"""Calibration of each version of the test probabilities: Brier score, slope, intercepts, ECE."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Integer

from mgmt_ray.statistics.adapted import (
    CALIBRATION_VERSIONS,
    PRIOR_CORRECTED,
    TEMPERATURE_SCALED,
    Adapted,
    mean_fits,
)
from mgmt_ray.statistics.fitted import logits
from mgmt_ray.statistics.intervals import (
    Interval,
    bootstrap_weights,
    column_names,
    interval_columns,
    percentile_interval,
)
from mgmt_ray.statistics.recalibration import intercept_at_slope_1, logistic_recalibration
from mgmt_ray.statistics.reliability import expected_calibration_error
from mgmt_ray.training.metrics import brier, once

_LINE_TOLERANCE = 1e-9
"""Of log-odds up to 14, from probabilities exact to 1e-16 that are at least 1e-6 off 0 and 1."""

WITH_INTERVALS: tuple[str, ...] = ("brier", "slope", "intercept", "intercept_at_slope_1")
CALIBRATION_COLUMNS: tuple[str, ...] = (
    "network",
    "ensemble",
    "version",
    "temperature",
    "prior_shift",
    *column_names(*WITH_INTERVALS),
    "ece",
    "num_subjects",
)
"""``temperature`` and ``prior_shift`` are what the version applied, their mean over outer splits;
1 and 0 where it applied none. ``intercept`` is fitted together with the slope,
``intercept_at_slope_1`` with the slope fixed at 1: calibration in the large."""


def calibration_table(adapted: Adapted, seed: int = 42) -> pd.DataFrame:
    """Brier score, slope, both intercepts and ECE of each version, all but ECE with intervals.

    Bootstrap over subjects, not stratified: the share of methylated is what an intercept measures,
    and must vary. What was fitted on validation stays as it is.

    Args:
        adapted: see :func:`.adapted.adapt`.
        seed: of the bootstrap.

    Returns:
        :data:`CALIBRATION_COLUMNS`. Slope and intercept are NaN where they have no finite estimate
        (see :func:`.recalibration.logistic_recalibration`), their bounds where more than a
        fortieth of the resamples has none.
    """
    fits = mean_fits(adapted.fits)
    drawn: dict[bytes, Int[np.ndarray, "resample subject"]] = {}
    rows: list[dict[str, object]] = []
    for (network, name), group in adapted.probabilities.groupby(
        ["network", "ensemble"], sort=False
    ):
        labels = group["label"].to_numpy(dtype=np.int64)
        if labels.tobytes() not in drawn:
            drawn[labels.tobytes()] = bootstrap_weights(labels, seed, stratified=False)
        versions = {
            version: group[version].to_numpy(dtype=float) for version in CALIBRATION_VERSIONS
        }
        intervals = _intervals(labels, versions, drawn[labels.tobytes()])
        rows += [
            {
                "network": network,
                "ensemble": name,
                "version": version,
                **_applied(version, fits[str(network), str(name)]),
                **interval_columns(intervals[version]),
                "ece": expected_calibration_error(labels, p),
                "num_subjects": len(labels),
            }
            for version, p in versions.items()
        ]
    return pd.DataFrame(rows, columns=list(CALIBRATION_COLUMNS))


def _applied(version: str, fit: Mapping[str, float]) -> dict[str, float]:
    scaled = version == TEMPERATURE_SCALED
    shifted = scaled or version == PRIOR_CORRECTED
    return {
        "temperature": fit["temperature"] if scaled else 1.0,
        "prior_shift": fit["prior_shift"] if shifted else 0.0,
    }


def _intervals(
    labels: Integer[np.ndarray, " subject"],
    versions: Mapping[str, Float[np.ndarray, " subject"]],
    weights: Int[np.ndarray, "resample subject"],
) -> dict[str, dict[str, Interval]]:
    """By version and metric; what is resampled comes after the sample itself."""
    rows = np.concatenate([once(len(labels)), weights])
    found: dict[str, dict[str, Interval]] = {}
    fitted: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    for version, p in versions.items():
        log_odds = logits(p)
        known = None if fitted is None else _fit_from_line(log_odds, *fitted)
        slope, intercept = known or logistic_recalibration(labels, log_odds, rows)
        fitted = fitted or (log_odds, slope, intercept)
        errors = brier(labels, p, rows)
        found[version] = {
            "brier": percentile_interval(float(errors[0]), errors[1:]),
            "slope": _interval_with_gaps(slope),
            "intercept": _interval_with_gaps(intercept),
            "intercept_at_slope_1": _interval_with_gaps(
                intercept_at_slope_1(labels, log_odds, rows)
            ),
        }
    return found


def _fit_from_line(
    log_odds: Float[np.ndarray, " subject"],
    others: Float[np.ndarray, " subject"],
    slope: Float[np.ndarray, " row"],
    intercept: Float[np.ndarray, " row"],
) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]] | None:
    """Slope and intercept from those of other log-odds, if these are a line of the others.

    One outer split shifts and scales all subjects alike, and one regression then serves all
    versions: with z = c + d·others, a + b·others = (a − b·c/d) + (b/d)·z. None if it is no line.
    """
    spread = np.ptp(others)
    if spread == 0:
        return None
    lowest, highest = int(np.argmin(others)), int(np.argmax(others))
    d = (log_odds[highest] - log_odds[lowest]) / spread
    c = log_odds[lowest] - d * others[lowest]
    if d == 0 or np.abs(c + d * others - log_odds).max() > _LINE_TOLERANCE:
        return None
    return slope / d, intercept - slope / d * c


def _interval_with_gaps(values: Float[np.ndarray, " row"]) -> Interval:
    """Of the first value, from the others.

    A resample without an estimate counts as below the lower and above the upper bound.
    """
    value, resampled = float(values[0]), values[1:]
    if np.isnan(value):
        return Interval(value, value, value)
    with np.errstate(invalid="ignore"):  # between two infinite resamples
        low = percentile_interval(value, np.nan_to_num(resampled, nan=-np.inf)).low
        high = percentile_interval(value, np.nan_to_num(resampled, nan=np.inf)).high
    return Interval(value, *(b if np.isfinite(b) else float("nan") for b in (low, high)))
