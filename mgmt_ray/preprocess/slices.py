"""One subject's axial slices: through the tumour, or through all of the brain (Chen et al. 2020).

Unlike the volumes of the 3-D recipe, slices keep the whole brain, since a network has to find the
tumour in them. They keep the scan's own intensities: what is learnt from training subjects, like a
standard histogram, cannot be stored for all folds. Depth is not shrunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped, UInt8

from mgmt_ray.cohort.check import check_grid
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.problem import LOOK_AT_IT, BadScan
from mgmt_ray.cohort.scan import read_scan
from mgmt_ray.preprocess.slice_recipe import SliceRecipe
from mgmt_ray.preprocess.spatial import bounding_box, resample

Spacing: TypeAlias = tuple[float, ...]
"""Millimetres between voxels along depth, height and width."""


@dataclass(frozen=True, slots=True)
class SliceSource:
    """The files that a subject's slices of one modality come from; the mask may be missing."""

    id: str
    image: Path
    mask: Path | None


@dataclass(frozen=True, slots=True)
class Frame:
    """Where slices lie in their scan.

    Attributes:
        scan_shape: depth, height, width of the mask's grid (the scan's, where there is no mask).
        top: row of the scan where the slices begin; negative where they are padded.
        left: the same for columns.
        shrink: voxels of the scan along each edge of a slice's voxel.
        spacing_mm: between slices, and between a slice's voxels along height and width.
    """

    scan_shape: tuple[int, int, int]
    top: int
    left: int
    shrink: int
    spacing_mm: Spacing


@dataclass(frozen=True, slots=True, eq=False)
class SubjectSlices:
    """Slices of one subject and modality, from inferior to superior.

    Attributes:
        id: the subject's.
        images: the scan's own intensities; exactly 0 where it has no value (background, padding).
        masks: 1 tumour, 0 all else; all 0 if not annotated.
        depths: of each slice in the scan.
        frame: where they lie in the scan.
        annotated: whether there was a mask.
    """

    id: str
    images: Float32[np.ndarray, "slice height width"]
    masks: UInt8[np.ndarray, "slice height width"]
    depths: Int64[np.ndarray, " slice"]
    frame: Frame
    annotated: bool


def slice_sources(cohort: Cohort, modality: str, *, masks: bool = True) -> tuple[SliceSource, ...]:
    """The cohort's scans of a modality; without masks as if no one had annotated them."""
    subjects = (subject for subject in cohort.subjects if modality in subject.scans)
    return tuple(SliceSource(s.id, s.scans[modality], s.mask if masks else None) for s in subjects)


def make_slices(source: SliceSource, recipe: SliceRecipe) -> SubjectSlices:
    """Read a subject's files and cut its slices (see :func:`cut_slices`).

    Raises:
        BadScan: also for files that are damaged or on different grids.
    """
    scan = read_scan(source.image)
    image, grid, mask = scan.voxels, scan.grid, None
    if source.mask is not None:
        outline = read_scan(source.mask)
        mask, grid = outline.voxels > 0, outline.grid
        if recipe.resample:
            depth, height, width = mask.shape
            image = resample(scan, grid, ((0, depth), (0, height), (0, width)))
        else:
            check_grid(scan, outline, source.image, source.mask)
    return cut_slices(source, image, mask, grid.spacing_mm, recipe)


def cut_slices(
    source: SliceSource,
    image: Shaped[np.ndarray, "depth height width"],
    mask: Bool[np.ndarray, "depth height width"] | None,
    spacing_mm: Spacing,
    recipe: SliceRecipe,
) -> SubjectSlices:
    """Choose, crop, shrink and pad the slices of a scan.

    All slices of a scan are cut alike, around the box of all its valued (non-zero) voxels. A voxel
    of a slice is the mean over the valued voxels of its block, so that the brain's rim is not
    darkened, and tumour if at least half of its block is: unlike the 3-D recipe's masks these are
    learnt as outlines, so they must not grow by every block that is touched.

    Args:
        source: whose they are, for messages.
        image: intensities, 0 outside the head or brain.
        mask: the tumour; None if not annotated.
        spacing_mm: of the scan.
        recipe: how.

    Raises:
        BadScan: the scan is empty, the slices would cut the tumour, or none has enough of what is
            chosen.
    """
    frame = _centre(source, image, spacing_mm, recipe)
    coarse = None
    if mask is not None:
        window = _window(mask, frame, recipe.shape)
        _check_outline(source, mask, window, recipe)
        coarse = 2 * _sum_blocks(window, recipe.shrink) >= recipe.shrink**2
    depths = _choose(source, image, coarse, frame, recipe)
    window = _window(image[depths], frame, recipe.shape)
    valued = _sum_blocks(window != 0, recipe.shrink)
    # float64: the sum must not depend on the order in which NumPy adds a block's voxels
    images = (_sum_blocks(window, recipe.shrink) / np.maximum(valued, 1)).astype(np.float32)
    masks = np.zeros(images.shape, np.uint8) if coarse is None else coarse[depths].astype(np.uint8)
    return SubjectSlices(source.id, images, masks, depths, frame, coarse is not None)


