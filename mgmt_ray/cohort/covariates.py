"""Age and sex as numbers, for networks that take them in addition to the image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.subject import Subject

Covariate = Literal["age", "sex"]

SEX = {"f": -0.5, "female": -0.5, "m": 0.5, "male": 0.5}
"""Centred and 1 apart, so that the weight of sex is the difference between the two."""

UNKNOWN = ("", "nan", "na", "unknown", "not available")
MAX_AGE_YEARS = 120.0


def read_covariates(
    subjects: Iterable[Subject], names: Sequence[Covariate]
) -> dict[str, tuple[float, ...]]:
    """Return the named covariates of each subject, in the order of ``names``.

    Returns:
        By id: age in years, sex as -0.5 (female) or +0.5 (male); NaN where unknown.

    Raises:
        MgmtError: a cell holds something else; names the subject and the cell's text.

    >>> subject = Subject("P1", 1, {}, None, {"age": "61", "sex": "F"})
    >>> read_covariates([subject], ["sex", "age"])
    {'P1': (-0.5, 61.0)}
    """
    return {s.id: tuple(_number(s, name) for name in names) for s in subjects}


def _number(subject: Subject, name: Covariate) -> float:
    text = subject.covariates.get(name, "").strip()
    if text.lower() in UNKNOWN:
        return math.nan
    value = SEX.get(text.lower(), math.nan) if name == "sex" else age_in_years(text)
    if math.isnan(value):
        expected = "F or M" if name == "sex" else f"years between 0 and {MAX_AGE_YEARS:.0f}"
        raise MgmtError(
            f"subject {subject.id}: {name} is {text!r}, not {expected}. "
            "Fix or empty that cell of the cohort's table, or exclude the subject."
        )
    return value


def age_in_years(text: str) -> float:
    """Return the age in a table's cell; "90+", which hides the oldest patients, counts as 90.

    Returns:
        Between 0 and :data:`MAX_AGE_YEARS`; NaN where the cell holds no such number.

    >>> age_in_years("61.5"), age_in_years(" 90+ "), age_in_years("old")
    (61.5, 90.0, nan)
    """
    try:
        years = float(text.strip().removesuffix("+"))
    except ValueError:
        return math.nan
    return years if 0 <= years <= MAX_AGE_YEARS else math.nan
