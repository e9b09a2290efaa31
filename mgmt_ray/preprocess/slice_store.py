"""The slice store: one file per subject and modality, and an index per modality.

``FLAIR/S1-<key>.npz`` holds the images (float32) and masks (uint8) [slice, height, width] of one
subject, which slices are ``of_brain``, the given mask on the scan's own grid (``outline``, bits;
empty without a mask), and the ``row`` that describes them. The key is part of the file's name, so
slices by another recipe or from other scans are another file. A file is complete or absent. The
index, ``FLAIR.json``, is written when all subjects of a modality are complete; only then can a
:class:`SliceStore` be opened. Subjects differ in their number of slices, hence a file for each.
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
        rows: description of each subject's slices, from the index.
        ids: of the subjects, sorted.
        checksum: of all voxels and subjects.
        recipe: that the slices were cut by, and that selects those through the tumour.

    Raises:
        MgmtError: the modality has no finished slices.
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
        """Read subjects' slices into memory, in the given order, and compare their checksums.

        Raises:
            MgmtError: a subject is not in the store, or its file is missing or was changed.
        """
        missing = [subject for subject in subject_ids if subject not in self.rows]
        if missing:
            shown = ", ".join(self.ids[:6]) + (", ..." if len(self.ids) > 6 else "")
            raise MgmtError(
                f"{slice_index_path(self._folder, self.modality)}: no subject {', '.join(missing)} "
                f"among its {len(self.ids)} ({shown}). Run `mgmt-ray prepare STUDY` for the cohort "
                "that you have now."
            )
        return tuple(self._read(self.rows[subject]) for subject in subject_ids)

    def verify(self) -> None:
        """Read all slices and compare them with the checksums of the index.

        Raises:
            MgmtError: a file was changed; the message names the first.
        """
        for row in self.rows.values():
            self._read(row)

    def _read(self, row: SliceRow) -> SubjectSlices:
        path = slice_path(self._folder, self.modality, row.id, row.key)
        try:
            with np.load(path) as file:
                images, masks, bits = file["images"], file["masks"], file["outline"]
                of_brain = file["of_brain"]
            scan_mask = _unpack_bits(bits, row.frame.scan_shape) if row.annotated else None
        except Exception as error:  # a damaged file makes zipfile and NumPy raise any error
            raise _damaged_file_error(path, row.id) from error
        depths = np.array(row.depths, np.int64)
        slices = SubjectSlices(row.id, images, masks, depths, row.frame, scan_mask, of_brain)
        if slices_checksum(slices) != row.checksum:
            raise _damaged_file_error(path, row.id)
        return slices


def slices_checksum(slices: SubjectSlices) -> str:
    """Return the SHA-256 (hexadecimal) of a subject's id, slices and masks."""
    position = [slices.id, slices.depths.tolist(), asdict(slices.frame), slices.annotated]
    arrays = (slices.images, slices.masks, _pack_bits(slices.scan_mask), slices.of_brain)
    types = [[str(array.dtype), array.shape] for array in arrays]
    digest = hashlib.sha256(json.dumps([position, types]).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write_slices(path: Path, slices: SubjectSlices, row: SliceRow) -> None:
    """Write a subject's file completely or not at all.

    Raises:
        CannotWrite: the disk is full or not writable.
    """
    description = json.dumps(asdict(row), allow_nan=False).encode()
    arrays = {
        "images": slices.images,
        "masks": slices.masks,
        "outline": _pack_bits(slices.scan_mask),
        "of_brain": slices.of_brain,
        "row": np.frombuffer(description, np.uint8),
    }

    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    write_atomically(path, write)


def read_row(path: Path) -> SliceRow | None:
    """Read the description in a subject's file, not its voxels; None if missing or damaged."""
    try:
        with np.load(path) as file:
            return SliceRow.from_json(json.loads(file["row"].tobytes()))
    except Exception:  # as in SliceStore; whatever the damage, the file is rebuilt
        return None


def _pack_bits(mask: np.ndarray | None) -> np.ndarray:
    """Pack a mask's bits into bytes; empty without a mask."""
    return np.zeros(0, np.uint8) if mask is None else np.packbits(mask)


def _unpack_bits(bits: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    return np.unpackbits(bits, count=math.prod(shape)).reshape(shape).astype(bool)


def _damaged_file_error(path: Path, subject: str) -> MgmtError:
    return MgmtError(
        f"{path}: the slices of {subject} are not what was written. Delete the file and run "
        "`mgmt-ray prepare STUDY` again; check the disk."
    )
