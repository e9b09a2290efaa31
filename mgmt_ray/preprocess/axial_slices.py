"""One subject's axial slices through all of the brain (Chen et al. 2020).

Unlike the volumes of the 3-D recipe, slices keep the whole brain, since a network has to find the
tumour in them. They keep the scan's own intensities: what is learnt from training subjects, like a
standard histogram, cannot be stored for all folds. Depth is not shrunk. A mask decides nothing but
that slices with tumour are there however small their brain is, and these do not count when
intensities are normalised, so scans with and without a mask look alike. ``slice_choice`` chooses
the slices through the tumour.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped, UInt8

from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.problem import VIEW_SCAN, BadScan, ProblemKind
from mgmt_ray.cohort.scan import Scan, read_scan
from mgmt_ray.cohort.scan_checks import check_grid
from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.slice_geometry import Frame, Spacing, sum_blocks, window_of
from mgmt_ray.preprocess.spatial import bounding_box, resample

MAX_BRAIN_OUTSIDE = 0.01
"""Share of a scan's valued voxels that may lie outside its slices where no mask says that these
hold the tumour."""


@dataclass(frozen=True, slots=True)
class SliceSource:
    """The files that a subject's slices of one modality come from; the mask may be missing."""

    id: str
    image: Path
    mask: Path | None


@dataclass(frozen=True, slots=True, eq=False)
class SubjectSlices:
    """Slices of one subject and modality, from inferior to superior.

    Attributes:
        id: the subject's.
        images: the scan's own intensities; exactly 0 where it has no value (background, padding).
        masks: 1 tumour, 0 all else; all 0 if not annotated.
        depths: of each slice in the scan.
        frame: where they lie in the scan.
        scan_mask: the given tumour on the scan's own grid; None if not annotated.
        of_brain: which slices hold enough brain. Intensities are normalised by these alone: the
            others are there because a mask says so, and a scan without one has not got them.
    """

    id: str
    images: Float32[np.ndarray, "slice height width"]
    masks: UInt8[np.ndarray, "slice height width"]
    depths: Int64[np.ndarray, " slice"]
    frame: Frame
    scan_mask: Bool[np.ndarray, "depth rows columns"] | None
    of_brain: Bool[np.ndarray, " slice"]

    @property
    def annotated(self) -> bool:
        """Whether there was a mask."""
        return self.scan_mask is not None


def slice_sources(cohort: Cohort, modality: str, *, masks: bool = True) -> tuple[SliceSource, ...]:
    """The cohort's scans of a modality; without masks as if no one had annotated them.

    A predicted mask is none: what finds a tumour is not judged by what another network found.
    """
    return tuple(
        SliceSource(s.id, s.scans[modality], s.mask if masks and s.mask_kind == "given" else None)
        for s in cohort.subjects
        if modality in s.scans
    )


def make_slices(source: SliceSource, recipe: SliceRecipe) -> SubjectSlices:
    """Read a subject's files and cut its slices (see :func:`slices_of`).

    Raises:
        BadScan: also for files that are damaged.
    """
    scan = read_scan(source.image)
    return slices_of(source, scan, read_scan(source.mask) if source.mask else None, recipe)


def slices_of(
    source: SliceSource, scan: Scan, outline: Scan | None, recipe: SliceRecipe
) -> SubjectSlices:
    """Cut the slices of a subject's scan on the grid of its mask (see :func:`cut_slices`).

    Args:
        source: of the scan and the mask.
        scan: as read.
        outline: the mask as read; None if not annotated.
        recipe: how.

    Raises:
        BadScan: also for files on different grids.
    """
    image, grid, mask = scan.voxels, scan.grid, None
    if outline is not None:
        assert source.mask is not None
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
    """Crop, shrink and pad the slices of a scan that hold enough brain, or any tumour.

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
        BadScan: the scan is empty, the slices would cut the tumour or, where it is not known, the
            brain, or none has enough brain or, if annotated, enough tumour.
    """
    frame = _centre(source, image, spacing_mm, recipe)
    valued = sum_blocks(window_of(image != 0, frame, recipe.shape), recipe.shrink)
    coarse = None
    if mask is None:
        _check_brain(source, image, int(valued.sum()), recipe)
    else:
        window = window_of(mask, frame, recipe.shape)
        _check_mask(source, mask, window, recipe)
        coarse = 2 * sum_blocks(window, recipe.shrink) >= recipe.shrink**2
    of_brain = _has_brain(source, valued, recipe)
    depths = np.flatnonzero(of_brain | _has_tumour(source, coarse, len(image), recipe))
    window = window_of(image[depths], frame, recipe.shape)
    # float64: the sum must not depend on the order in which NumPy adds a block's voxels
    sums = sum_blocks(window, recipe.shrink)
    images = (sums / np.maximum(valued[depths], 1)).astype(np.float32)
    masks = np.zeros(images.shape, np.uint8) if coarse is None else coarse[depths].astype(np.uint8)
    return SubjectSlices(source.id, images, masks, depths, frame, mask, of_brain[depths])


