"""Logistic regression on a few numbers of a subject, without a penalty."""

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
"""Largest gradient of the mean loss where the fit ends; far below what a probability shows."""


@dataclass(frozen=True, slots=True)
class Column:
    """One number of a subject, as the training subjects made it comparable.

    Attributes:
        name: of the number.
        fill: stands for a missing value.
        num_filled: training subjects without a value.
        mean: of the training subjects, after filling; is subtracted.
        deviation: of them; divides. 1 where all are equal.
        weight: of the number after that, in log-odds.
    """

    name: str
    fill: float
    num_filled: int
    mean: float
    deviation: float
    weight: float


@dataclass(frozen=True, slots=True)
class Logistic:
    """A fitted logistic regression: its intercept in log-odds, and its columns."""

    intercept: float
    columns: tuple[Column, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """Intercept and columns."""
        columns = {
            c.name: {n: getattr(c, n) for n in c.__slots__ if n != "name"} for c in self.columns
        }
        return {"intercept": self.intercept, "columns": columns}

    @property
    def checksum(self) -> str:
        """Fingerprint of intercept and columns."""
        return fingerprint(self.facts)

    def predict(self, values: Table) -> Probabilities:
        """Probability of methylation by subject; a missing value (NaN) is filled."""
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
        values: of the training subjects only; NaN where one is not known.
        labels: 1 for methylated; both must be there.
        names: of the columns.
        fills: what a missing value of each column becomes: the median or the most frequent value
            (the smallest of several) of the training subjects.
    """
    from sklearn.linear_model import LogisticRegression

    missing = np.isnan(values)
    pairs = zip(values.T, missing.T, fills, strict=True)
    filled_with = np.array([_fill(column[~lacks], how) for column, lacks, how in pairs])
    whole = np.where(missing, filled_with, values)
    mean, deviation = whole.mean(axis=0), whole.std(axis=0)
    deviation[deviation == 0] = 1.0
    model = LogisticRegression(C=np.inf, tol=TOLERANCE, max_iter=MAX_STEPS)
    model.fit((whole - mean) / deviation, labels)
    numbers = zip(
        names, filled_with, missing.sum(axis=0), mean, deviation, model.coef_[0], strict=True
    )
    columns = (
        Column(name, float(fill), int(number), float(m), float(d), float(w))
        for name, fill, number, m, d, w in numbers
    )
    return Logistic(float(model.intercept_[0]), tuple(columns))


def _fill(known: Float64[np.ndarray, " subject"], how: Literal["median", "mode"]) -> float:
    assert len(known), "a column without any value is refused before"
    if how == "median":
        return float(np.median(known))
    found, counts = np.unique(known, return_counts=True)
    return float(found[counts.argmax()])
