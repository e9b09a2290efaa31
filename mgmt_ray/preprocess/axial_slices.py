"""One subject's axial slices through the whole brain (Chen et al. 2020).

Unlike the volumes of the 3-D recipe, slices keep the whole brain, since a network has to find the
tumour in them. They keep the scan's own intensities: what is learnt from training subjects, like a
standard histogram, depends on the fold. Depth is not shrunk. A mask has one effect: its slices with
tumour are kept however little brain they show. These are left out when intensities are normalised,
so that scans with and without a mask look alike. ``tumour_slices`` selects the slices through the
tumour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped, UInt8

from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.problem import VIEW_SCAN, BadScan, ProblemKind
from mgmt_ray.cohort.scan import Scan, check_grid, read_mask, read_scan
from mgmt_ray.cohort.subject import AS_STORED, ScanConventions
from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.slice_geometry import (
    Frame,
    Spacing,
    by_modality,
    slice_window,
    sum_blocks,
)
from mgmt_ray.preprocess.spatial import bounding_box, resample, whole_window

MAX_BRAIN_OUTSIDE = 0.01
"""Fraction of a scan's non-zero voxels that may lie outside its slices where no mask shows that
the slices hold the tumour."""


MAX_BORDER_VALUED = 0.5
"""Fraction of the voxels at the border of a scan's axial planes that may not be background."""


@dataclass(frozen=True, slots=True)
class SliceSource:
    """The files that a subject's slices are cut from; the mask may be missing.

    Attributes:
        scans: of one modality, or of several whose slices are cut at the same positions.
    """

    id: str
    scans: tuple[Path, ...]
    mask: Path | None
    conventions: ScanConventions = AS_STORED


@dataclass(frozen=True, slots=True, eq=False)
class SubjectSlices:
    """Slices of one subject, from inferior to superior.

    Attributes:
        images: the scans' own intensities; exactly 0 in the background and the padding. There is
            an axis of modalities if there are several.
        masks: 1 tumour, 0 all else; all 0 if not annotated.
        depths: depth of each slice in the scan.
        frame: where the slices lie in the scan.
        scan_mask: the given tumour mask on the scan's own grid; None if not annotated.
        of_brain: which slices hold enough brain in each modality. Intensities are normalised by
            these alone: the others are kept for their tumour, and a scan without a mask does not
            have them.
    """

    id: str
    images: Float32[np.ndarray, "slice *modality height width"]
    masks: UInt8[np.ndarray, "slice height width"]
    depths: Int64[np.ndarray, " slice"]
    frame: Frame
    scan_mask: Bool[np.ndarray, "depth rows columns"] | None
    of_brain: Bool[np.ndarray, " slice"]

    @property
    def annotated(self) -> bool:
        """Whether the subject has a given mask."""
        return self.scan_mask is not None

    @property
    def brain(self) -> Bool[np.ndarray, "slice height width"]:
        """Voxels that are not 0 in any of the modalities."""
        return np.any([image != 0 for image in by_modality(self.images)], axis=0)


def slice_sources(cohort: Cohort, *modalities: str, masks: bool = True) -> tuple[SliceSource, ...]:
    """Return the scans of the subjects with all of some modalities, together for each subject.

    They come with the given masks unless ``masks`` is false. Predicted masks are not used: a
    segmentation is not judged by another network's prediction.
    """
    return tuple(
        SliceSource(
            s.id,
            tuple(s.scans[modality] for modality in modalities),
            s.mask if masks and s.mask_kind == "given" else None,
            s.conventions,
        )
        for s in cohort.subjects
        if s.has_all(modalities)
    )


def make_slices(source: SliceSource, recipe: SliceRecipe) -> SubjectSlices:
    """Read a subject's files and cut its slices (see :func:`cut_slices`).

    Raises:
        BadScan: a file is damaged, or as :func:`slices_from_scans`.
    """
    scans = [read_scan(path, source.conventions) for path in source.scans]
    mask = read_mask(source.mask, source.conventions) if source.mask else None
    return slices_from_scans(source, scans, mask, recipe)


