"""Logistic regression on a few values per subject, without a penalty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import expit

from mgmt_ray.base import fingerprint
from mgmt_ray.baselines.baseline_model import Probabilities, Table

MAX_STEPS = 10_000
TOLERANCE = 1e-8
"""The fit ends at this gradient of the mean loss; probabilities change far less than they show."""


@dataclass(frozen=True, slots=True)
class Column:
    """An input variable: how it is imputed and standardised, and its coefficient.

    Attributes:
        name: the variable.
        fill: replaces a missing value.
        num_filled: training subjects without a value.
        mean: of the training subjects after imputation; is subtracted.
        deviation: their standard deviation; the divisor. 1 where all values are equal.
        weight: coefficient of the standardised variable, in log-odds.
    """

    name: str
    fill: float
    num_filled: int
    mean: float
    deviation: float
    weight: float


@dataclass(frozen=True, slots=True)
class Logistic:
    """A fitted logistic regression.

    Attributes:
        intercept: in log-odds.
        columns: the input variables, in the order of the values' columns.
    """

    intercept: float
    columns: tuple[Column, ...]

    @property
    def summary(self) -> dict[str, Any]:
        """Intercept and columns."""
        columns = {
            c.name: {n: getattr(c, n) for n in c.__slots__ if n != "name"} for c in self.columns
        }
        return {"intercept": self.intercept, "columns": columns}

    @property
    def checksum(self) -> str:
        """SHA-256 of intercept and columns."""
        return fingerprint(self.summary)

    def predict(self, values: Table) -> Probabilities:
        """Return each subject's probability of methylation; missing values (NaN) are imputed."""
        fill = np.array([c.fill for c in self.columns])
        mean = np.array([c.mean for c in self.columns])
        deviation = np.array([c.deviation for c in self.columns])
        weight = np.array([c.weight for c in self.columns])
        scaled = (np.where(np.isnan(values), fill, values) - mean) / deviation
        return expit(scaled @ weight + self.intercept)


def fit_logistic(
    values: Table,
    labels: Int64[np.ndarray, " subject"],
    names: Sequence[str],
    fills: Sequence[Literal["median", "mode"]],
) -> Logistic:
    """Fit by maximum likelihood (scikit-learn's LogisticRegression, L-BFGS, no penalty).

    Args:
        values: of the training subjects; NaN where a value is missing.
        labels: 1 for methylated; both classes must occur.
        names: of the columns.
        fills: how missing values of each column are imputed: by the median or by the most frequent
            value (the smallest of several) of the training subjects.

    Examples:
        >>> age = np.array([[50.0], [60.0], [np.nan], [70.0], [55.0]])
        >>> labels = np.array([0, 1, 0, 1, 1])
        >>> model = fit_logistic(age, labels, ["age"], ["median"])
        >>> model.columns[0].fill
        57.5
        >>> model.predict(np.array([[50.0], [70.0]])).round(1)
        array([0.1, 1. ])
    """
    from sklearn.linear_model import LogisticRegression

    missing = np.isnan(values)
    pairs = zip(values.T, missing.T, fills, strict=True)
    fill_values = np.array([_fill(column[~is_nan], how) for column, is_nan, how in pairs])
    imputed = np.where(missing, fill_values, values)
    mean, deviation = imputed.mean(axis=0), imputed.std(axis=0)
    deviation[deviation == 0] = 1.0
    model = LogisticRegression(C=np.inf, tol=TOLERANCE, max_iter=MAX_STEPS)
    model.fit((imputed - mean) / deviation, labels)
    numbers = zip(
        names, fill_values, missing.sum(axis=0), mean, deviation, model.coef_[0], strict=True
    )
    columns = (
        Column(name, float(fill), int(number), float(m), float(d), float(w))
        for name, fill, number, m, d, w in numbers
    )
    return Logistic(float(model.intercept_[0]), tuple(columns))


def _fill(known: Float64[np.ndarray, " subject"], how: Literal["median", "mode"]) -> float:
    assert len(known), "check_baselines rejects a column without any value"
    if how == "median":
        return float(np.median(known))
    values, counts = np.unique(known, return_counts=True)
    return float(values[counts.argmax()])
