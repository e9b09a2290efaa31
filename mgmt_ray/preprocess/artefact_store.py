"""The artefact store: what follows from a subject's files, as one file per subject and part.

A store is a folder of parts, such as modalities. ``T1/S1-<key>.safetensors`` holds named arrays
and, in its header, their SHA-256 and a description. The key is a fingerprint of all that the
artefact follows from: the state of the files that are read and the configuration of its maker. It
is part of the name, so that an artefact of another scan or recipe is another file, and a maker
needs no version number: code that makes something else of the same files has another field, or
another value, in its configuration. A file is complete or absent, and holds no time.

The index, ``T1.json``, is written when a part is complete. Only then can an :class:`ArtefactPart`
be read, and only then are other files of that part deleted.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mgmt_ray.base import MgmtError, write_atomically, write_json

KEY_LENGTH = 12
"""Hexadecimal digits of a key in a file's name."""

UNREADABLE = (OSError, SafetensorError, ValueError, KeyError, TypeError)
"""Errors that reading a missing or damaged artefact may raise."""

Source = TypeVar("Source")


@dataclass(frozen=True, slots=True)
class FileState:
    """A file's name, size and time, by which a changed file is noticed without reading it.

    Attributes:
        name: with the two folders above: a cohort may be moved, and the files of two subjects have
            different names.
        size: in bytes.
        mtime_ns: time of the last change in ns since 1970.
    """

    name: str
    size: int
    mtime_ns: int


def file_state(path: Path) -> FileState:
    """Return the state of a file, or of a folder's files together (a DICOM series).

    Raises:
        OSError: the file does not exist or cannot be read.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    states = [file.stat() for file in files]
    newest = max((state.st_mtime_ns for state in states), default=0)
    return FileState("/".join(path.parts[-3:]), sum(state.st_size for state in states), newest)


def subject_file_state(subject: str, role: str, path: Path) -> FileState:
    """Return the state of a subject's file; ``role`` is its modality, or "mask".

    Raises:
        MgmtError: the file does not exist or cannot be read.
    """
    try:
        return file_state(path)
    except OSError as error:
        raise MgmtError(
            f"subject {subject}: {role} {path} cannot be read ({error.strerror}). "
            "Put the file back, or rebuild the cohort's tables with `mgmt-ray cohort STUDY`."
        ) from error


@dataclass(frozen=True, slots=True, eq=False)
class Artefact:
    """Named arrays, and a description whose values JSON can hold."""

    arrays: Mapping[str, np.ndarray]
    description: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted(Generic[Source]):
    """An artefact that a store has to hold.

    Attributes:
        part: of the store, such as a modality.
        subject: its id.
        key: fingerprint of all that the artefact follows from.
        source: what it is made from.
    """

    part: str
    subject: str
    key: str
    source: Source


def write_artefact(path: Path, artefact: Artefact) -> None:
    """Write an artefact completely or not at all; equal artefacts give equal files.

    Raises:
        CannotWrite: the disk is full or not writable.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in artefact.arrays.items()}
    hashes = {name: _array_hash(array) for name, array in arrays.items()}
    text = json.dumps({"arrays": hashes, "description": artefact.description}, allow_nan=False)
    content = save(arrays, {"artefact": hashlib.sha256(text.encode()).hexdigest() + text})
    write_atomically(path, lambda aside: aside.write_bytes(content))


def read_description(path: Path) -> dict[str, Any] | None:
    """Read an artefact's description, not its arrays; None if it is missing or damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            description: dict[str, Any] = _parse_header(file)["description"]
            return description
    except UNREADABLE:
        return None


def load_artefact(path: Path, subject: str, names: Iterable[str] | None = None) -> Artefact:
    """Read an artefact, with some of its arrays or all, and compare their checksums.

    Raises:
        MgmtError: the file is missing or was changed.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = _parse_header(file)
            arrays = {n: file.get_tensor(n) for n in (header["arrays"] if names is None else names)}
        if any(_array_hash(array) != header["arrays"][name] for name, array in arrays.items()):
            raise ValueError("another checksum")
    except UNREADABLE as error:
        raise damage_error(path, subject) from error
    return Artefact(arrays, header["description"])


def damage_error(path: Path, subject: str) -> MgmtError:
    """Return the error for a file that is missing or has changed since it was written."""
    return MgmtError(
        f"{path}: the data of {subject} are not what was written. Delete the file and run "
        "`mgmt-ray prepare STUDY` again; check the disk."
    )


def _parse_header(file: Any) -> dict[str, Any]:
    text = file.metadata()["artefact"]
    header: dict[str, Any] = json.loads(text[64:])
    if hashlib.sha256(text[64:].encode()).hexdigest() != text[:64]:
        raise ValueError("another checksum")
    return header


def _array_hash(array: np.ndarray) -> str:
    digest = hashlib.sha256(json.dumps([str(array.dtype), array.shape]).encode())
    digest.update(array.data if array.size else b"")
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class FileFormat:
    """How artefacts are written as files of one suffix; all but masks are safetensors.

    Attributes:
        describe: returns the description in a file; None if the file is missing or damaged.
    """

    suffix: str
    write: Callable[[Path, Artefact], None]
    describe: Callable[[Path], dict[str, Any] | None]


