"""Age and sex as numbers, for networks that take them beside the image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.subject import Subject

Covariate = Literal["age", "sex"]

SEX = {"f": -0.5, "female": -0.5, "m": 0.5, "male": 0.5}
"""One apart and centred, so that the weight of sex is the difference between the two."""

UNKNOWN = ("", "nan", "na", "unknown", "not available")
OLDEST = 120.0


def read_covariates(
    subjects: Iterable[Subject], names: Sequence[Covariate]
) -> dict[str, tuple[float, ...]]:
    """What the cohort's table says of each subject, in the order of the names.

    Args:
        subjects: of a cohort.
        names: what is wanted.

    Returns:
        By id: age in years, sex as -0.5 (female) or +0.5 (male); NaN where it is not known.

    Raises:
        MgmtError: a value is neither; names the subject and what was found.
    """
    return {s.id: tuple(_number(s, name) for name in names) for s in subjects}


def _number(subject: Subject, name: Covariate) -> float:
    text = subject.covariates.get(name, "").strip()
    if text.lower() in UNKNOWN:
        return math.nan
    value = SEX.get(text.lower(), math.nan) if name == "sex" else age_in_years(text)
    if math.isnan(value):
        wanted = "F or M" if name == "sex" else f"years between 0 and {OLDEST:.0f}"
        raise MgmtError(
            f"subject {subject.id}: {name} is {text!r}, not {wanted}. "
            "Mend or empty that cell of the cohort's table, or exclude the subject."
        )
    return value


def age_in_years(text: str) -> float:
    """The number that a table's cell tells; "90+", as tables hide the oldest, counts as 90.

    Returns:
        Between 0 and :data:`OLDEST`; NaN where the cell holds no such number.
    """
    try:
        years = float(text.strip().removesuffix("+"))
    except ValueError:
        return math.nan
    return years if 0 <= years <= OLDEST else math.nan
