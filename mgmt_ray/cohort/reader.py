"""What every reader of a data set shares: its configuration, its result, complete groups."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from mgmt_ray.base import Config, InputPath, MgmtError
from mgmt_ray.cohort.cohort import Exclusion
from mgmt_ray.cohort.problem import OF_SCANS, Action, Kind, Problem
from mgmt_ray.cohort.subject import Subject, by_group


class ReaderConfig(Config):
    """Where subjects come from, which of their scans are wanted, and what to do about faults."""

    offered: ClassVar[tuple[str, ...]] = ()
    """Modalities that the data set has; empty: whatever the study names."""

    root: InputPath = Field(description="the data set's folder")
    modalities: tuple[str, ...] = Field(
        (), validate_default=True, description="scans to read; none named: all that there are"
    )
    exclude: tuple[str, ...] = Field((), description="ids of subjects to leave out on purpose")
    rules: dict[Kind, Action] = Field(
        {}, description="what to do about problems of a kind, instead of stopping"
    )
    crosswalk: InputPath | None = Field(
        None, description="CSV in which all ids in a row are one person (see ``persons``)"
    )
    mask_labels: tuple[int, ...] = Field((1, 2, 4), description="labels a mask may have beside 0")

    @field_validator("modalities")
    @classmethod
    def _known_and_distinct(cls, modalities: tuple[str, ...]) -> tuple[str, ...]:
        chosen = modalities or cls.offered
        check_modalities(chosen, cls.offered or chosen)
        return chosen

    @field_validator("rules")
    @classmethod
    def _possible(cls, rules: dict[Kind, Action]) -> dict[Kind, Action]:
        for kind, action in rules.items():
            if action == "keep_together" and kind != "same_person":
                raise ValueError(f"{kind}: keep_together is for same_person alone")
            if action == "exclude_scans" and kind not in OF_SCANS:
                raise ValueError(f"{kind}: is not of one scan; write exclude_subject")
        return rules


def check_modalities(modalities: tuple[str, ...], offered: tuple[str, ...]) -> None:
    """Refuse names that are no modality, a modality named twice, and an empty choice.

    Raises:
        ValueError: in words for a configuration's error; names what exists.
    """
    if not modalities:
        raise ValueError("no modality chosen; name the scans to read")
    unknown = [m for m in modalities if m not in offered]
    if unknown:
        raise ValueError(f"no modality {', '.join(unknown)}; there are {', '.join(offered)}")
    odd = [m for m in modalities if not m.replace("-", "").replace("_", "").isalnum()]
    if odd:
        raise ValueError(f"{', '.join(odd)}: write letters, digits, - and _ only")
    twice = sorted({m for m in modalities if modalities.count(m) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} named more than once; name each modality once")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader found; nothing is dropped in silence.

    Every id that the reader found is a subject, or has an exclusion of scope "cohort", or a
    problem.

    Attributes:
        subjects: with a label, a mask and at least one wanted scan; an id once.
        exclusions: selection as the data set's documentation or the study asks for it.
        problems: faults of tables and of missing files; a file's content is looked at later.
    """

    subjects: tuple[Subject, ...]
    exclusions: tuple[Exclusion, ...] = ()
    problems: tuple[Problem, ...] = ()


def complete_groups(
    subject: str, found: Mapping[str, Path], wanted: tuple[str, ...], folder: Path
) -> tuple[dict[str, Path], list[Exclusion], list[Problem]]:
    """Offer each group of modalities whole or not at all.

    Args:
        subject: its id.
        found: every scan on the disk.
        wanted: modalities of the study.
        folder: where the scans were looked for.

    Returns:
        The scans offered; an exclusion for each group of which there is nothing; a problem for each
        group of which something is missing. That is for the study to decide: with the rule
        ``missing_modality: exclude_scans`` the group is left out.
    """
    offered: dict[str, Path] = {}
    exclusions: list[Exclusion] = []
    problems: list[Problem] = []
    for group, members in by_group(wanted).items():
        missing = [m for m in members if m not in found]
        if len(missing) == len(members):
            exclusions.append(Exclusion(subject, group, f"no {group}"))
            continue
        offered |= {m: found[m] for m in members if m in found}
        if missing:
            problems.append(
                Problem(
                    subject,
                    "missing_modality",
                    str(folder),
                    f"incomplete {group}: {', '.join(missing)} missing",
                    "Copy the file there, or set cohort.rules.missing_modality: exclude_scans",
                    next(m for m in members if m in found),
                )
            )
    return offered, exclusions, problems


def read_rows(path: Path, needed: tuple[str, ...], delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a table by the names of its columns; cells as text without outer spaces.

    Args:
        path: CSV with a first line of names; a byte order mark is skipped.
        needed: columns that must be there.
        delimiter: between cells.

    Raises:
        MgmtError: no such file, no table, or a column is missing.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [[c.strip() for c in line] for line in csv.reader(file, delimiter=delimiter)]
    except OSError as error:
        raise MgmtError(
            f"{path}: cannot be read ({error.strerror}). Give the table's right place."
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise MgmtError(f"{path}: is no table ({error}). Save it as CSV (UTF-8).") from error
    columns = lines[0] if lines else []
    missing = [name for name in needed if name not in columns]
    if missing:
        raise MgmtError(
            f"{path}: has no column {', '.join(missing)}; its columns are "
            f"{', '.join(columns) or 'none'}. Take the table as downloaded, names first."
        )
    for number, line in enumerate(lines, start=1):
        if any(line[len(columns) :]):
            raise MgmtError(
                f"{path}: row {number} has {len(line)} cells and the header {len(columns)}. "
                "Put quotes around a cell that holds the delimiter."
            )
    filled = [line + [""] * (len(columns) - len(line)) for line in lines[1:] if any(line)]
    return [dict(zip(columns, line, strict=False)) for line in filled]