SAFETENSORS = FileFormat(".safetensors", write_artefact, read_description)


def artefact_path(
    folder: Path, part: str, subject: str, key: str, suffix: str = SAFETENSORS.suffix
) -> Path:
    """Return the path of one subject's artefact.

    >>> artefact_path(Path("volumes"), "T1", "S-1", "0123456789abcdef").as_posix()
    'volumes/T1/S-1-0123456789ab.safetensors'
    """
    return folder / part / f"{subject}-{key[:KEY_LENGTH]}{suffix}"


def list_artefacts(folder: Path, part: str) -> dict[str, list[Path]]:
    """Return all files of a part by subject, outdated and incomplete ones too."""
    files: dict[str, list[Path]] = {}
    pattern = re.compile(rf"\.?(.+)-[0-9a-f]{{{KEY_LENGTH}}}\..+")
    for path in sorted((folder / part).iterdir()) if (folder / part).is_dir() else ():
        if match := pattern.fullmatch(path.name):
            files.setdefault(match[1], []).append(path)
    return files


def index_path(folder: Path, part: str) -> Path:
    """Return the path of the index of a complete part."""
    return folder / f"{part}.json"


def write_index(
    folder: Path, part: str, about: Mapping[str, Any], subjects: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write the index of a complete part, then delete files of the part that are not in it.

    Args:
        about: what holds for the part as a whole, such as its recipe.
        subjects: by subject the name of its ``file`` and its description.
    """
    path = index_path(folder, part)
    write_json(path, {**about, "subjects": dict(subjects)})
    kept = {entry["file"] for entry in subjects.values()}
    files = (file for paths in list_artefacts(folder, part).values() for file in paths)
    for file in (*files, *folder.glob(f".{path.name}.*.aside")):
        if file.name not in kept:
            file.unlink()


def read_index(folder: Path, part: str) -> Mapping[str, Any] | None:
    """Read a part's index; None if the part is not complete. An unchanged file is parsed once.

    Raises:
        MgmtError: the file is not an index.
    """
    path = index_path(folder, part)
    state = _index_state(path)
    return None if state is None else _parse_index(path, *state)


def _index_state(path: Path) -> tuple[int, int, int] | None:
    try:
        state = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


@lru_cache(maxsize=32)
def _parse_index(path: Path, *_state: int) -> Mapping[str, Any]:
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not all(entry["file"] for entry in index["subjects"].values()):
            raise ValueError("an entry without a file")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MgmtError(
            f"{path}: not an index of artefacts ({error}). Delete it and run "
            "`mgmt-ray prepare STUDY` again."
        ) from error
    return index


class Store(Protocol):
    """A kind of store whose parts have a fingerprint of all their arrays."""

    @property
    def checksum(self) -> str: ...


def part_checksum(store: Callable[[Path, str], Store], folder: Path, part: str) -> str:
    """Return the checksum of a part of a store, which is made once while its index is the same.

    Args:
        store: opens a part in a folder.

    Raises:
        MgmtError: the part is not complete.
    """
    return _checksum_at(store, folder, part, _index_state(index_path(folder, part)))


@lru_cache(maxsize=64)
def _checksum_at(
    store: Callable[[Path, str], Store], folder: Path, part: str, _state: tuple[int, ...] | None
) -> str:
    return store(folder, part).checksum


class ArtefactPart:
    """A complete part of a store, open for reading.

    Attributes:
        path: of the index.
        index: what holds for the part as a whole, such as its recipe.
        subjects: description of each subject's artefact, with the name of its ``file``.

    Raises:
        MgmtError: the part is not complete.
    """

    def __init__(self, folder: Path, part: str) -> None:
        self.path = index_path(folder, part)
        index = read_index(folder, part)
        if index is None:
            raise MgmtError(f"{self.path}: not prepared yet. Run `mgmt-ray prepare STUDY` first.")
        self.index = index
        self.subjects: Mapping[str, Mapping[str, Any]] = index["subjects"]
        self._folder = folder / part

    def load(self, subject: str, names: Sequence[str] | None = None) -> Artefact:
        """Read one subject's artefact, with some of its arrays or all, and compare checksums.

        Raises:
            MgmtError: the subject is not in the part, or its file is missing or was changed.
        """
        self.check_present([subject])
        entry = self.subjects[subject]
        path = self._folder / entry["file"]
        artefact = load_artefact(path, subject, names)
        if {**artefact.description, "file": path.name} != entry:
            raise damage_error(path, subject)
        return artefact

    def check_present(self, subjects: Iterable[str]) -> None:
        """Raise MgmtError if a subject is not in the part."""
        missing = [subject for subject in subjects if subject not in self.subjects]
        if missing:
            shown = ", ".join([*self.subjects][:6]) + (", ..." if len(self.subjects) > 6 else "")
            raise MgmtError(
                f"{self.path}: no subject {', '.join(missing)} among its {len(self.subjects)} "
                f"({shown}). Run `mgmt-ray prepare STUDY` for the cohort and recipe that you have "
                "now."
            )

    def verify(self) -> None:
        """Read all artefacts and compare them with their checksums and the index.

        Raises:
            MgmtError: a file is missing or was changed; the message names the first.
        """
        for subject in self.subjects:
            self.load(subject)
