"""Altered copies of prepared volumes or slices: with a planted pattern, or replaced by noise."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float16

from mgmt_ray.audit.audited_study import AuditContext
from mgmt_ray.preprocess.artefact_store import (
    Artefact,
    ArtefactPart,
    index_path,
    write_artefact,
    write_index,
)
from mgmt_ray.preprocess.axial_slices import SubjectSlices
from mgmt_ray.preprocess.slice_store import SliceStore, slice_artefact
from mgmt_ray.preprocess.volume_store import DTYPE, VolumeStore, volume_artefact
from mgmt_ray.study.study_config import PipelineName

Volumes: TypeAlias = Float16[np.ndarray, "version depth height width"]
"""All versions of a subject's volume, in [0, 1], background 0."""

VolumeChange = Callable[[str, Volumes], np.ndarray]
"""Returns a subject's volumes in the copy, from its id and volumes."""

SliceChange = Callable[[SubjectSlices], SubjectSlices]
"""Returns a subject's slices in the copy."""

Change = Callable[[str, Any], Any]
"""Returns a subject's volumes or slices in the copy, from its id and its own."""

SLAB_VOXELS = 2
"""Thickness of the planted slabs: thinner than any anatomy, and thick enough for a stem of
stride 2."""

Strength: TypeAlias = Literal["easy", "medium", "hard"]

DARK_FACTORS: dict[Strength, float] = {"easy": 0.25, "medium": 0.6, "hard": 0.85}
"""Factors of the darkened voxels, by how hard the pattern is to find.

The contrast of 4 to 1 cannot be missed by a pipeline that learns at all, since a tumour's own
texture is a tenth of its mean; 20 to 17 is little more than that texture.
"""


def write_changed_volumes(source: Path, modality: str, target: Path, change: VolumeChange) -> None:
    """Write a changed copy of a modality's volumes, unless it exists.

    Args:
        change: must be deterministic, and return float16 in [0, 1].

    Raises:
        MgmtError: there are no volumes, or the disk is full.
    """

    def change_artefact(subject: str, artefact: Artefact) -> Artefact:
        volumes = change(subject, np.stack([*artefact.arrays.values()]))
        return volume_artefact(volumes.astype(DTYPE), artefact.description)

    _write_changed_part(source, modality, target, change_artefact)


def _write_changed_part(
    source: Path, modality: str, target: Path, change: Callable[[str, Artefact], Artefact]
) -> None:
    """Write a changed copy of a part of a store, unless it exists."""
    if index_path(target, modality).exists():
        return  # the index is written last
    part = ArtefactPart(source, modality)
    entries = {}
    for subject, entry in part.subjects.items():
        changed = change(subject, part.load(subject))
        write_artefact(target / modality / entry["file"], changed)
        entries[subject] = {**changed.description, "file": entry["file"]}
    about = {name: value for name, value in part.index.items() if name != "subjects"}
    write_index(target, modality, about, entries)


def darken_slabs(volumes: Volumes, factor: float = DARK_FACTORS["easy"]) -> Volumes:
    """Darken every other axial slab of a tumour.

    Neither the flip nor a rotation in the axial plane changes this pattern, so that all augmented
    versions have it.

    Examples:
        >>> darken_slabs(np.ones((1, 4, 1, 1), np.float16)).ravel()
        array([1.  , 1.  , 0.25, 0.25], dtype=float16)
    """
    is_dark = np.arange(volumes.shape[1]) // SLAB_VOXELS % 2 == 1
    factors = np.where(is_dark, np.float16(factor), np.float16(1))[None, :, None, None]
    return (volumes * factors).astype(DTYPE)


def noise_like(volumes: Volumes, random: np.random.Generator) -> Volumes:
    """Return uniform noise in (0, 1] of the same shape, without tumour or background."""
    return (1 - random.random(volumes.shape, dtype=np.float32)).astype(DTYPE)