def _centre(
    source: SliceSource, image: np.ndarray, spacing_mm: Spacing, recipe: SliceRecipe
) -> Frame:
    box = bounding_box(image != 0)
    if box is None:
        found = f"the scan of subject {source.id} is 0 everywhere"
        raise BadScan(source.image, "constant", found, VIEW_SCAN)
    shrink = recipe.shrink
    top, left = (
        (low + high - size * shrink) // 2
        for (low, high), size in zip(box[1:], recipe.shape, strict=True)
    )
    depth, height, width = image.shape
    coarse_mm = (spacing_mm[0], spacing_mm[1] * shrink, spacing_mm[2] * shrink)
    return Frame((depth, height, width), top, left, shrink, coarse_mm)


def _check_brain(source: SliceSource, image: np.ndarray, kept: int, recipe: SliceRecipe) -> None:
    """A tumour that nobody has outlined may lie wherever there is brain."""
    total = int(np.count_nonzero(image))
    if total - kept > MAX_BRAIN_OUTSIDE * total:
        found = f"{(total - kept) / total:.1%} of the {total} voxels of subject {source.id}"
        raise _clipped_mask_error(source.image, f"{found} that are not 0", recipe)


def _check_mask(
    source: SliceSource, mask: np.ndarray, window: np.ndarray, recipe: SliceRecipe
) -> None:
    assert source.mask is not None
    total, kept = int(np.count_nonzero(mask)), int(np.count_nonzero(window))
    if not total:
        found = f"the mask of subject {source.id} marks no tumour"
        raise BadScan(source.mask, "empty_mask", found, VIEW_SCAN)
    if kept < total:
        found = f"{total - kept} of the {total} tumour voxels of subject {source.id}"
        raise _clipped_mask_error(source.mask, found, recipe)


def _clipped_mask_error(path: Path, what: str, recipe: SliceRecipe) -> BadScan:
    height, width = recipe.shape
    return BadScan(
        path,
        "clipped",
        f"{what} lie outside its slices of {height}×{width} voxels of "
        f"{recipe.shrink}×{recipe.shrink} each",
        "Enlarge slices.shape or slices.shrink, or leave the subject out with cohort.exclude",
    )


def _has_brain(
    source: SliceSource, valued: np.ndarray, recipe: SliceRecipe
) -> Bool[np.ndarray, " depth"]:
    area = np.count_nonzero(valued, axis=(1, 2))
    if area.max() < recipe.least_brain_voxels:
        raise _too_small_error(
            source.image, "constant", "brain", int(area.max()), source.id, recipe
        )
    return area >= recipe.least_brain_voxels


def _has_tumour(
    source: SliceSource, coarse: np.ndarray | None, depth: int, recipe: SliceRecipe
) -> Bool[np.ndarray, " depth"]:
    if coarse is None:
        return np.zeros(depth, bool)
    assert source.mask is not None
    area = np.count_nonzero(coarse, axis=(1, 2))
    if area.max() < recipe.least_tumour_voxels:
        raise _too_small_error(
            source.mask, "small_tumour", "tumour", int(area.max()), source.id, recipe
        )
    return area > 0


def _too_small_error(
    path: Path, kind: ProblemKind, what: str, most: int, subject: str, recipe: SliceRecipe
) -> BadScan:
    least = getattr(recipe, f"least_{what}_voxels")
    return BadScan(
        path,
        kind,
        f"no slice of subject {subject} has {least} voxels of {what} (the largest has {most})",
        f"Lower slices.least_{what}_voxels, or leave the subject out with cohort.exclude",
    )
