"""Reading the volume store: per modality one memory-mapped array and its index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float16

from mgmt_ray.base import MgmtError
from mgmt_ray.preprocess.volume_index import (
    DTYPE,
    Index,
    array_path,
    num_bytes,
    read_index,
    row_checksum,
)


class VolumeStore:
    """The finished volumes of one modality, open for reading.

    Raises:
        MgmtError: the modality has no finished volumes, or the array does not fit its index.
    """

    def __init__(self, folder: Path, modality: str) -> None:
        self.path = array_path(folder, modality)
        index = read_index(folder, modality)
        while True:
            if index is None:
                raise MgmtError(f"{self.path}: no volumes yet. Run `mgmt-ray prepare STUDY` first.")
            self._array = _map(self.path, index)
            latest = read_index(folder, modality)
            if latest == index:
                break
            index = latest  # a preparation replaced the array between the two readings
        self.modality = modality
        self._index = index
        self._rows = {row.id: row for row in index.rows}
        self.ids = tuple(row.id for row in index.rows)
        self.versions = index.versions
        self.volume_shape = index.volume_shape
        self.checksum = index.checksum

    def load(
        self, subject_ids: Sequence[str], versions: Sequence[str]
    ) -> Float16[np.ndarray, "subject version depth height width"]:
        """Read volumes into memory, in the given order, and compare their checksums.

        Raises:
            MgmtError: a subject or version is not in the store, or a volume was changed.
        """
        self._check_present("subject", subject_ids, self.ids)
        self._check_present("version", versions, self.versions)
        columns = [self.versions.index(version) for version in versions]
        volumes = np.empty((len(subject_ids), len(columns), *self.volume_shape), DTYPE)
        for target, subject_id in zip(volumes, subject_ids, strict=True):
            row = self._rows[subject_id]
            if row_checksum(self._array[row.position]) != row.checksum:
                raise self._damaged_error([subject_id])
            target[:] = self._array[row.position][columns]
        return volumes

    def parameters(self, subject_id: str, version: str) -> Mapping[str, float | int]:
        """Return a volume's random draws and voxel counts, for instance ``angle_degrees``."""
        self._check_present("subject", [subject_id], self.ids)
        self._check_present("version", [version], self.versions)
        return self._rows[subject_id].parameters[self.versions.index(version)]

    def verify(self) -> None:
        """Read all volumes and compare them with the checksums of the index.

        Raises:
            MgmtError: volumes were changed; the message names their subjects.
        """
        changed = [
            row.id
            for row in self._index.rows
            if row_checksum(self._array[row.position]) != row.checksum
        ]
        if changed:
            raise self._damaged_error(changed)

    def _damaged_error(self, subject_ids: Sequence[str]) -> MgmtError:
        return MgmtError(
            f"{self.path}: the volumes of {', '.join(subject_ids)} are not what was written. "
            "Delete the file and run `mgmt-ray prepare STUDY` again; check the disk."
        )

    def _check_present(self, kind: str, wanted: Sequence[str], present: Sequence[str]) -> None:
        missing = [name for name in wanted if name not in set(present)]
        if missing:
            shown = ", ".join(present[:6]) + (", ..." if len(present) > 6 else "")
            raise MgmtError(
                f"{self.path}: no {kind} {', '.join(missing)} among its {len(present)} ({shown}). "
                "Run `mgmt-ray prepare STUDY` for the cohort and recipe that you have now."
            )


def _map(path: Path, index: Index) -> np.ndarray:
    size, wanted = path.stat().st_size if path.exists() else 0, num_bytes(index.shape)
    array = np.load(path, mmap_mode="r") if size == wanted else None
    if array is None or array.shape != index.shape or array.dtype != DTYPE:
        raise MgmtError(
            f"{path}: {size} bytes, but its index says {wanted}, so it was cut or replaced. "
            "Run `mgmt-ray prepare STUDY` again."
        )
    return array
