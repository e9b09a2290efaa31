"""Copies of a modality's volumes in which something was put, under the same names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float16

from mgmt_ray.base import MgmtError, fingerprint, write_aside, write_json
from mgmt_ray.preprocess.volume_index import (
    DTYPE,
    array_header,
    array_path,
    index_path,
    read_index,
    row_checksum,
)

Change = Callable[[str, Float16[np.ndarray, "version depth height width"]], np.ndarray]
"""From a subject's id and volumes to its volumes in the copy."""

SLAB = 2
"""Voxels that one slab of the planted pattern is thick; so thin a pattern is nowhere in anatomy,
and thick enough to pass a stem of stride 2."""

DARK = 0.25
"""What the voxels of every other slab are multiplied with.

A contrast of 4 to 1: a tumour's own texture is a tenth of its mean, so that a pipeline which
learns at all cannot miss it. The audit asks whether it learns, not how little it needs.
"""


def write_changed_copy(source: Path, modality: str, target: Path, change: Change) -> None:
    """Copy a modality's volumes, each changed; nothing is done if the copy is there.

    Args:
        source: folder of the store.
        modality: the one that is copied.
        target: folder of the copy, a store of its own.
        change: deterministic; float16 in [0, 1].

    Raises:
        MgmtError: there are no volumes, or the disk is full.
    """
    index = read_index(source, modality)
    if index is None:
        raise MgmtError(f"{source}: no volumes of {modality}. Run `mgmt-ray prepare STUDY` first.")
    if index_path(target, modality).exists():
        return  # it comes last
    volumes = np.load(array_path(source, modality), mmap_mode="r")
    checksums = []

    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            file.write(array_header(index.shape))
            for row in index.rows:
                changed = np.ascontiguousarray(change(row.id, volumes[row.position]), DTYPE)
                checksums.append(row_checksum(changed))
                file.write(changed.data)

    write_aside(array_path(target, modality), write)
    rows = tuple(
        replace(row, position=position, checksum=checksum)
        for position, (row, checksum) in enumerate(zip(index.rows, checksums, strict=True))
    )
    copied = replace(index, rows=rows, target=fingerprint([index.target, checksums]))
    write_json(index_path(target, modality), copied.to_json())


def with_slabs(
    volumes: Float16[np.ndarray, "version depth height width"],
) -> Float16[np.ndarray, "version depth height width"]:
    """Tumours cut into axial slabs, every other one darkened; the background stays 0.

    Neither the flip nor a turn in the axial plane changes such a pattern, so it is in every version
    alike.
    """
    dark = np.arange(volumes.shape[1]) // SLAB % 2 == 1
    factor = np.where(dark, np.float16(DARK), np.float16(1))[None, :, None, None]
    return (volumes * factor).astype(DTYPE)


def noise_like(
    volumes: Float16[np.ndarray, "version depth height width"], random: np.random.Generator
) -> Float16[np.ndarray, "version depth height width"]:
    """Evenly distributed noise in (0, 1], with no tumour and no background."""
    return (1 - random.random(volumes.shape, dtype=np.float32)).astype(DTYPE)
