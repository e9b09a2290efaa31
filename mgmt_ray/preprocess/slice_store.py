"""The slice store: one file per subject and modality, and an index of those that belong together.

``FLAIR/S1-<key>.npz`` holds the images (float32) and masks (uint8) [slice, height, width] of one
subject with a ``row`` that tells what they are. The key is part of its name, so slices by another
recipe or from other scans are another file, and a file is complete or not there. ``FLAIR.json``,
the index, is written when all subjects of a modality are there; only then can a
:class:`SliceStore` be opened. Subjects differ in their number of slices, so there is no one array.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mgmt_ray.base import MgmtError, fingerprint, write_aside
from mgmt_ray.preprocess.index import Source
from mgmt_ray.preprocess.slices import Frame, SubjectSlices

FORMAT = 1


@dataclass(frozen=True, slots=True)
class SliceRow:
    """What one subject's file holds.

    Attributes:
        id: the subject's.
        key: what the slices were made from and how; equal keys mean equal slices.
        checksum: SHA-256 of the voxels and of where they belong.
        depths: of each slice in the scan.
        frame: where the slices lie in the scan.
        annotated: whether there was a mask.
        image: the scan that was read.
        mask: the mask that was read; None where there was none.
    """

    id: str
    key: str
    checksum: str
    depths: tuple[int, ...]
    frame: Frame
    annotated: bool
    image: Source
    mask: Source | None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SliceRow:
        """Read back what :func:`dataclasses.asdict` made; KeyError or TypeError if it did not."""
        frame: dict[str, Any] = {
            name: tuple(entry) if isinstance(entry, list) else entry
            for name, entry in value["frame"].items()
        }
        return cls(
            id=value["id"],
            key=value["key"],
            checksum=value["checksum"],
            depths=tuple(value["depths"]),
            frame=Frame(**frame),
            annotated=value["annotated"],
            image=Source(**value["image"]),
            mask=Source(**value["mask"]) if value["mask"] else None,
        )


@dataclass(frozen=True, slots=True)
class SliceIndex:
    """All slices of one modality.

    Attributes:
        modality: of all of them.
        rows: one per subject, sorted by id.
        recipe: as it was given, for the reader; the rows' keys decide what is up to date.
        target: fingerprint of all subjects and keys.
    """

    modality: str
    rows: tuple[SliceRow, ...]
    recipe: Mapping[str, Any]
    target: str

    @property
    def checksum(self) -> str:
        """Fingerprint of every voxel and of what it belongs to; not of when it was made."""
        return fingerprint([self.modality, [[row.id, row.checksum] for row in self.rows]])

    def to_json(self) -> dict[str, Any]:
        """For the index file; :meth:`from_json` reads it back."""
        return {
            "format": FORMAT,
            "modality": self.modality,
            "axes": "slice, height, width",
            "num_slices": sum(len(row.depths) for row in self.rows),
            "checksum": self.checksum,
            "target": self.target,
            "recipe_fingerprint": fingerprint(self.recipe),
            "recipe": self.recipe,
            "subjects": [asdict(row) for row in self.rows],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SliceIndex:
        """Read back what :meth:`to_json` made; KeyError or TypeError where it did not."""
        rows = tuple(SliceRow.from_json(row) for row in value["subjects"])
        return cls(value["modality"], rows, value["recipe"], value["target"])


class SliceStore:
    """The finished slices of one modality, open for reading.

    Attributes:
        rows: by subject what there is, known without reading a voxel.
        ids: of its subjects, sorted.
        checksum: of all voxels and what they belong to.

    Raises:
        MgmtError: there are none yet.
    """

    def __init__(self, folder: Path, modality: str) -> None:
        index = read_slice_index(folder, modality)
        if index is None:
            raise MgmtError(
                f"{slice_index_path(folder, modality)}: no slices yet. Run `mgmt-ray prepare "
                "STUDY` first."
            )
        self.modality = modality
        self.rows: Mapping[str, SliceRow] = {row.id: row for row in index.rows}
        self.ids = tuple(self.rows)
        self.checksum = index.checksum
        self._folder = folder

    def load(self, subject_ids: Sequence[str]) -> tuple[SubjectSlices, ...]:
        """Read subjects' slices into memory, in the order asked for; checksums are compared.

        Raises:
            MgmtError: the store lacks a subject, or a file is gone or not what was written.
        """
        missing = [subject for subject in subject_ids if subject not in self.rows]
        if missing:
            shown = ", ".join(self.ids[:6]) + (", ..." if len(self.ids) > 6 else "")
            raise MgmtError(
                f"{slice_index_path(self._folder, self.modality)}: no subject {', '.join(missing)} "
                f"among its {len(self.ids)} ({shown}). Run `mgmt-ray prepare STUDY` for the cohort "
                "that you now have."
            )
        return tuple(self._read(self.rows[subject]) for subject in subject_ids)

    def verify(self) -> None:
        """Read every voxel and compare with the checksums of the index.

        Raises:
            MgmtError: naming the first file that has changed.
        """
        for row in self.rows.values():
            self._read(row)

    def _read(self, row: SliceRow) -> SubjectSlices:
        path = slice_path(self._folder, self.modality, row.id, row.key)
        try:
            with np.load(path) as file:
                images, masks = file["images"], file["masks"]
        except Exception as error:  # a damaged file makes zipfile and NumPy raise about anything
            raise _changed(path, row.id) from error
        depths = np.array(row.depths, np.int64)
        slices = SubjectSlices(row.id, images, masks, depths, row.frame, row.annotated)
        if slices_checksum(slices) != row.checksum:
            raise _changed(path, row.id)
        return slices


def slices_checksum(slices: SubjectSlices) -> str:
    """SHA-256 (hexadecimal) of all that a subject's slices say, and of whom."""
    where = [slices.id, slices.depths.tolist(), asdict(slices.frame), slices.annotated]
    kinds = [[str(a.dtype), a.shape] for a in (slices.images, slices.masks)]
    digest = hashlib.sha256(json.dumps([where, kinds]).encode())
    for array in (slices.images, slices.masks):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def slice_path(folder: Path, modality: str, subject: str, key: str) -> Path:
    """One subject's file."""
    return folder / modality / f"{subject}-{key[:12]}.npz"


