"""The slice store: a subject's slices of one input are an artefact.

An input is a modality, or several at the same positions. The arrays are the images (float32)
[slice, height, width], with an axis of several modalities after the first, the masks (uint8), which
slices are ``of_brain``, and the given mask on the scan's own grid (``outline``, bits; empty without
a mask).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mgmt_ray.base import fingerprint, parse
from mgmt_ray.preprocess.artefact_store import (
    Artefact,
    ArtefactPart,
    Wanted,
    subject_file_state,
)
from mgmt_ray.preprocess.axial_slices import SliceSource, SubjectSlices, make_slices
from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.slice_geometry import Frame
from mgmt_ray.preprocess.volume_store import check_any_scan


@dataclass(frozen=True, slots=True)
class SliceRow:
    """The description of one subject's slices.

    Attributes:
        checksum: SHA-256 of the voxels and of their position in the scan.
        depths: depth of each slice in the scan.
        annotated: whether the subject had a given mask.
    """

    checksum: str
    depths: tuple[int, ...]
    frame: Frame
    annotated: bool

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SliceRow:
        """Read back the result of ``asdict``."""
        frame: dict[str, Any] = {
            name: tuple(entry) if isinstance(entry, list) else entry
            for name, entry in value["frame"].items()
        }
        return cls(value["checksum"], tuple(value["depths"]), Frame(**frame), value["annotated"])


class SliceStore:
    """The finished slices of one input, open for reading.

    Attributes:
        rows: description of each subject's slices.
        ids: of the subjects, sorted.
        recipe: that the slices were cut by, and that selects those through the tumour.

    Raises:
        MgmtError: the modality has no finished slices.
    """

    def __init__(self, folder: Path, modality: str) -> None:
        self._part = ArtefactPart(folder, modality)
        self.modality = modality
        self.rows = {name: SliceRow.from_json(row) for name, row in self._part.subjects.items()}
        self.ids = tuple(self.rows)
        self.recipe = parse(SliceRecipe, self._part.index["recipe"], str(self._part.path))

    @property
    def checksum(self) -> str:
        """Fingerprint of all voxels and subjects; independent of time and folder."""
        return fingerprint([self.modality, [[name, r.checksum] for name, r in self.rows.items()]])

    def load(self, subject_ids: Sequence[str]) -> tuple[SubjectSlices, ...]:
        """Read subjects' slices into memory, in the given order, and compare their checksums.

        Raises:
            MgmtError: a subject is not in the store, or its file is missing or was changed.
        """
        self._part.check_present(subject_ids)
        return tuple(self._read(subject) for subject in subject_ids)

    def _read(self, subject: str) -> SubjectSlices:
        row, arrays = self.rows[subject], self._part.load(subject).arrays
        scan_mask = None
        if row.annotated:
            shape = row.frame.scan_shape
            bits = np.unpackbits(arrays["outline"], count=math.prod(shape))
            scan_mask = bits.reshape(shape).astype(bool)
        depths = np.array(row.depths, np.int64)
        images, masks, of_brain = (arrays[name] for name in ("images", "masks", "of_brain"))
        return SubjectSlices(subject, images, masks, depths, row.frame, scan_mask, of_brain)


def wanted_slices(
    modality: str, sources: Sequence[SliceSource], recipe: SliceRecipe
) -> list[Wanted[SliceSource]]:
    """List the artefacts of an input that a slice store has to hold, without reading a scan.

    Args:
        modality: name of the input.

    Raises:
        MgmtError: no subject has the modality, or a file of the cohort is missing.
    """
    check_any_scan(sources, modality)
    wanted = []
    for source in sources:
        files = [asdict(subject_file_state(source.id, modality, scan)) for scan in source.scans]
        if source.mask is not None:
            files.append(asdict(subject_file_state(source.id, "mask", source.mask)))
        conventions = asdict(source.conventions)
        key = fingerprint([recipe.model_dump(mode="json"), files, conventions])
        wanted.append(Wanted(modality, source.id, key, source))
    return wanted


def make_slice_artefacts(
    task: Sequence[Wanted[SliceSource]], recipe: SliceRecipe
) -> list[Artefact]:
    """Cut the slices of scans; raises as :func:`make_slices`."""
    return [slice_artefact(make_slices(item.source, recipe)) for item in task]


def slice_artefact(slices: SubjectSlices) -> Artefact:
    """Return the artefact of a subject's slices."""
    mask = slices.scan_mask
    arrays = {
        "images": slices.images,
        "masks": slices.masks,
        "outline": np.zeros(0, np.uint8) if mask is None else np.packbits(mask),
        "of_brain": slices.of_brain,
    }
    depths = tuple(slices.depths.tolist())
    row = SliceRow(_checksum(slices, arrays), depths, slices.frame, slices.annotated)
    return Artefact(arrays, asdict(row))


def _checksum(slices: SubjectSlices, arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 (hexadecimal) of a subject's id, slices and masks."""
    position = [slices.id, slices.depths.tolist(), asdict(slices.frame), slices.annotated]
    types = [[str(array.dtype), array.shape] for array in arrays.values()]
    digest = hashlib.sha256(json.dumps([position, types]).encode())
    for array in arrays.values():
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
