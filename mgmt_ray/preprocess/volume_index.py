"""The index of a volume store: subjects and versions of an array, and the files they come from.

Per modality the store's folder holds ``T1.npy``, float16 [subject, version, depth, height, width],
and ``T1.json``, the index. An array under construction is ``T1-<target>.npy.partial`` with its
journal ``T1-<target>.jsonl``.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16

from mgmt_ray.base import MgmtError, fingerprint

FORMAT = 1
DTYPE = np.dtype(np.float16)


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


@dataclass(frozen=True, slots=True)
class Row:
    """One subject's place in an array, with one entry per version.

    Attributes:
        position: index along the array's first axis.
        keys: fingerprint of scan, mask and recipe per version; equal keys mean equal voxels.
        parameters: random draws and voxel counts per version.
        checksum: SHA-256 of the row's bytes.
        image: state of the scan that was read.
        mask: state of the mask that was read.
    """

    id: str
    position: int
    keys: tuple[str, ...]
    parameters: tuple[Mapping[str, float | int], ...]
    checksum: str
    image: FileState
    mask: FileState

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Row:
        """Read back the result of ``asdict``; KeyError or TypeError for other content."""
        return cls(
            id=value["id"],
            position=value["position"],
            keys=tuple(value["keys"]),
            parameters=tuple(value["parameters"]),
            checksum=value["checksum"],
            image=FileState(**value["image"]),
            mask=FileState(**value["mask"]),
        )


@dataclass(frozen=True, slots=True)
class Index:
    """The index of one modality's array.

    Attributes:
        versions: names along the array's second axis.
        volume_shape: depth, height, width.
        rows: sorted by id, which is also their order in the array.
        recipe: of the volumes; whether they are up to date is decided by the rows' keys.
        target: fingerprint of all subjects, versions and keys (see ``volume_store_plan``).
    """

    modality: str
    versions: tuple[str, ...]
    volume_shape: tuple[int, int, int]
    rows: tuple[Row, ...]
    recipe: Mapping[str, Any]
    target: str

    @property
    def shape(self) -> tuple[int, ...]:
        """[subject, version, depth, height, width]."""
        return (len(self.rows), len(self.versions), *self.volume_shape)

    @property
    def checksum(self) -> str:
        """Fingerprint of all voxels, subjects and versions; independent of time and folder."""
        rows = [[row.id, row.checksum] for row in self.rows]
        return fingerprint([self.modality, self.versions, self.volume_shape, rows])

    def to_json(self) -> dict[str, Any]:
        """Return the content of the index file; :meth:`from_json` reads it back."""
        return {
            "format": FORMAT,
            "modality": self.modality,
            "axes": "subject, version, depth, height, width",
            "shape": self.shape,
            "dtype": str(DTYPE),
            "bytes": num_bytes(self.shape),
            "versions": self.versions,
            "checksum": self.checksum,
            "target": self.target,
            "recipe_fingerprint": fingerprint(self.recipe),
            "recipe": self.recipe,
            "subjects": [asdict(row) for row in self.rows],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Index:
        """Read back :meth:`to_json`'s result; KeyError or TypeError for other content."""
        depth, height, width = value["shape"][2:]
        return cls(
            modality=value["modality"],
            versions=tuple(value["versions"]),
            volume_shape=(depth, height, width),
            rows=tuple(Row.from_json(row) for row in value["subjects"]),
            recipe=value["recipe"],
            target=value["target"],
        )


def array_header(shape: Sequence[int]) -> bytes:
    """Return the first bytes of an ``.npy`` file of that shape."""
    header = io.BytesIO()
    description = {"descr": DTYPE.str, "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(header, description)
    return header.getvalue()


def num_bytes(shape: Sequence[int]) -> int:
    """Return the size of an array's file in bytes.

    >>> num_bytes((3, 5, 70, 86, 86))
    15531728
    """
    return len(array_header(shape)) + int(np.prod(shape)) * DTYPE.itemsize


def array_path(folder: Path, modality: str) -> Path:
    """Return the path of the finished array."""
    return folder / f"{modality}.npy"


def index_path(folder: Path, modality: str) -> Path:
    """Return the path of the finished array's index."""
    return folder / f"{modality}.json"


def next_index_path(folder: Path, modality: str) -> Path:
    """Return the path of the index of an array that is about to replace the present one."""
    return folder / f"{modality}.json.next"


def partial_path(folder: Path, modality: str, target: str) -> Path:
    """Return the path of an array under construction."""
    return folder / f"{modality}-{target[:12]}.npy.partial"


def journal_path(folder: Path, modality: str, target: str) -> Path:
    """Return the path of the list of an unfinished array's finished rows: one JSON row a line."""
    return folder / f"{modality}-{target[:12]}.jsonl"


def read_index(folder: Path, modality: str) -> Index | None:
    """Read the index of the array in place; None if there is none of the present format.

    An array is replaced in three steps: write the next index, rename the array, rename the index.
    After an interruption between the last two, the next index is the valid one.

    Raises:
        MgmtError: the file is not an index.
    """
    next_index = _parse(next_index_path(folder, modality))
    if next_index and not partial_path(folder, modality, next_index.target).exists():
        return next_index
    return _parse(index_path(folder, modality))


def row_checksum(volumes: Float16[np.ndarray, "version depth height width"]) -> str:
    """Return the SHA-256 (hexadecimal) of a row's bytes."""
    return hashlib.sha256(np.ascontiguousarray(volumes).data).hexdigest()


def _parse(path: Path) -> Index | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return Index.from_json(value) if value["format"] == FORMAT else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise MgmtError(
            f"{path}: not an index of volumes ({error}). Delete it and run "
            "`mgmt-ray prepare STUDY` again."
        ) from error
