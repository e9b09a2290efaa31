"""Four ways to vary a prepared volume: flip, rotate, noise, elastic deformation.

Each takes volumes in [0, 1] that are exactly 0 outside the mask, and keeps that so. The geometric
ones interpolate linearly over tumour voxels only (the interpolated volume divided by the
interpolated mask): next to the background a plain interpolation would darken the rim. A voxel is
tumour where the interpolated mask reaches 0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import ndimage

from mgmt_ray.preprocess.spatial import bounding_box

Drawn: TypeAlias = Mapping[str, float | int]
"""What was drawn for a volume, by name with its unit."""

Volume: TypeAlias = Float32[np.ndarray, "depth height width"]
Mask: TypeAlias = Bool[np.ndarray, "depth height width"]
Volumes: TypeAlias = Mapping[str, np.ndarray]
"""Float32 [depth, height, width] by modality, all with one mask."""
Moved: TypeAlias = tuple[dict[str, np.ndarray], Mask, Drawn]
"""The volumes and the mask after a geometric change, and what was drawn for it."""


def flip(volumes: Volumes, mask: Mask) -> Moved:
    """Mirror left and right, the width axis of an array in LPS orientation. Nothing is drawn."""
    mirrored = {name: volume[:, :, ::-1].copy() for name, volume in volumes.items()}
    return mirrored, mask[:, :, ::-1].copy(), {}


def rotate(volumes: Volumes, mask: Mask, draws: np.random.Generator) -> Moved:
    """Turn in the axial plane (height, width) about its centre by an angle in [-180, 180) degrees.

    A positive angle moves what lies at large width towards small height. What leaves the grid is
    lost.
    """
    angle = float(draws.uniform(-180.0, 180.0))
    filled = np.flatnonzero(mask.any(axis=(1, 2)))
    planes = slice(filled[0], filled[-1] + 1)

    def turn(volume: np.ndarray) -> np.ndarray:
        turned = np.zeros_like(volume)
        turned[planes] = ndimage.rotate(volume[planes], angle, axes=(1, 2), reshape=False, order=1)
        return turned

    return *_move_inside(volumes, mask, turn), {"angle_degrees": angle}


def add_noise(
    volume: Volume, mask: Mask, deviation: float, draws: np.random.Generator
) -> tuple[Volume, Drawn]:
    """Add Gaussian noise to the tumour's voxels only, clipped to [0, 1] as the reference does.

    Clipping makes the noise smaller than asked close to 0 and 1.
    """
    noisy = volume.copy()
    added = draws.standard_normal(int(np.count_nonzero(mask)), dtype=np.float32)
    noisy[mask] = np.clip(volume[mask] + np.float32(deviation) * added, 0, 1)
    return noisy, {"deviation": deviation}


def deform(
    volumes: Volumes, mask: Mask, sigma_voxels: float, points: int, draws: np.random.Generator
) -> Moved:
    """Bend by random displacements of a coarse grid, interpolated by cubic splines.

    The method of Ronneberger et al. 2015 as van Tulder's ``elasticdeform`` defines it, whose
    ``deform_grid(..., order=1)`` gives the same voxels. That package takes half a second for a
    70 × 86 × 86 volume, since it evaluates a full spline at every voxel; here the spline is
    separated by axis, and only voxels that the tumour can reach are interpolated.

    Args:
        volumes: by modality.
        mask: the tumour, not empty.
        sigma_voxels: deviation of each grid point's displacement along each axis.
        points: grid points along each axis, spread from edge to edge.
        draws: the subject's and version's own stream.
    """
    grid = draws.normal(0.0, sigma_voxels, (3, points, points, points))
    depth, height, width = mask.shape
    sources = np.indices(mask.shape) + displacement_field(grid, (depth, height, width))
    near = _near_tumour(mask, sources)
    coordinates = sources[:, near]

    def bend(volume: np.ndarray) -> np.ndarray:
        bent = np.zeros_like(volume)
        bent[near] = ndimage.map_coordinates(volume, coordinates, order=1)
        return bent

    length = np.sqrt((grid**2).sum(axis=0))
    return *_move_inside(volumes, mask, bend), {
        "mean_displacement_voxels": float(length.mean()),
        "largest_displacement_voxels": float(length.max()),
    }


def displacement_field(
    grid: Float64[np.ndarray, "3 a b c"], shape: tuple[int, int, int]
) -> Float64[np.ndarray, "3 depth height width"]:
    """Cubic spline through the displacements of a grid that spans a volume from edge to edge.

    Args:
        grid: displacements along depth, height and width in voxels.
        shape: depth, height, width of the volume.

    Returns:
        Per voxel of the deformed volume, how far from it its value is taken.
    """
    along_depth, along_height, along_width = (
        _spline_weights(points, size) for points, size in zip(grid.shape[1:], shape, strict=True)
    )
    field = np.einsum(
        "xabc,da,hb,wc->xdhw", grid, along_depth, along_height, along_width, optimize=True
    )
    return np.ascontiguousarray(field)


def _spline_weights(points: int, size: int) -> Float64[np.ndarray, "size points"]:
    """How much each grid point weighs at each voxel along one axis."""
    at = np.linspace(0, points - 1, size)[np.newaxis]
    weights = [ndimage.map_coordinates(unit, at, order=3, mode="mirror") for unit in np.eye(points)]
    return np.stack(weights, axis=1)


def _near_tumour(mask: Mask, sources: Float64[np.ndarray, "3 depth height width"]) -> Mask:
    """Voxels whose value comes from the tumour's box: everywhere else it is background."""
    box = bounding_box(mask)
    assert box is not None, "an empty mask was let through"
    near = np.ones(mask.shape, dtype=bool)
    for (low, high), source in zip(box, sources, strict=True):
        near &= (source > low - 1) & (source < high)
    return near


def _move_inside(
    volumes: Volumes, mask: Mask, move: Callable[[np.ndarray], np.ndarray]
) -> tuple[dict[str, np.ndarray], Mask]:
    weight = move(mask.astype(np.float32))
    # a tumour of a voxel or two may nowhere reach 0.5: then its heaviest voxels stay
    inside = (weight >= min(0.5, float(weight.max()))) & (weight > 0)
    divisor = np.where(inside, weight, np.float32(1))
    moved = {}
    for name, volume in volumes.items():
        mean = np.clip(move(volume) / divisor, 0, 1)
        moved[name] = np.where(inside, mean, np.float32(0))
    return moved, inside
