"""The index of a slice store: which subjects' slices belong together, and what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mgmt_ray.base import MgmtError, fingerprint
from mgmt_ray.preprocess.slice_geometry import Frame
from mgmt_ray.preprocess.volume_index import FileState

FORMAT = 2


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
    image: FileState
    mask: FileState | None

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
            image=FileState(**value["image"]),
            mask=FileState(**value["mask"]) if value["mask"] else None,
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
