"""Copies of a modality's slices in which something was put, under the same names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mgmt_ray.audit.changed_volumes import DARK
from mgmt_ray.base import MgmtError, fingerprint, write_json
from mgmt_ray.preprocess.axial_slices import SubjectSlices
from mgmt_ray.preprocess.slice_index import read_slice_index, slice_index_path, slice_path
from mgmt_ray.preprocess.slice_store import SliceStore, slices_checksum, write_slices

SliceChange = Callable[[SubjectSlices], SubjectSlices]
"""From a subject's slices to its slices in the copy."""


def write_changed_slices(source: Path, modality: str, target: Path, change: SliceChange) -> None:
    """Copy a modality's slices, each subject's changed; nothing is done if the copy is there.

    Args:
        source: folder of the store.
        modality: the one that is copied.
        target: folder of the copy, a store of its own.
        change: deterministic.

    Raises:
        MgmtError: there are no slices, or the disk is full.
    """
    index = read_slice_index(source, modality)
    if index is None:
        raise MgmtError(f"{source}: no slices of {modality}. Run `mgmt-ray prepare STUDY` first.")
    if slice_index_path(target, modality).exists():
        return  # it comes last
    (target / modality).mkdir(parents=True, exist_ok=True)
    store, rows = SliceStore(source, modality), []
    for row in index.rows:
        (slices,) = store.load((row.id,))
        changed = change(slices)
        rows.append(replace(row, checksum=slices_checksum(changed)))
        write_slices(slice_path(target, modality, row.id, row.key), changed, rows[-1])
    checksums = [row.checksum for row in rows]
    copied = replace(index, rows=tuple(rows), target=fingerprint([index.target, checksums]))
    write_json(slice_index_path(target, modality), copied.to_json())


def darkened(slices: SubjectSlices) -> SubjectSlices:
    """The whole tumour at a quarter of its intensity.

    Slabs as in volumes would not do: each slice is seen by itself, and turned.
    """
    factor = np.where(slices.masks > 0, np.float32(DARK), np.float32(1))
    return replace(slices, images=slices.images * factor)


def noise_and_mirrored(slices: SubjectSlices, random: np.random.Generator) -> SubjectSlices:
    """Evenly distributed noise wherever the scan has a value, and the tumour on the other side."""
    noise = 1 - random.random(slices.images.shape, dtype=np.float32)
    outline = None if slices.outline is None else slices.outline[..., ::-1].copy()
    return replace(
        slices,
        images=np.where(slices.images != 0, noise, np.float32(0)),
        masks=slices.masks[..., ::-1].copy(),
        outline=outline,
    )
