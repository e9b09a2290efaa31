"""Age and sex as numbers, for networks that take them in addition to the image."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Literal

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.csv_rows import is_unknown, normalise, read_number
from mgmt_ray.cohort.problem import Problem
from mgmt_ray.cohort.subject import Subject

Covariate = Literal["age", "sex"]

AGE_SEX: tuple[Covariate, ...] = ("age", "sex")
SEX = {"f": -0.5, "female": -0.5, "m": 0.5, "male": 0.5}
"""Centred and 1 apart, so that the weight of sex is the difference between the two."""

MAX_AGE_YEARS = 120.0
AGE = re.compile(r"(?:>=?|≥)? ?(\d+(?:[.,]\d+)?) ?\+? ?(?:y|yo|y/o|yrs?|years?(?: old)?)?")
"""An age in years, or the age that hides those of the oldest: >89, 90+."""

DICOM_AGE = re.compile(r"(\d{3})([dwmy])")
UNITS_PER_YEAR = {"d": 365.25, "w": 365.25 / 7, "m": 12.0, "y": 1.0}
REMEDY = "Fix or empty that cell of the table"


def read_covariates(
    subjects: Sequence[Subject], names: Sequence[Covariate]
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
    for problem in covariate_problems(subjects, names, "the cohort's table"):
        raise MgmtError(f"subject {problem.subject}: {problem.found}. {problem.remedy}.")
    return {s.id: tuple(_number(s.covariates.get(n, ""), n) for n in names) for s in subjects}


def covariate_problems(
    subjects: Iterable[Subject], names: Sequence[Covariate], where: str
) -> list[Problem]:
    """Return a problem for each cell that is neither a value nor unknown.

    Args:
        where: the table.

    >>> subject = Subject("P1", 1, {}, None, {"age": "old", "sex": "n/a"})
    >>> [problem.found for problem in covariate_problems([subject], ["age", "sex"], "cohort.csv")]
    ["age is 'old', not years between 0 and 120"]
    """
    expected = {"age": f"years between 0 and {MAX_AGE_YEARS:.0f}", "sex": "F or M"}
    problems = []
    for subject in subjects:
        for name in names:
            cell = subject.covariates.get(name, "").strip()
            if not is_unknown(cell) and math.isnan(_number(cell, name)):
                found = f"{name} is {cell!r}, not {expected[name]}"
                problems.append(Problem(subject.id, "unknown_covariate", where, found, REMEDY))
    return problems


def _number(cell: str, name: Covariate) -> float:
    """Return a cell's value; NaN where it has none."""
    return age_in_years(cell) if name == "age" else SEX.get(normalise(cell), math.nan)


def age_in_years(text: str) -> float:
    """Return the age in a table's cell, in years with a decimal point or comma, or as DICOM has it.

    ">89" and "90+", which hide the ages of the oldest patients, count as the number that they name.

    Returns:
        Between 0 and :data:`MAX_AGE_YEARS`; NaN where the cell holds no such number.

    >>> age_in_years("61,5"), age_in_years("063Y"), age_in_years(" >89 "), age_in_years("old")
    (61.5, 63.0, 89.0, nan)
    """
    word = normalise(text)
    if match := DICOM_AGE.fullmatch(word):
        years = int(match[1]) / UNITS_PER_YEAR[match[2]]
    elif match := AGE.fullmatch(word):
        years = read_number(match[1])
    else:
        return math.nan
    return years if years <= MAX_AGE_YEARS else math.nan
