"""Which data set a study reads, and reading it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from mgmt_ray.base import Config, MgmtError
from mgmt_ray.cohort import upenn
from mgmt_ray.cohort.cohort import Cohort, Exclusion
from mgmt_ray.cohort.subject import MODALITIES

LEFT_OUT = "left out by cohort.exclude"


class CohortConfig(Config):
    """Where the subjects come from, and which of their scans are wanted."""

    reader: Literal["upenn"] = Field("upenn", description="the data set's layout")
    root: Path = Field(description="the data set's folder")
    modalities: tuple[str, ...] = Field(MODALITIES, description="single-channel scans to read")
    exclude: tuple[str, ...] = Field((), description="ids of subjects to leave out on purpose")

    @field_validator("modalities")
    @classmethod
    def _known_and_distinct(cls, modalities: tuple[str, ...]) -> tuple[str, ...]:
        check_modalities(modalities)
        return modalities


def check_modalities(modalities: tuple[str, ...]) -> None:
    """Refuse names that are no modality, a modality named twice, and an empty choice.

    Raises:
        ValueError: in words for a configuration's error; names what exists.
    """
    unknown = [m for m in modalities if m not in MODALITIES]
    if unknown or not modalities:
        found = f"no modality {', '.join(unknown)}" if unknown else "no modality chosen"
        raise ValueError(f"{found}; there are {', '.join(MODALITIES)}")
    twice = [m for m, count in Counter(modalities).items() if count > 1]
    if twice:
        raise ValueError(f"{', '.join(twice)} named more than once; name each modality once")


def read(config: CohortConfig) -> Cohort:
    """Find a data set's subjects, their labels and scans, and say who is out and why.

    Raises:
        MgmtError: the folder has no such layout, its table is faulty, or ``exclude`` names somebody
            whom the data set does not have.
    """
    match config.reader:
        case "upenn":
            cohort = upenn.read_upenn(config.root, config.modalities)
    return _leave_out(cohort, config.exclude)


def _leave_out(cohort: Cohort, exclude: tuple[str, ...]) -> Cohort:
    subjects = {subject.id for subject in cohort.subjects}
    already_out = {e.subject for e in cohort.exclusions if e.scope == "cohort"}
    unknown = [name for name in exclude if name not in subjects | already_out]
    if unknown:
        raise MgmtError(
            f"cohort.exclude: {', '.join(unknown)} not in the data set, whose ids look like "
            f"{min(subjects | already_out)}. Mend the spelling or remove the id."
        )
    left_out = subjects & set(exclude)
    return Cohort(
        tuple(s for s in cohort.subjects if s.id not in left_out),
        tuple(e for e in cohort.exclusions if e.subject not in left_out)
        + tuple(Exclusion(name, "cohort", LEFT_OUT) for name in sorted(left_out)),
    )
