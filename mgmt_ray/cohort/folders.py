"""Finding a data set's subjects and its table below a folder, by layout."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.problem import Problem

SEARCH_DEPTH = 4
"""Levels of folders below the root in which subjects and tables are looked for."""


@dataclass(frozen=True, slots=True)
class DataSetLayout:
    """How a data set with one folder per subject is told.

    Attributes:
        name: of the data set, for errors.
        subject: what a subject's folder is called; the first group is the id.
        not_entered: beginnings of folders' names below which no subject's folder can be.
        table: pattern of the table's name.
        example: of a subject's folder, for errors.
    """

    name: str
    subject: re.Pattern[str]
    not_entered: re.Pattern[str]
    table: str
    example: str


@dataclass(frozen=True, slots=True)
class FoundCopy:
    """A copy of a data set.

    Attributes:
        table: the newest.
        folders: of subjects by id; more than one is a fault.
    """

    table: Path
    folders: Mapping[str, tuple[Path, ...]]

    def fault(self, subject: str) -> Problem | None:
        """Say so when a subject's folder is there more than once."""
        folders = self.folders.get(subject, ())
        if len(folders) < 2:
            return None
        found = f"{len(folders)} folders: {', '.join(map(str, folders))}"
        return Problem(
            subject, "duplicated_subject", str(folders[0]), found, "Keep the right folder"
        )


def find_copy(root: Path, layout: DataSetLayout) -> FoundCopy:
    """Find the table and every subject's folder at or below a folder.

    Raises:
        MgmtError: one of them is not there, or two tables could be meant.
    """
    if not root.is_dir():
        raise MgmtError(
            f"{root}: no such folder. Give the folder of your {layout.name} copy "
            f"(it holds {layout.table} and the images) with --data or cohort.root."
        )
    folders: dict[str, tuple[Path, ...]] = {}
    tables: list[Path] = []
    for folder in walk(root, layout.not_entered, SEARCH_DEPTH):
        tables += folder.glob(layout.table)
        for child in _folders_in(folder):
            if match := layout.subject.fullmatch(child.name):
                folders[match[1]] = (*folders.get(match[1], ()), child)
    if not folders:
        raise MgmtError(
            f"{root}: no {layout.name} images; looked for folders like {layout.example} down to "
            f"{SEARCH_DEPTH} levels below. Give the folder above them."
        )
    return FoundCopy(_newest(tables, root, layout), folders)


def _newest(tables: list[Path], root: Path, layout: DataSetLayout) -> Path:
    if not tables:
        raise MgmtError(
            f"{root}: no table; looked for {layout.table} down to {SEARCH_DEPTH} levels below. "
            "Download it from the data set's page and put it beside the images."
        )
    version = max(map(version_of, tables))
    newest = [table for table in tables if version_of(table) == version]
    if len(newest) > 1:
        raise MgmtError(
            f"{root}: more than one table ({', '.join(map(str, sorted(newest)))}). "
            "Keep the one that is meant, or give the folder of one copy."
        )
    return newest[0]


def walk(folder: Path, not_entered: re.Pattern[str], depth: int) -> Iterator[Path]:
    """A folder and those below it, but not below names that begin with ``not_entered``."""
    yield folder
    if depth == 0:
        return
    for child in _folders_in(folder):
        if not not_entered.match(child.name):
            yield from walk(child, not_entered, depth - 1)


def _folders_in(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir())


def version_of(table: Path) -> list[int]:
    """The version in a table's name: [2, 1] of ``..._v2.1.csv``; empty where there is none."""
    numbers = re.search(r"_v(\d+(?:\.\d+)*)", table.name)
    return [int(n) for n in numbers[1].split(".")] if numbers else []
