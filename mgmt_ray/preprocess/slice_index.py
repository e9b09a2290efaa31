"""The index of a slice store: its subjects, and the files and recipe their slices come from."""

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
    """The description of one subject's slices.

    Attributes:
        key: fingerprint of scan, mask and recipe; equal keys mean equal slices.
        checksum: SHA-256 of the voxels and of their position in the scan.
        depths: depth of each slice in the scan.
        annotated: whether the subject had a given mask.
        image: state of the scan that was read.
        mask: state of the mask that was read; None without a mask.
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
        """Read back the result of ``asdict``; KeyError or TypeError for other content."""
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
    """The index of one modality's slices.

    Attributes:
        rows: one per subject, sorted by id.
        recipe: the slice recipe; whether slices are up to date is decided by the rows' keys.
        target: fingerprint of all subjects and keys.
    """

    modality: str
    rows: tuple[SliceRow, ...]
    recipe: Mapping[str, Any]
    target: str

    @property
    def checksum(self) -> str:
        """Fingerprint of all voxels and subjects; independent of time and folder."""
        return fingerprint([self.modality, [[row.id, row.checksum] for row in self.rows]])

    def to_json(self) -> dict[str, Any]:
        """Return the content of the index file; :meth:`from_json` reads it back."""
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
        """Read back :meth:`to_json`'s result; KeyError or TypeError for other content."""
        rows = tuple(SliceRow.from_json(row) for row in value["subjects"])
        return cls(value["modality"], rows, value["recipe"], value["target"])


def slice_path(folder: Path, modality: str, subject: str, key: str) -> Path:
    """Return the path of one subject's slices."""
    return folder / modality / f"{subject}-{key[:12]}.npz"


def slice_index_path(folder: Path, modality: str) -> Path:
    """Return the path of the index of a modality's finished slices."""
    return folder / f"{modality}.json"


def read_slice_index(folder: Path, modality: str) -> SliceIndex | None:
    """Read the index in place; None if there is none of the present format.

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
