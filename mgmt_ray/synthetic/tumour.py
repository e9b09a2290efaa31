"""Synthetic glioblastomas: their place in the brain, and their compartments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from scipy import ndimage

from mgmt_ray.synthetic.anatomy import UPENN_GRID, WHITE, Anatomy
from mgmt_ray.synthetic.random_fields import smoothed_noise

NECROSIS, EDEMA, ENHANCING = 1, 2, 4
"""Labels of a mask."""

CORE_RADIUS_MM = (8.0, 25.0)
EDEMA_MARGIN_MM = (5.0, 15.0)
"""Ranges on the grid of UPENN-GBM; smaller grids have smaller tumours."""

LOWEST_CENTRE = 0.4
"""Fraction of the brain's depth below which no tumour has its centre (brain stem, cerebellum)."""

LEAST_RADIUS, LEAST_MARGIN = 2.5, 2.0
"""In voxels; below these a compartment may be empty."""


@dataclass(frozen=True, slots=True)
class Tumour:
    """A tumour's compartments within the box of its brain's arrays.

    Attributes:
        box: where the arrays lie in the arrays of the :class:`Anatomy`.
        labels: 1 necrosis, 2 edema, 4 enhancing, 0 none.
        edema: share of edema in each voxel, 0 to 1.
        core: share of tumour core in each voxel, 0 to 1.
        necrosis: share of necrosis in each voxel, 0 to 1.
    """

    box: tuple[slice, slice, slice]
    labels: UInt8[np.ndarray, "depth height width"]
    edema: Float32[np.ndarray, "depth height width"]
    core: Float32[np.ndarray, "depth height width"]
    necrosis: Float32[np.ndarray, "depth height width"]


def grow_tumour(anatomy: Anatomy, random: np.random.Generator) -> Tumour:
    """Grow a tumour: necrosis in an enhancing rim, and edema that follows the white matter.

    The tumour stays where ``anatomy.clearance_mm`` is above 0: inside the brain, and on the grid of
    UPENN-GBM inside the window of Schmitz et al. 2024.

    >>> from mgmt_ray.synthetic.anatomy import phantom
    >>> anatomy = phantom((24, 28, 26), np.random.default_rng(0))
    >>> np.unique(grow_tumour(anatomy, np.random.default_rng(1)).labels).tolist()
    [0, 1, 2, 4]
    """
    scale = min(1.0, min(n / full for n, full in zip(anatomy.grid, UPENN_GRID, strict=True)))
    scale **= 0.5  # less than in proportion: the texture of a small tumour has too few voxels
    radius = max(LEAST_RADIUS, scale * random.uniform(*CORE_RADIUS_MM))
    margin = max(LEAST_MARGIN, scale * random.uniform(*EDEMA_MARGIN_MM))
    radius = min(radius, float(anatomy.clearance_mm.max()) / 0.75)
    centre = _draw_centre(anatomy, 0.75 * radius, random)
    reach = int(np.ceil(1.65 * radius + 1.6 * margin)) + 2
    box = tuple(
        slice(max(0, c - reach), min(n, c + reach + 1))
        for c, n in zip(centre, anatomy.tissue.shape, strict=True)
    )
    depth, height, width = box
    return _draw_shape(anatomy, (depth, height, width), centre, radius, margin, random)


def _draw_centre(
    anatomy: Anatomy, clearance_mm: float, random: np.random.Generator
) -> tuple[int, int, int]:
    """Draw a centre with that clearance if there is any, in white matter if possible."""
    clearance = anatomy.clearance_mm.copy()
    clearance[: int(LOWEST_CENTRE * clearance.shape[0])] = 0
    suitable = clearance >= min(clearance_mm, float(clearance.max()))
    in_white_matter = suitable & (anatomy.tissue > 0.7 * WHITE)
    candidates = np.flatnonzero(in_white_matter if in_white_matter.any() else suitable)
    centre = candidates[random.integers(candidates.size)]
    depth, height, width = np.unravel_index(centre, suitable.shape)
    return int(depth), int(height), int(width)


def _draw_shape(
    anatomy: Anatomy,
    box: tuple[slice, slice, slice],
    centre: tuple[int, int, int],
    radius: float,
    margin: float,
    random: np.random.Generator,
) -> Tumour:
    size = tuple(b.stop - b.start for b in box)
    stretch = random.uniform(0.8, 1.2, 3)
    z, y, x = (
        ((np.arange(b.start, b.stop) - c) / s).astype(np.float32)
        for b, c, s in zip(box, centre, stretch, strict=True)
    )
    ball = np.sqrt(z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2)
    lobes = np.clip(smoothed_noise(size, max(1.0, 0.45 * radius), random), -2, 2)
    core_mm = ball + 0.16 * radius * lobes
    holes = np.clip(smoothed_noise(size, max(1.0, 0.3 * radius), random), -2, 2)
    necrosis_mm = ball + 0.2 * radius * holes
    necrotic_radius = radius * random.uniform(0.4, 0.75)
    fingers = np.clip(smoothed_noise(size, max(1.0, 0.5 * margin), random), -2, 2)
    gray = 1 - np.clip(2 * ndimage.gaussian_filter(anatomy.tissue[box], 1.0) - 1, 0, 1)
    edema_mm = core_mm + margin * (0.35 * fingers + 0.8 * gray)

    allowed = anatomy.clearance_mm[box] > 0
    rim = radius - core_mm
    inner = np.minimum(necrotic_radius - necrosis_mm, rim - 1)
    outer = np.maximum(radius + margin - edema_mm, rim + 1)
    core = allowed & (rim > 0)
    labels = np.zeros(size, np.uint8)
    labels[allowed & ((outer > 0) | ndimage.binary_dilation(core))] = EDEMA
    labels[core] = ENHANCING
    labels[ndimage.binary_erosion(core) & (inner > 0)] = NECROSIS
    labels[tuple(c - b.start for c, b in zip(centre, box, strict=True))] = NECROSIS
    edema, core_share, necrosis = (_soft(inside_mm) * allowed for inside_mm in (outer, rim, inner))
    return Tumour(box, labels, edema=edema, core=core_share, necrosis=necrosis)


def _soft(inside_mm: Float32[np.ndarray, "d h w"]) -> Float32[np.ndarray, "d h w"]:
    """Return the share of a compartment: rises from 0 to 1 across its border, within 2 mm."""
    return 1 / (1 + np.exp(-np.clip(inside_mm, -8, 8) / np.float32(0.5)))
