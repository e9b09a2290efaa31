"""Four ways to vary a prepared volume: flip, rotate, noise, elastic deformation.

Each takes volumes in [0, 1] that are exactly 0 outside the mask, and keeps that so. The geometric
ones interpolate linearly over tumour voxels only (the interpolated volume divided by the
interpolated mask): next to the background a plain interpolation would darken the rim. A voxel is
tumour where the interpolated mask reaches 0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import elasticdeform
import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import ndimage

from mgmt_ray.preprocess.spatial import bounding_box

AugmentationParameters: TypeAlias = Mapping[str, float | int]
"""What was drawn for a volume, by name with its unit."""

Volume: TypeAlias = Float32[np.ndarray, "depth height width"]
Mask: TypeAlias = Bool[np.ndarray, "depth height width"]
Volumes: TypeAlias = Mapping[str, np.ndarray]
"""Float32 [depth, height, width] by modality, all with one mask."""
Box: TypeAlias = tuple[slice, slice, slice]
Augmented: TypeAlias = tuple[dict[str, np.ndarray], Mask, AugmentationParameters]
"""The volumes and the mask after a geometric change, and what was drawn for it."""


def flip(volumes: Volumes, mask: Mask) -> Augmented:
    """Mirror left and right, the width axis of an array in LPS orientation. Nothing is drawn."""
    mirrored = {name: volume[:, :, ::-1].copy() for name, volume in volumes.items()}
    return mirrored, mask[:, :, ::-1].copy(), {}


def rotate(volumes: Volumes, mask: Mask, draws: np.random.Generator) -> Augmented:
    """Turn in the axial plane (height, width) about its centre by an angle in [-180, 180) degrees.

    A positive angle moves what lies at large width (left) towards small height (anterior). What
    leaves the grid is lost.
    """
    angle = float(draws.uniform(-180.0, 180.0))
    filled = np.flatnonzero(mask.any(axis=(1, 2)))
    planes = (slice(filled[0], filled[-1] + 1), slice(None), slice(None))

    def turn(stills: list[np.ndarray]) -> list[np.ndarray]:
        return [
            ndimage.rotate(still[planes], angle, axes=(1, 2), reshape=False, order=1)
            for still in stills
        ]

    return *_warp(volumes, mask, planes, turn), {"angle_degrees": angle}


def add_noise(
    volume: Volume, mask: Mask, deviation: float, draws: np.random.Generator
) -> tuple[Volume, AugmentationParameters]:
    """Add Gaussian noise to the tumour's voxels only, clipped to [0, 1] as the reference does.

    Clipping makes the noise smaller than asked close to 0 and 1.
    """
    noisy = volume.copy()
    added = draws.standard_normal(int(np.count_nonzero(mask)), dtype=np.float32)
    noisy[mask] = np.clip(volume[mask] + np.float32(deviation) * added, 0, 1)
    return noisy, {"noise_std": deviation}


def deform(
    volumes: Volumes, mask: Mask, sigma_voxels: float, points: int, draws: np.random.Generator
) -> Augmented:
    """Bend by random displacements of a coarse grid, interpolated by cubic splines.

    The method of Ronneberger et al. 2015 in van Tulder's ``elasticdeform``; only what the tumour
    can reach is computed, since all else is background.

    Args:
        volumes: by modality.
        mask: the tumour, not empty.
        sigma_voxels: deviation of each grid point's displacement along each axis.
        points: grid points along each axis, spread from edge to edge.
        draws: the subject's and version's own stream.
    """
    grid = draws.normal(0.0, sigma_voxels, (3, points, points, points))
    reach = _warp_box(mask, grid)

    def bend(stills: list[np.ndarray]) -> list[np.ndarray]:
        # one call for all: the splines of the displacements cost more than the interpolation
        return elasticdeform.deform_grid(stills, grid, order=1, crop=reach)

    length = np.sqrt((grid**2).sum(axis=0))
    return *_warp(volumes, mask, reach, bend), {
        "mean_displacement_voxels": float(length.mean()),
        "largest_displacement_voxels": float(length.max()),
    }


def _warp_box(mask: Mask, grid: Float64[np.ndarray, "3 a b c"]) -> Box:
    """The box outside which a deformed volume is background.

    A cubic spline passes the largest of its grid's displacements by less than half.
    """
    box = bounding_box(mask)
    assert box is not None, "an empty mask was let through"
    margins = np.ceil(1.5 * np.abs(grid).max(axis=(1, 2, 3))).astype(int) + 1
    depth, height, width = (
        slice(max(0, low - margin), min(size, high + margin))
        for (low, high), margin, size in zip(box, margins, mask.shape, strict=True)
    )
    return depth, height, width


def _warp(
    volumes: Volumes, mask: Mask, box: Box, move: Callable[[list[np.ndarray]], list[np.ndarray]]
) -> tuple[dict[str, np.ndarray], Mask]:
    """Move volumes and mask; ``move`` gives the part in a box outside which is background."""
    weight, *totals = move([mask.astype(np.float32), *volumes.values()])
    # a tumour of a voxel or two may nowhere reach 0.5: then its heaviest voxels stay
    inside = (weight >= min(0.5, float(weight.max()))) & (weight > 0)
    divisor = weight[inside]
    moved_mask = np.zeros_like(mask)
    moved_mask[box] = inside
    moved = {}
    for name, total in zip(volumes, totals, strict=True):
        moved[name] = np.zeros_like(volumes[name])
        moved[name][moved_mask] = np.clip(total[inside] / divisor, 0, 1)
    return moved, moved_mask
