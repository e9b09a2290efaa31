"""The healthy brain that synthetic tumours grow in: a phantom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from mgmt_ray.synthetic.random_fields import smoothed_noise

UPENN_GRID = (155, 240, 240)
"""Depth, height, width of UPENN-GBM's scans in voxels of 1 mm."""

PAPER_WINDOW = ((0, 140), (39, 211), (44, 208))
"""Voxels of the UPENN-GBM grid that Schmitz et al. 2024 keep: depth, height, width."""

BRAIN_MM = (140.0, 174.0, 138.0)
"""Depth (foot to head), height (front to back) and width (right to left) of the phantom."""

BORDER = 2
"""Voxels at the border of the grid that stay free of tumour."""

CSF, GRAY, WHITE = 0.0, 0.5, 1.0
"""Values of the tissues in :attr:`Anatomy.tissue`."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A healthy brain on a cohort's grid; its arrays cover the box that holds the brain.

    Attributes:
        grid: extents of the scan in voxels of 1 mm: depth, height, width.
        box: where the arrays lie in the grid.
        tissue: 0 cerebrospinal fluid, 0.5 grey matter, 1 white matter, and mixtures between them.
        brain: mask of the brain.
        clearance_mm: distance to the nearest voxel where no tumour may grow; 0 in these.
    """

    grid: tuple[int, int, int]
    box: tuple[slice, slice, slice]
    tissue: Float32[np.ndarray, "depth height width"]
    brain: Bool[np.ndarray, "depth height width"]
    clearance_mm: Float32[np.ndarray, "depth height width"]


def phantom(grid: tuple[int, int, int], random: np.random.Generator) -> Anatomy:
    """Make an ellipsoidal brain with folds, a fissure between its halves, and ventricles.

    Args:
        grid: depth, height, width in voxels of 1 mm; the brain fills it.

    >>> anatomy = phantom((24, 28, 26), np.random.default_rng(0))
    >>> anatomy.brain.shape == anatomy.tissue.shape, bool(anatomy.brain.any())
    (True, True)
    """
    half_axes = np.array(BRAIN_MM) / 2 * _fitting_scale(BRAIN_MM, grid)
    centre = (np.array(grid) - 1) / 2
    box = tuple(
        slice(max(0, int(c - r) - 1), min(n, int(c + r) + 3))
        for c, r, n in zip(centre, half_axes, grid, strict=True)
    )
    z, y, x = (
        ((np.arange(b.start, b.stop) - c) / r).astype(np.float32)
        for b, c, r in zip(box, centre, half_axes, strict=True)
    )
    z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
    shape = (z.shape[0], y.shape[1], x.shape[2])
    folds = smoothed_noise(shape, max(1.0, 0.055 * half_axes.mean()), random)
    radius = np.sqrt(z**2 + y**2 + x**2) + 0.015 * folds
    near_surface = np.clip((radius - 0.62) / 0.2, 0, 1)
    fold = np.exp(-((folds / 0.35) ** 2)) * near_surface
    tissue = np.clip(1.0 - 0.95 * fold - 0.5 * np.clip((radius - 0.86) / 0.06, 0, 1), 0.05, 1)
    deep_gray = ((np.abs(x) - 0.3) / 0.16) ** 2 + (y / 0.28) ** 2 + (z / 0.2) ** 2 < 1
    tissue = np.where(deep_gray, np.float32(0.6), tissue)
    ventricle = ((np.abs(x) - 0.1) / 0.08) ** 2 + (y / 0.38) ** 2 + ((z - 0.15) / 0.14) ** 2 < 1
    fissure = (np.abs(x) < 0.02) & ((radius > 0.6) | (np.abs(y) > 0.5)) & (z > -0.3)
    tissue = np.where(ventricle | fissure, np.float32(CSF), tissue)
    tissue = ndimage.gaussian_filter(tissue.astype(np.float32), 0.7)
    brain = radius < 1
    return Anatomy(grid, _as_box(box), tissue, brain, _clearance_mm(brain, _as_box(box), grid))


def _fitting_scale(extent_mm: tuple[float, ...], grid: tuple[int, int, int]) -> float:
    """Return the scale, in voxels per mm, at which a brain fills the grid up to a margin."""
    return min(0.92 * n / mm for n, mm in zip(grid, extent_mm, strict=True))


def _clearance_mm(
    brain: Bool[np.ndarray, "depth height width"],
    box: tuple[slice, slice, slice],
    grid: tuple[int, int, int],
) -> Float32[np.ndarray, "depth height width"]:
    allowed = np.zeros(grid, bool)
    window = PAPER_WINDOW if grid == UPENN_GRID else tuple((0, n) for n in grid)
    inner = (
        slice(max(start, BORDER), min(stop, n - BORDER))
        for (start, stop), n in zip(window, grid, strict=True)
    )
    allowed[tuple(inner)] = True
    # padded with background, so that the edges of the brain's own box are borders too
    padded = np.pad(brain & allowed[box], 1)
    distance = ndimage.distance_transform_edt(padded)
    return distance[1:-1, 1:-1, 1:-1].astype(np.float32)


def _as_box(box: tuple[slice, ...]) -> tuple[slice, slice, slice]:
    depth, height, width = box
    return depth, height, width
