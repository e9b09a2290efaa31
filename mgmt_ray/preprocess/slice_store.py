"""The slice store: one file per subject and modality, and an index of those that belong together.

``FLAIR/S1-<key>.npz`` holds the images (float32) and masks (uint8) [slice, height, width] of one
subject, which slices are ``of_brain``, the given mask on the scan's own grid (``outline``, bits;
empty without a mask), and a ``row`` that tells what they are. The key is part of its name, so
slices by another recipe or from other scans are another file, and a file is complete or not there.
``FLAIR.json``, the index, is written when all subjects of a modality are there; only then can a
:class:`SliceStore` be opened. Subjects differ in their number of slices, so there is no one array.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mgmt_ray.base import MgmtError, parse, write_atomically
from mgmt_ray.preprocess.axial_slices import SubjectSlices
from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.slice_index import (
    SliceRow,
    read_slice_index,
    slice_index_path,
    slice_path,
)


class SliceStore:
    """The finished slices of one modality, open for reading.

    Attributes:
        rows: by subject what there is, known without reading a voxel.
        ids: of its subjects, sorted.
        checksum: of all voxels and what they belong to.
        recipe: by which they were cut, and by which those through the tumour are chosen.

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
        self.recipe = parse(SliceRecipe, index.recipe, str(slice_index_path(folder, modality)))
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
                images, masks, bits = file["images"], file["masks"], file["outline"]
                of_brain = file["of_brain"]
            outline = _unpack_bits(bits, row.frame.scan_shape) if row.annotated else None
        except Exception as error:  # a damaged file makes zipfile and NumPy raise about anything
            raise _damaged_file_error(path, row.id) from error
        depths = np.array(row.depths, np.int64)
        slices = SubjectSlices(row.id, images, masks, depths, row.frame, outline, of_brain)
        if slices_checksum(slices) != row.checksum:
            raise _damaged_file_error(path, row.id)
        return slices


def slices_checksum(slices: SubjectSlices) -> str:
    """SHA-256 (hexadecimal) of all that a subject's slices say, and of whom."""
    where = [slices.id, slices.depths.tolist(), asdict(slices.frame), slices.annotated]
    arrays = (slices.images, slices.masks, _pack_bits(slices.scan_mask), slices.of_brain)
    kinds = [[str(a.dtype), a.shape] for a in arrays]
    digest = hashlib.sha256(json.dumps([where, kinds]).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write_slices(path: Path, slices: SubjectSlices, row: SliceRow) -> None:
    """Write a subject's file completely or not at all.

    Raises:
        CannotWrite: the disk is full or forbidden.
    """
    told = np.frombuffer(json.dumps(asdict(row), allow_nan=False).encode(), np.uint8)
    arrays = {
        "images": slices.images,
        "masks": slices.masks,
        "outline": _pack_bits(slices.scan_mask),
        "of_brain": slices.of_brain,
        "row": told,
    }

    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    write_atomically(path, write)


def read_row(path: Path) -> SliceRow | None:
    """What a subject's file holds, without reading its voxels; None where it is not whole."""
    try:
        with np.load(path) as file:
            return SliceRow.from_json(json.loads(file["row"].tobytes()))
    except Exception:  # as in SliceStore: what is wrong does not matter, it is made again
        return None


def _pack_bits(outline: np.ndarray | None) -> np.ndarray:
    """A mask's bits in bytes; nothing for none."""
    return np.zeros(0, np.uint8) if outline is None else np.packbits(outline)


def _unpack_bits(bits: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    return np.unpackbits(bits, count=math.prod(shape)).reshape(shape).astype(bool)


def _damaged_file_error(path: Path, subject: str) -> MgmtError:
    return MgmtError(
        f"{path}: the slices of {subject} are not what was written. Delete the file and run "
        "`mgmt-ray prepare STUDY` again; check the disk."
    )
