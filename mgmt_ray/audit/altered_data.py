"""Copies of a modality's volumes in which something was put, under the same names."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float16

from mgmt_ray.audit.audited_study import AuditContext
from mgmt_ray.base import MgmtError, fingerprint, write_atomically, write_json
from mgmt_ray.preprocess.axial_slices import SubjectSlices
from mgmt_ray.preprocess.slice_index import read_slice_index, slice_index_path, slice_path
from mgmt_ray.preprocess.slice_store import SliceStore, slices_checksum, write_slices
from mgmt_ray.preprocess.volume_index import (
    DTYPE,
    array_header,
    array_path,
    index_path,
    read_index,
    row_checksum,
)
from mgmt_ray.study.folder import StudyFolder

VolumeChange = Callable[[str, Float16[np.ndarray, "version depth height width"]], np.ndarray]
"""From a subject's id and volumes to its volumes in the copy."""

SLAB = 2
"""Voxels that one slab of the planted pattern is thick; so thin a pattern is nowhere in anatomy,
and thick enough to pass a stem of stride 2."""

DARK = 0.25
"""What the voxels of every other slab are multiplied with.

A contrast of 4 to 1: a tumour's own texture is a tenth of its mean, so that a pipeline which
learns at all cannot miss it. The audit asks whether it learns, not how little it needs.
"""


def write_changed_volumes(source: Path, modality: str, target: Path, change: VolumeChange) -> None:
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

    write_atomically(array_path(target, modality), write)
    rows = tuple(
        replace(row, position=position, checksum=checksum)
        for position, (row, checksum) in enumerate(zip(index.rows, checksums, strict=True))
    )
    copied = replace(index, rows=rows, target=fingerprint([index.target, checksums]))
    write_json(index_path(target, modality), copied.to_json())


def darken_slabs(
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


def darken_tumour(slices: SubjectSlices) -> SubjectSlices:
    """The whole tumour at a quarter of its intensity.

    Slabs as in volumes would not do: each slice is seen by itself, and turned.
    """
    factor = np.where(slices.masks > 0, np.float32(DARK), np.float32(1))
    return replace(slices, images=slices.images * factor)


def noise_and_mirrored(slices: SubjectSlices, random: np.random.Generator) -> SubjectSlices:
    """Evenly distributed noise wherever the scan has a value, and the tumour on the other side."""
    noise = 1 - random.random(slices.images.shape, dtype=np.float32)
    scan_mask = None if slices.scan_mask is None else slices.scan_mask[..., ::-1].copy()
    return replace(
        slices,
        images=np.where(slices.images != 0, noise, np.float32(0)),
        masks=slices.masks[..., ::-1].copy(),
        scan_mask=scan_mask,
    )


def share_store(audit: AuditContext, name: str) -> None:
    """Let a sub-study read the audited study's own volumes, or slices, without a copy."""
    folder = StudyFolder(audit.work_folder / name)
    folder.root.mkdir(parents=True, exist_ok=True)
    below = folder.slices if audit.trains_on_slices else folder.volumes
    above = Path(os.path.relpath(audit.context.folder.root / below.name, folder.root))
    with suppress(FileExistsError):
        below.symlink_to(above, target_is_directory=True)


def plant_signal(
    audit: AuditContext, name: str, modality: str, methylated: Collection[str]
) -> None:
    """A sub-study's copy of a modality, with a pattern in the tumours of those who have it."""
    folder, own = StudyFolder(audit.work_folder / name), audit.context.folder
    if audit.trains_on_slices:

        def darken(slices: SubjectSlices) -> SubjectSlices:
            return darken_tumour(slices) if slices.id in methylated else slices

        write_changed_slices(own.slices, modality, folder.slices, darken)
        return

    def plant(subject: str, volumes: np.ndarray) -> np.ndarray:
        return darken_slabs(volumes) if subject in methylated else volumes

    write_changed_volumes(own.volumes, modality, folder.volumes, plant)


def replace_by_noise(
    audit: AuditContext, name: str, modality: str, tested: Collection[str]
) -> None:
    """A sub-study's copy of a modality, with noise in place of the test subjects' scans."""
    folder, own = StudyFolder(audit.work_folder / name), audit.context.folder
    if audit.trains_on_slices:

        def exchange(slices: SubjectSlices) -> SubjectSlices:
            if slices.id not in tested:
                return slices
            return noise_and_mirrored(slices, audit.random_stream("noise", slices.id))

        write_changed_slices(own.slices, modality, folder.slices, exchange)
        return

    def drown(subject: str, volumes: np.ndarray) -> np.ndarray:
        if subject not in tested:
            return volumes
        return noise_like(volumes, audit.random_stream("noise", subject))

    write_changed_volumes(own.volumes, modality, folder.volumes, drown)
