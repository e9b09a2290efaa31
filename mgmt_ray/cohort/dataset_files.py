"""Finding a data set's subjects, files and table below a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.problem import DOWNLOAD_AGAIN, Problem

SEARCH_DEPTH = 5
"""Levels of folders below the root that are entered."""

DOWNLOAD_CONTENT = (
    "Get the file's content, for instance with git annex get, or leave the subject out with "
    "cohort.exclude"
)

NO_DATA = re.compile(r"\.|lost\+found$")
"""Names of folders that are never entered: hidden ones, and the one a file system makes itself."""


def _first_group(match: re.Match[str]) -> str:
    return match[1]


@dataclass(frozen=True, slots=True)
class DataSetLayout:
    """How a data set with one folder per subject is told.

    Attributes:
        name: of the data set, for errors.
        subject: what a subject's folder is called.
        skipped: beginnings of folders' names below which no subject's folder can be.
        table: pattern of the table's name.
        example: of a subject's folder, for errors.
        id_of: the id that a folder's name gives; the first group by default.
    """

    name: str
    subject: re.Pattern[str]
    skipped: re.Pattern[str]
    table: str
    example: str
    id_of: Callable[[re.Match[str]], str] = _first_group


@dataclass(frozen=True, slots=True)
class DataSetFiles:
    """Where a data set's table and subjects are.

    Attributes:
        table: the newest.
        folders: of subjects by id; more than one is a fault.
    """

    table: Path
    folders: Mapping[str, tuple[Path, ...]]

    def duplicate_problem(self, subject: str) -> Problem | None:
        """Say so when a subject's folder is there more than once."""
        return duplicate_folder_problem(subject, self.folders.get(subject, ()))


def find_data_set(root: Path, layout: DataSetLayout) -> DataSetFiles:
    """Find the table and every subject's folder at or below a folder.

    Raises:
        MgmtError: one of them is not there, two tables could be meant, or a folder is unreadable.
    """
    folders: dict[str, tuple[Path, ...]] = {}
    paths = paths_below(root, layout.name, f"{layout.table} and the images", layout.skipped)
    for path in paths:
        if (match := layout.subject.fullmatch(path.name)) and is_folder(path):
            name = layout.id_of(match)
            folders[name] = (*folders.get(name, ()), path)
    if not folders:
        raise MgmtError(
            f"{root}: no {layout.name} images; looked for folders like {layout.example} down to "
            f"{SEARCH_DEPTH} levels below. Give the folder above them."
        )
    return DataSetFiles(newest_table(root, layout.table, paths), folders)


def duplicate_folder_problem(subject: str, folders: tuple[Path, ...]) -> Problem | None:
    """A subject's folders are a fault where they are more than one."""
    if len(folders) < 2:
        return None
    found = f"{len(folders)} folders: {', '.join(map(str, folders))}"
    return Problem(subject, "duplicated_subject", str(folders[0]), found, "Keep the right folder")


def newest_table(root: Path, pattern: str, paths: Iterable[Path], what: str = "table") -> Path:
    """The table of the highest version in its name among what is below a folder.

    Args:
        root: for the errors.
        pattern: of the table's name.
        paths: what is below the folder.
        what: the table is called in the errors.

    Raises:
        MgmtError: there is none, or more than one of that version.
    """
    tables = [path for path in paths if fnmatchcase(path.name, pattern)]
    if not tables:
        raise MgmtError(
            f"{root}: no {what}; looked for {pattern} down to {SEARCH_DEPTH} levels below. "
            "Download it from the data set's page and put it beside the images."
        )
    version = max(map(_version_of, tables))
    newest = [table for table in tables if _version_of(table) == version]
    if len(newest) > 1:
        raise MgmtError(
            f"{root}: more than one {what} ({', '.join(map(str, sorted(newest)))}). "
            "Keep the one that is meant, or give the folder of one copy."
        )
    return newest[0]


def paths_below(root: Path, name: str, content: str, not_entered: re.Pattern[str]) -> list[Path]:
    """Every file and folder below a data set's folder, in order.

    Args:
        root: the data set's folder.
        name: of the data set, for the error.
        content: what the folder holds, for the error.
        not_entered: beginnings of the names of folders that are not looked into.

    Raises:
        MgmtError: no such folder, or one that cannot be read.
    """
    if not is_folder(root):
        raise MgmtError(
            f"{root}: no such folder. Give the folder of your {name} copy (it holds {content}) "
            "with --data or cohort.root."
        )
    return list(_walk(root, not_entered, SEARCH_DEPTH))


def _walk(folder: Path, not_entered: re.Pattern[str], depth: int) -> Iterator[Path]:
    for child in list_folder(folder):
        yield child
        if depth == 0 or NO_DATA.match(child.name) or not_entered.match(child.name):
            continue
        if is_folder(child):
            yield from _walk(child, not_entered, depth - 1)


def list_folder(folder: Path) -> list[Path]:
    """What a folder holds, by name.

    Raises:
        MgmtError: it cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise _unreadable(folder, error) from error


def is_folder(path: Path) -> bool:
    """Whether there is a folder.

    Raises:
        MgmtError: that cannot be told, for who asks may not look.
    """
    try:
        return path.is_dir()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> MgmtError:
    return MgmtError(
        f"{path}: cannot be read ({error.strerror}). Get permission to read it, or give a "
        "cohort.root that does not contain it."
    )


def find_nifti(path: Path) -> Path | None:
    """A file by its name ``….nii.gz``, or the same unpacked (``….nii``) where only that is there.

    A link that points nowhere is found too: whoever opens it says so (see :func:`missing_reason`).
    """
    return next((p for p in (path, path.with_suffix("")) if os.path.lexists(p)), None)


def missing_reason(path: Path) -> tuple[str, str] | None:
    """Why a file or folder cannot be had, and what to do about it; None where it is there."""
    try:
        if path.exists():
            return None
        linked = path.is_symlink()
    except OSError as error:
        remedy = "Mend its name or permission, or leave the subject out with cohort.exclude"
        return f"cannot be looked at ({error.strerror})", remedy
    return (
        ("the link points nowhere", DOWNLOAD_CONTENT)
        if linked
        else ("no such file", DOWNLOAD_AGAIN)
    )


def _version_of(table: Path) -> list[int]:
    """The version in a table's name: [2, 1] of ``..._v2.1.csv``; empty where there is none."""
    numbers = re.search(r"_v(\d+(?:\.\d+)*)", table.name)
    return [int(n) for n in numbers[1].split(".")] if numbers else []