def slices_from_scans(
    source: SliceSource, scans: Sequence[Scan], mask_scan: Scan | None, recipe: SliceRecipe
) -> SubjectSlices:
    """Cut the slices of scans that are read already, on the grid of their mask.

    Without a mask the first scan's grid takes its place.

    Raises:
        BadScan: the grids differ, or as :func:`cut_slices`.
    """
    reference, path, kind = scans[0], source.scans[0], "the scan"
    if mask_scan is not None:
        assert source.mask is not None
        reference, path, kind = mask_scan, source.mask, "its mask"
    window = whole_window(reference.grid.shape)
    if not recipe.resample:
        for scan, own in zip(scans, source.scans, strict=True):
            check_grid(scan, reference, own, path, kind)
    images = [resample(scan, reference.grid, window) for scan in scans]
    mask = None if mask_scan is None else mask_scan.voxels > 0
    return cut_slices(source, images, mask, reference.grid.spacing_mm, recipe)


def cut_slices(
    source: SliceSource,
    scans: Sequence[Shaped[np.ndarray, "depth height width"]],
    mask: Bool[np.ndarray, "depth height width"] | None,
    spacing_mm: Spacing,
    recipe: SliceRecipe,
) -> SubjectSlices:
    """Crop, shrink and pad the slices of scans that hold enough brain, or any tumour.

    All slices of a subject are cut at the same position, around the box of the voxels that are not
    0 in any of the modalities; planes with too little brain in one of them are left out. A voxel
    of a slice is the mean over the non-zero voxels of its block, so that the brain's rim is not
    darkened, and tumour if at least half of its block is: unlike the 3-D recipe's masks these are
    what a segmentation learns, so they must not grow by every block that is touched.

    Args:
        scans: on one grid, in the order of ``source.scans``.
        mask: the tumour; None if not annotated.
        recipe: shape and shrinking of the slices, and the least brain and tumour.

    Raises:
        BadScan: the scan's background is not 0, the scan is empty, the slices would cut the tumour
            or, without a mask, the brain, or no slice has enough brain or, if annotated, enough
            tumour.

    >>> image = np.zeros((4, 40, 40), np.float32)
    >>> image[1:3, 5:35, 5:35] = 100
    >>> recipe = SliceRecipe(shape=(16, 16), shrink=2, least_brain_voxels=50)
    >>> slices = cut_slices(SliceSource("S1", (Path("S1_FLAIR.nii.gz"),), None), [image], None,
    ...                     (5.0, 1.0, 1.0), recipe)
    >>> slices.images.shape, slices.depths.tolist(), slices.frame.spacing_mm
    ((2, 16, 16), [1, 2], (5.0, 2.0, 2.0))
    """
    for path, scan in zip(source.scans, scans, strict=True):
        _check_background(source, path, scan)
    brain = np.any([scan != 0 for scan in scans], axis=0)
    frame = _centred_frame(source, brain, spacing_mm, recipe)
    valued = [_shrunk_counts(scan != 0, frame, recipe) for scan in scans]
    coarse = np.zeros(valued[0].shape, bool)
    if mask is None:
        kept = int(np.count_nonzero(slice_window(brain, frame, recipe.shape)))
        _check_brain(source, brain, kept, recipe)
    else:
        window = slice_window(mask, frame, recipe.shape)
        _check_mask(source, mask, window, recipe)
        coarse |= 2 * sum_blocks(window, recipe.shrink) >= recipe.shrink**2
    of_brain = _with_brain(source, valued, recipe)
    if mask is not None:
        _large_enough(source, source.mask, coarse, "tumour", "small_tumour", recipe)
    depths = np.flatnonzero(of_brain | coarse.any(axis=(1, 2)))
    images = []
    for scan, counts in zip(scans, valued, strict=True):
        window = slice_window(scan[depths], frame, recipe.shape)
        # float64: the sum must not depend on the order in which NumPy adds a block's voxels
        sums = sum_blocks(window, recipe.shrink)
        images.append((sums / np.maximum(counts[depths], 1)).astype(np.float32))
    joined = images[0] if len(images) == 1 else np.stack(images, axis=1)
    masks = coarse[depths].astype(np.uint8)
    return SubjectSlices(source.id, joined, masks, depths, frame, mask, of_brain[depths])


def _shrunk_counts(voxels: np.ndarray, frame: Frame, recipe: SliceRecipe) -> np.ndarray:
    """Return how many voxels of each block of the slices are marked."""
    return sum_blocks(slice_window(voxels, frame, recipe.shape), recipe.shrink)


