"""The four augmentations of a prepared volume: flip, rotation, noise, elastic deformation.

Volumes are in [0, 1] and exactly 0 outside the mask, before and after. The geometric ones
interpolate linearly over tumour voxels only (the interpolated volume divided by the interpolated
mask): next to the background a plain interpolation would darken the rim. A voxel is tumour where
the interpolated mask reaches 0.5.
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
"""The random draws of an augmentation, by names that state the unit (``angle_degrees``)."""

Volume: TypeAlias = Float32[np.ndarray, "depth height width"]
Mask: TypeAlias = Bool[np.ndarray, "depth height width"]
Volumes: TypeAlias = Mapping[str, np.ndarray]
"""Float32 [depth, height, width] by modality, all with one mask."""
Box: TypeAlias = tuple[slice, slice, slice]
Augmented: TypeAlias = tuple[dict[str, np.ndarray], Mask, AugmentationParameters]
"""Volumes and mask after an augmentation, and its random draws."""


def flip(volumes: Volumes, mask: Mask) -> Augmented:
    """Mirror left and right, the width axis of an array in LPS orientation. Nothing is random.

    >>> volume = np.array([[[0.0, 0.2, 0.9]]], np.float32)
    >>> flipped, mask, _ = flip({"T1": volume}, volume > 0)
    >>> mask.tolist()
    [[[True, True, False]]]
    """
    mirrored = {name: volume[:, :, ::-1].copy() for name, volume in volumes.items()}
    return mirrored, mask[:, :, ::-1].copy(), {}


def rotate(volumes: Volumes, mask: Mask, random: np.random.Generator) -> Augmented:
    """Rotate in the axial plane (height, width) about its centre, by -180 to 180 degrees.

    A positive angle moves what lies at large width (left) towards small height (anterior). What
    leaves the grid is lost.

    >>> volume = np.zeros((1, 9, 9), np.float32)
    >>> volume[0, 3:6, 5:8] = 0.5
    >>> rotated, mask, parameters = rotate({"T1": volume}, volume > 0, np.random.default_rng(0))
    >>> round(parameters["angle_degrees"], 1)
    49.3
    >>> bool(np.allclose(rotated["T1"][mask], 0.5))
    True
    """
    angle = float(random.uniform(-180.0, 180.0))
    filled = np.flatnonzero(mask.any(axis=(1, 2)))
    planes = (slice(filled[0], filled[-1] + 1), slice(None), slice(None))

    def rotate_arrays(arrays: list[np.ndarray]) -> list[np.ndarray]:
        return [
            ndimage.rotate(array[planes], angle, axes=(1, 2), reshape=False, order=1)
            for array in arrays
        ]

    return *_warp(volumes, mask, planes, rotate_arrays), {"angle_degrees": angle}


def add_noise(
    volume: Volume, mask: Mask, noise_std: float, random: np.random.Generator
) -> tuple[Volume, AugmentationParameters]:
    """Add Gaussian noise to the tumour's voxels only, and clip them to [0, 1].

    The reference code clips too. Near 0 and 1 the noise is therefore smaller than ``noise_std``.

    >>> volume = np.full((1, 20, 20), 0.5, np.float32)
    >>> noisy, _ = add_noise(volume, volume > 0, 0.1, np.random.default_rng(0))
    >>> round(float(noisy.std()), 2)
    0.1
    """
    noisy = volume.copy()
    noise = random.standard_normal(int(np.count_nonzero(mask)), dtype=np.float32)
    noisy[mask] = np.clip(volume[mask] + np.float32(noise_std) * noise, 0, 1)
    return noisy, {"noise_std": noise_std}


def deform(
    volumes: Volumes, mask: Mask, sigma_voxels: float, points: int, random: np.random.Generator
) -> Augmented:
    """Deform by random displacements of a coarse grid, interpolated by cubic splines.

    The method of Ronneberger et al. 2015 in van Tulder's ``elasticdeform``; only what the tumour
    can reach is computed, since all else is background.

    Args:
        mask: the tumour, not empty.
        sigma_voxels: standard deviation of each grid point's displacement along each axis.
        points: grid points along each axis, spread from edge to edge.

    >>> volume = np.zeros((8, 8, 8), np.float32)
    >>> volume[2:6, 2:6, 2:6] = 0.5
    >>> deformed, mask, parameters = deform(
    ...     {"T1": volume}, volume > 0, 1.0, 3, np.random.default_rng(0)
    ... )
    >>> bool(np.allclose(deformed["T1"][mask], 0.5)), sorted(parameters)
    (True, ['largest_displacement_voxels', 'mean_displacement_voxels'])
    """
    grid = random.normal(0.0, sigma_voxels, (3, points, points, points))
    reach = _warp_box(mask, grid)

    def deform_arrays(arrays: list[np.ndarray]) -> list[np.ndarray]:
        # one call for all: the splines of the displacements cost more than the interpolation
        return elasticdeform.deform_grid(arrays, grid, order=1, crop=reach)

    lengths = np.sqrt((grid**2).sum(axis=0))
    return *_warp(volumes, mask, reach, deform_arrays), {
        "mean_displacement_voxels": float(lengths.mean()),
        "largest_displacement_voxels": float(lengths.max()),
    }


def _warp_box(mask: Mask, grid: Float64[np.ndarray, "3 a b c"]) -> Box:
    """Return the box outside which a deformed volume is background.

    A cubic spline passes the largest of its grid's displacements by less than half.
    """
    box = bounding_box(mask)
    assert box is not None, "the mask is empty"
    margins = np.ceil(1.5 * np.abs(grid).max(axis=(1, 2, 3))).astype(int) + 1
    depth, height, width = (
        slice(max(0, low - margin), min(size, high + margin))
        for (low, high), margin, size in zip(box, margins, mask.shape, strict=True)
    )
    return depth, height, width


def _warp(
    volumes: Volumes, mask: Mask, box: Box, warp: Callable[[list[np.ndarray]], list[np.ndarray]]
) -> tuple[dict[str, np.ndarray], Mask]:
    """Warp volumes and mask; ``warp`` computes the box outside which all is background."""
    weight, *totals = warp([mask.astype(np.float32), *volumes.values()])
    # a tumour of one or two voxels may reach 0.5 nowhere: then its heaviest voxels stay
    inside = (weight >= min(0.5, float(weight.max()))) & (weight > 0)
    divisor = weight[inside]
    warped_mask = np.zeros_like(mask)
    warped_mask[box] = inside
    warped = {}
    for name, total in zip(volumes, totals, strict=True):
        warped[name] = np.zeros_like(volumes[name])
        warped[name][warped_mask] = np.clip(total[inside] / divisor, 0, 1)
    return warped, warped_mask