def slice_index_path(folder: Path, modality: str) -> Path:
    """The index of a modality's finished slices."""
    return folder / f"{modality}.json"


def read_slice_index(folder: Path, modality: str) -> SliceIndex | None:
    """The index in place; None where there is none of this format.

    Raises:
        MgmtError: the file is not an index.
    """
    path = slice_index_path(folder, modality)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return SliceIndex.from_json(value) if value["format"] == FORMAT else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise MgmtError(
            f"{path}: not an index of slices ({error}). Delete it and run "
            "`mgmt-ray prepare STUDY` again."
        ) from error


def write_slices(path: Path, slices: SubjectSlices, row: SliceRow) -> None:
    """Write a subject's file completely or not at all.

    Raises:
        CannotWrite: the disk is full or forbidden.
    """
    told = np.frombuffer(json.dumps(asdict(row), allow_nan=False).encode(), np.uint8)

    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            np.savez(file, allow_pickle=False, images=slices.images, masks=slices.masks, row=told)

    write_aside(path, write)


def read_row(path: Path) -> SliceRow | None:
    """What a subject's file holds, without reading its voxels; None where it is not whole."""
    try:
        with np.load(path) as file:
            return SliceRow.from_json(json.loads(file["row"].tobytes()))
    except Exception:  # as in SliceStore: what is wrong does not matter, it is made again
        return None


def _changed(path: Path, subject: str) -> MgmtError:
    return MgmtError(
        f"{path}: the slices of {subject} are not what was written. Delete the file and run "
        "`mgmt-ray prepare STUDY` again; check the disk."
    )