def _with_brain(
    source: SliceSource, valued: Sequence[np.ndarray], recipe: SliceRecipe
) -> Bool[np.ndarray, " depth"]:
    """Return which slices have enough brain in each modality; raises BadScan if none has."""
    enough = [
        _large_enough(source, path, counts, "brain", "constant", recipe)
        for path, counts in zip(source.scans, valued, strict=True)
    ]
    everywhere: np.ndarray = np.all(enough, axis=0)
    if not everywhere.any():
        others = ", ".join(path.name for path in source.scans[1:])
        found = f"no slice of subject {source.id} shows brain both here and in {others}"
        raise BadScan(source.scans[0], "constant", found, VIEW_SCAN)
    return everywhere


def _check_background(source: SliceSource, path: Path, image: np.ndarray) -> None:
    """Raise BadScan if most of a scan's border is not 0: its air would be taken for brain.

    The border is that of the axial planes: the lowest and highest plane may show brain only.
    """
    rows, columns = image[:, [0, -1]], image[:, 1:-1, [0, -1]]
    border = np.concatenate([rows.ravel(), columns.ravel()])
    share = np.count_nonzero(border) / border.size
    if share <= MAX_BORDER_VALUED:
        return
    values, counts = np.unique(border, return_counts=True)
    most = counts.argmax()
    if counts[most] >= MAX_BORDER_VALUED * border.size:
        value = f"{float(values[most]) + source.conventions.background:.9g}"
        found = f"its background is {value}, not {source.conventions.background:g}"
        remedy = "Set it to 0 in the file"
        setting = f"set cohort.background: {value} if that is so in all scans"
    else:
        found = f"{share:.0%} of the voxels at its border are not 0, and of many values"
        remedy, setting = "Set its air to 0 (strip the skull)", ""
    raise BadScan(path, "background", found, remedy, setting)


def _centred_frame(
    source: SliceSource, brain: np.ndarray, spacing_mm: Spacing, recipe: SliceRecipe
) -> Frame:
    box = bounding_box(brain)
    if box is None:
        found = f"the scan of subject {source.id} is 0 everywhere"
        raise BadScan(source.scans[0], "constant", found, VIEW_SCAN)
    shrink = recipe.shrink
    top, left = (
        (low + high - size * shrink) // 2
        for (low, high), size in zip(box[1:], recipe.shape, strict=True)
    )
    depth, height, width = brain.shape
    coarse_mm = (spacing_mm[0], spacing_mm[1] * shrink, spacing_mm[2] * shrink)
    return Frame((depth, height, width), top, left, shrink, coarse_mm)


def _check_brain(source: SliceSource, brain: np.ndarray, kept: int, recipe: SliceRecipe) -> None:
    """Raise BadScan if the slices cut the brain: without a mask the tumour may lie anywhere."""
    total = int(np.count_nonzero(brain))
    if total - kept > MAX_BRAIN_OUTSIDE * total:
        found = f"{(total - kept) / total:.1%} of the {total} voxels of subject {source.id}"
        raise _clipped_error(source.scans[0], f"{found} that are not 0", recipe)


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
        raise _clipped_error(source.mask, found, recipe)


def _clipped_error(path: Path, found: str, recipe: SliceRecipe) -> BadScan:
    height, width = recipe.shape
    return BadScan(
        path,
        "clipped",
        f"has {found} outside its slices of {height}×{width} voxels of "
        f"{recipe.shrink}×{recipe.shrink} each",
        VIEW_SCAN,
        "enlarge slices.shape or slices.shrink",
    )


def _large_enough(
    source: SliceSource,
    path: Path | None,
    voxels: np.ndarray,
    tissue: Literal["brain", "tumour"],
    kind: ProblemKind,
    recipe: SliceRecipe,
) -> Bool[np.ndarray, " depth"]:
    """Return which slices have as many voxels of a tissue as the recipe asks for, if any has."""
    assert path is not None
    least = recipe.least_brain_voxels if tissue == "brain" else recipe.least_tumour_voxels
    area = np.count_nonzero(voxels, axis=(1, 2))
    if area.max() < least:
        found = f"no slice of subject {source.id} has {least} voxels of {tissue}"
        found += f" (the largest has {area.max()})"
        setting = f"lower slices.least_{tissue}_voxels"
        raise BadScan(path, kind, found, VIEW_SCAN, setting)
    return area >= least
