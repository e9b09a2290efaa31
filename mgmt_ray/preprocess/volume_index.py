"""What the volume store writes beside an array: who and what lies where, made from what.

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
    """What tells one state of a file from another without reading it.

    Attributes:
        name: with the two folders above, so that a cohort may move, and no two subjects' files have
            one name.
        size: bytes.
        mtime_ns: time of the last change in ns since 1970.
    """

    name: str
    size: int
    mtime_ns: int


def file_state(path: Path) -> FileState:
    """The state of a file, or of a folder's files together (a DICOM series).

    Raises:
        OSError: there is nothing.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    states = [file.stat() for file in files]
    newest = max((state.st_mtime_ns for state in states), default=0)
    return FileState("/".join(path.parts[-3:]), sum(state.st_size for state in states), newest)


@dataclass(frozen=True, slots=True)
class Row:
    """One subject's place in an array, with one entry per version.

    Attributes:
        id: the subject's.
        position: along the array's first axis.
        keys: what each version was made from and how; equal keys mean equal voxels.
        parameters: what was drawn for each version.
        checksum: SHA-256 of the row's bytes.
        image: the scan that was read.
        mask: the tumour mask that was read.
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
        """Read back what :func:`dataclasses.asdict` made."""
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
    """What an array holds.

    Attributes:
        modality: of all its volumes.
        versions: names along the array's second axis.
        volume_shape: depth, height, width.
        rows: sorted by id, which is also their order in the array.
        recipe: as it was given, for the reader; the rows' keys decide what is up to date.
        target: fingerprint of all subjects, versions and keys (see ``store_plan``).
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
        """Fingerprint of every voxel and of what it belongs to; not of when it was made."""
        rows = [[row.id, row.checksum] for row in self.rows]
        return fingerprint([self.modality, self.versions, self.volume_shape, rows])

    def to_json(self) -> dict[str, Any]:
        """For the index file; :meth:`from_json` reads it back."""
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
        """Read back what :meth:`to_json` made; KeyError or TypeError where it did not."""
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
    """The first bytes of an ``.npy`` file of that shape."""
    header = io.BytesIO()
    description = {"descr": DTYPE.str, "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(header, description)
    return header.getvalue()


def num_bytes(shape: Sequence[int]) -> int:
    """Size of an array's file."""
    return len(array_header(shape)) + int(np.prod(shape)) * DTYPE.itemsize


def array_path(folder: Path, modality: str) -> Path:
    """The finished array."""
    return folder / f"{modality}.npy"


def index_path(folder: Path, modality: str) -> Path:
    """The finished array's index."""
    return folder / f"{modality}.json"


def next_index_path(folder: Path, modality: str) -> Path:
    """The index of an array that is about to replace the present one."""
    return folder / f"{modality}.json.next"


def partial_path(folder: Path, modality: str, target: str) -> Path:
    """An array under construction."""
    return folder / f"{modality}-{target[:12]}.npy.partial"


def journal_path(folder: Path, modality: str, target: str) -> Path:
    """Which rows of an array under construction are finished: one JSON object per line."""
    return folder / f"{modality}-{target[:12]}.jsonl"


def read_index(folder: Path, modality: str) -> Index | None:
    """The index that belongs to the array in place; None where there is none.

    An array is replaced by three steps: write the next index, rename the array, rename the index.
    If the second was done and the third was not, the next index is the valid one.

    Raises:
        MgmtError: the index is not one.
    """
    following = _parse(next_index_path(folder, modality))
    if following and not partial_path(folder, modality, following.target).exists():
        return following
    return _parse(index_path(folder, modality))


def row_checksum(volumes: Float16[np.ndarray, "version depth height width"]) -> str:
    """SHA-256 (hexadecimal) of a row's bytes."""
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