def write_changed_slices(source: Path, modality: str, target: Path, change: SliceChange) -> None:
    """Write a changed copy of a modality's slices, unless it exists.

    Raises:
        MgmtError: there are no slices, or the disk is full.
    """
    store = SliceStore(source, modality)

    def change_artefact(subject: str, _: Artefact) -> Artefact:
        (slices,) = store.load((subject,))
        return slice_artefact(change(slices))

    _write_changed_part(source, modality, target, change_artefact)


def darken_tumour(slices: SubjectSlices, factor: float) -> SubjectSlices:
    """Multiply a tumour's intensities with a factor.

    Slabs as in volumes would not work: a network sees single slices, and rotated ones.
    """
    factors = np.where(slices.masks > 0, np.float32(factor), np.float32(1))
    return replace(slices, images=slices.images * factors)


def noise_and_mirrored(slices: SubjectSlices, random: np.random.Generator) -> SubjectSlices:
    """Replace non-zero intensities by uniform noise, and mirror the tumour masks."""
    noise = 1 - random.random(slices.images.shape, dtype=np.float32)
    scan_mask = None if slices.scan_mask is None else slices.scan_mask[..., ::-1].copy()
    return replace(
        slices,
        images=np.where(slices.images != 0, noise, np.float32(0)),
        masks=slices.masks[..., ::-1].copy(),
        scan_mask=scan_mask,
    )


WRITE_CHANGED: dict[PipelineName, Callable[[Path, str, Path, Change], None]] = {
    "volumes": write_changed_volumes,
    "slices": lambda source, modality, target, change: write_changed_slices(
        source, modality, target, lambda slices: change(slices.id, slices)
    ),
}
PLANT: dict[PipelineName, Callable[[Any, float], Any]] = {
    "volumes": darken_slabs,
    "slices": darken_tumour,
}
NOISE: dict[PipelineName, Callable[[Any, np.random.Generator], Any]] = {
    "volumes": noise_like,
    "slices": noise_and_mirrored,
}


def share_store(audit: AuditContext, name: str) -> None:
    """Link the audited study's volumes or slices into the folder of a sub-study."""
    folder = audit.work_folder / name
    folder.mkdir(parents=True, exist_ok=True)
    target = Path(os.path.relpath(audit.store, folder))
    with suppress(FileExistsError):
        (folder / audit.pipeline).symlink_to(target, target_is_directory=True)


def plant_signal(
    audit: AuditContext,
    name: str,
    modality: str,
    methylated: Collection[str],
    strength: Strength = "easy",
) -> None:
    """Write a sub-study's copy of a modality with a pattern in the methylated subjects' tumours."""
    plant, factor = PLANT[audit.pipeline], DARK_FACTORS[strength]
    _alter(audit, name, modality, methylated, lambda _, own: plant(own, factor))


def masked_scan(audit: AuditContext, name: str, modality: str, subject: str) -> np.ndarray:
    """Return a subject's volume or slices in a sub-study's copy of a modality.

    Returns:
        Intensities [depth, height, width]; 0 outside the tumour.
    """
    folder = audit.work_folder / name / audit.pipeline
    if audit.pipeline == "volumes":
        store = VolumeStore(folder, modality)
        volume: np.ndarray = store.load((subject,), store.versions[:1])[0, 0]
        return volume
    (slices,) = SliceStore(folder, modality).load((subject,))
    return np.where(slices.masks > 0, slices.images, np.float32(0))


def replace_by_noise(
    audit: AuditContext, name: str, modality: str, test_subjects: Collection[str]
) -> None:
    """Write a sub-study's copy of a modality with noise in place of the test subjects' scans."""
    noise = NOISE[audit.pipeline]

    def replace_scan(subject: str, own: Any) -> Any:
        return noise(own, audit.random_stream("noise", subject))

    _alter(audit, name, modality, test_subjects, replace_scan)


def _alter(
    audit: AuditContext, name: str, modality: str, subjects: Collection[str], change: Change
) -> None:
    """Write a sub-study's copy of a modality in which some subjects are changed."""

    def change_some(subject: str, own: Any) -> Any:
        return change(subject, own) if subject in subjects else own

    target = audit.work_folder / name / audit.pipeline
    WRITE_CHANGED[audit.pipeline](audit.store, modality, target, change_some)