def onto_scan(
    values: Shaped[np.ndarray, "slice height width"],
    depths: Int64[np.ndarray, " slice"],
    frame: Frame,
) -> Shaped[np.ndarray, "depth rows columns"]:
    """Put slices (a predicted mask, say) back where they were cut from.

    Args:
        values: one per voxel of the slices.
        depths: of each slice in the scan.
        frame: where the slices lie.

    Returns:
        A volume on the scan's grid: a slice's voxel fills its block, all else is 0.
    """
    volume = np.zeros(frame.scan_shape, values.dtype)
    fine = values.repeat(frame.shrink, axis=1).repeat(frame.shrink, axis=2)
    rows, in_rows = _overlap(frame.top, fine.shape[1], volume.shape[1])
    columns, in_columns = _overlap(frame.left, fine.shape[2], volume.shape[2])
    volume[depths, rows, columns] = fine[:, in_rows, in_columns]
    return volume


def _centre(
    source: SliceSource, image: np.ndarray, spacing_mm: Spacing, recipe: SliceRecipe
) -> Frame:
    box = bounding_box(image != 0)
    if box is None:
        found = f"the scan of subject {source.id} is 0 everywhere"
        raise BadScan(source.image, "constant", found, LOOK_AT_IT)
    shrink = recipe.shrink
    top, left = (
        (low + high - size * shrink) // 2
        for (low, high), size in zip(box[1:], recipe.shape, strict=True)
    )
    depth, height, width = image.shape
    coarse_mm = (spacing_mm[0], spacing_mm[1] * shrink, spacing_mm[2] * shrink)
    return Frame((depth, height, width), top, left, shrink, coarse_mm)


def _window(volume: np.ndarray, frame: Frame, shape: tuple[int, int]) -> np.ndarray:
    """What the slices cover of each axial plane, before shrinking; 0 beyond the scan."""
    height, width = (size * frame.shrink for size in shape)
    window = np.zeros((len(volume), height, width), volume.dtype)
    rows, in_rows = _overlap(frame.top, height, volume.shape[1])
    columns, in_columns = _overlap(frame.left, width, volume.shape[2])
    window[:, in_rows, in_columns] = volume[:, rows, columns]
    return window


def _overlap(start: int, extent: int, size: int) -> tuple[slice, slice]:
    """The part of an axis of ``size`` within [start, start + extent), as seen from either."""
    low, high = max(start, 0), min(start + extent, size)
    return slice(low, high), slice(low - start, high - start)


def _sum_blocks(window: np.ndarray, shrink: int) -> np.ndarray:
    depth, height, width = window.shape
    blocks = window.reshape(depth, height // shrink, shrink, width // shrink, shrink)
    kind = np.int64 if window.dtype == bool else np.float64
    return blocks.sum(axis=(2, 4), dtype=kind)


def _check_outline(
    source: SliceSource, mask: np.ndarray, window: np.ndarray, recipe: SliceRecipe
) -> None:
    assert source.mask is not None
    total, kept = int(np.count_nonzero(mask)), int(np.count_nonzero(window))
    if not total:
        found = f"the mask of subject {source.id} marks no tumour"
        raise BadScan(source.mask, "empty_mask", found, LOOK_AT_IT)
    if kept < total:
        height, width = recipe.shape
        raise BadScan(
            source.mask,
            "clipped",
            f"{total - kept} of the {total} tumour voxels of subject {source.id} lie outside its "
            f"slices of {height}×{width} voxels of {recipe.shrink}×{recipe.shrink} each",
            "Enlarge recipe.shape or recipe.shrink, or leave the subject out with cohort.exclude",
        )


def _choose(
    source: SliceSource,
    image: np.ndarray,
    coarse: np.ndarray | None,
    frame: Frame,
    recipe: SliceRecipe,
) -> Int64[np.ndarray, " slice"]:
    if coarse is None or recipe.choose == "brain":
        what, least, most = "brain", recipe.least_brain_voxels, None
        window = _window(image != 0, frame, recipe.shape)
        area = np.count_nonzero(_sum_blocks(window, recipe.shrink), axis=(1, 2))
    else:
        what, least, most = "tumour", recipe.least_tumour_voxels, recipe.most_slices
        area = np.count_nonzero(coarse, axis=(1, 2))
    enough = np.flatnonzero(area >= least)
    if not enough.size:
        raise BadScan(
            source.image,
            "constant" if what == "brain" else "empty_mask",
            f"no slice of subject {source.id} has {least} voxels of {what} (the largest has "
            f"{area.max()})",
            f"Lower recipe.least_{what}_voxels, or leave the subject out with cohort.exclude",
        )
    if most is not None and most < len(enough):
        enough = enough[((np.arange(most) + 0.5) * len(enough) / most).astype(np.int64)]
    return enough
