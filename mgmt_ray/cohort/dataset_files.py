"""Finding a data set's table, subject folders and files below its root folder."""

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
"""Levels of folders below the root that are searched."""

DOWNLOAD_CONTENT = "Download the file's content, for instance with git annex get"

LEFTOVER = re.compile(
    r"\.|lost\+found$|__MACOSX$|@eaDir$|#recycle$|\$RECYCLE\.BIN$|System Volume Information$"
)
"""Names that are no part of a data set: hidden ones (``._`` before a name is macOS' copy of a
file's attributes), and those that archives, file systems and network disks create."""


def _first_group(match: re.Match[str]) -> str:
    return match[1]


@dataclass(frozen=True, slots=True)
class DataSetLayout:
    """How a data set with one folder per subject names its folders and its table.

    Attributes:
        name: of the data set, for messages.
        subject: full name of a subject's folder.
        skipped: start of the names of folders that contain no subject's folder.
        table: glob pattern of the table's name.
        example: name of a subject's folder, for messages.
        id_of: turns a match of ``subject`` into the subject's id; its first group by default.
    """

    name: str
    subject: re.Pattern[str]
    skipped: re.Pattern[str]
    table: str
    example: str
    id_of: Callable[[re.Match[str]], str] = _first_group


@dataclass(frozen=True, slots=True)
class DataSetFiles:
    """Where a data set's newest table and its subjects' folders (by id) are."""

    table: Path
    folders: Mapping[str, tuple[Path, ...]]


def find_data_set(root: Path, layout: DataSetLayout) -> DataSetFiles:
    """Find the newest table and every subject's folder at or below a folder.

    Raises:
        MgmtError: there is no table or no subject's folder, several tables have the newest
            version, or a folder is unreadable.
    """
    folders: dict[str, tuple[Path, ...]] = {}
    paths = paths_below(root, layout.name, f"{layout.table} and the images", layout.skipped)
    for path in paths:
        if (match := layout.subject.fullmatch(path.name.strip())) and is_folder(path):
            name = layout.id_of(match)
            folders[name] = (*folders.get(name, ()), path)
    if not folders:
        raise MgmtError(
            f"{root}: no {layout.name} images; looked for folders like {layout.example} down to "
            f"{SEARCH_DEPTH} levels below. Give the folder above them."
        )
    return DataSetFiles(newest_table(root, layout.table, paths), folders)


def duplicate_folder_problem(subject: str, folders: tuple[Path, ...]) -> Problem | None:
    """Return the problem of a subject that has several folders."""
    if len(folders) < 2:
        return None
    found = f"{len(folders)} folders: {', '.join(map(str, folders))}"
    return Problem(subject, "duplicated_subject", str(folders[0]), found, "Keep the right folder")


def newest_table(root: Path, pattern: str, paths: Iterable[Path], name: str = "table") -> Path:
    """Return the path that matches a glob pattern, in any case, and has the highest version.

    Raises:
        MgmtError: there is none, or several have the highest version.

    >>> newest_table(Path(), "info_*.csv", [Path("info_v2.1.csv"), Path("info_v1.0.csv")]).name
    'info_v2.1.csv'
    """
    tables = [path for path in paths if fnmatchcase(path.name.lower(), pattern.lower())]
    if not tables:
        raise MgmtError(
            f"{root}: no {name}; looked for {pattern} down to {SEARCH_DEPTH} levels below. "
            "Download it from the data set's page and put it next to the images."
        )
    version = max(map(_version_of, tables))
    # links to one table are one
    newest = list({os.path.realpath(t): t for t in tables if _version_of(t) == version}.values())
    if len(newest) > 1:
        raise MgmtError(
            f"{root}: more than one {name} ({', '.join(map(str, sorted(newest)))}). "
            "Keep the right one, or give the folder of one copy."
        )
    return newest[0]


def paths_below(root: Path, name: str, content: str, skipped: re.Pattern[str]) -> list[Path]:
    """List every file and folder down to :data:`SEARCH_DEPTH` levels below a folder, sorted.

    A folder that links lead to again, such as its own one, is listed once.

    Args:
        name: of the data set, for messages.
        content: of the folder, for messages.
        skipped: start of the names of folders that are not searched.

    Raises:
        MgmtError: the folder does not exist, or one cannot be read.
    """
    if not is_folder(root):
        raise MgmtError(
            f"{root}: no such folder. Give the folder of your {name} copy (it holds {content}) "
            "with --data or cohort.root."
        )
    return sorted(_walk(root, skipped, SEARCH_DEPTH, {os.path.realpath(root)}))


def _walk(folder: Path, skipped: re.Pattern[str], depth: int, searched: set[str]) -> Iterator[Path]:
    """Yield what is below a folder; of a folder that links lead to again, only the first path."""
    # links to folders go last, since they may lead to one of the other folders
    by_kind = sorted(list_folder(folder), key=lambda path: path.is_symlink() and is_folder(path))
    for child in by_kind:
        if not is_folder(child):
            yield child
            continue
        target = os.path.realpath(child)
        if target in searched:
            continue
        searched.add(target)
        yield child
        if depth and not skipped.match(child.name):
            yield from _walk(child, skipped, depth - 1, searched)


def list_folder(folder: Path) -> list[Path]:
    """Return the files and folders in a folder, sorted by name, without :data:`LEFTOVER`.

    Raises:
        MgmtError: it cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not LEFTOVER.match(path.name))
    except OSError as error:
        raise _unreadable(folder, error) from error


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder.

    Raises:
        MgmtError: the path cannot be examined, for instance without permission.
    """
    try:
        return path.is_dir()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> MgmtError:
    return MgmtError(
        f"{path}: cannot be read ({error.strerror}). Get permission to read it, or "
        "remove it from the folder."
    )


def find_nifti(path: Path) -> Path | None:
    """Return the path of a ``.nii.gz`` file, or of its uncompressed form (``.nii``), if one exists.

    A broken link counts as existing, so that it is reported (see :func:`missing_reason`).
    """
    return next((p for p in (path, path.with_suffix("")) if os.path.lexists(p)), None)


def missing_reason(path: Path) -> tuple[str, str] | None:
    """Return why a file or folder is not available and a remedy; None where it is available.

    >>> missing_reason(Path("no-such-file"))[0]
    'no such file'
    """
    try:
        if path.exists():
            return None
        is_link = path.is_symlink()
    except OSError as error:
        remedy = "Fix its name or permission"
        return f"cannot be accessed ({error.strerror})", remedy
    return ("the link is broken", DOWNLOAD_CONTENT) if is_link else ("no such file", DOWNLOAD_AGAIN)


def _version_of(table: Path) -> list[int]:
    """Return the version in a file name, like [2, 1] of ``..._v2.1.csv``; empty without one."""
    numbers = re.search(r"_v(\d+(?:\.\d+)*)", table.name.lower())
    return [int(n) for n in numbers[1].split(".")] if numbers else []
