"""Slices rotated about their centre: nine versions from −20° to +20° (Chen et al. 2020).

A rotation is one sparse matrix for all slices of a size, so a set of slices is rotated by one
product; that is several times as fast as rotating slice by slice with ``scipy.ndimage``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int64, Shaped, UInt8
from scipy import sparse

ANGLES_DEGREES = tuple(float(degrees) for degrees in range(-20, 21, 5))
"""Angles of the nine versions; 0 is the original."""

BLOCK = 16
"""Slices per product: their columns stay in the processor's cache (twice as fast as with 64)."""


def rotate_images(
    images: Float[np.ndarray, "slice *modality height width"], angle_degrees: float
) -> Float[np.ndarray, "slice *modality height width"]:
    """Rotate images, of all modalities alike, by linear interpolation; 0 beyond their edges.

    A positive angle moves what lies at large width (left) towards small height (anterior), like
    ``augment.rotate``. At the rim of the brain values mix with the background, so normalise first:
    then the background is the mean. At 0° the result is a copy, equal to the bit.

    >>> images = np.zeros((1, 3, 3), np.float32)
    >>> images[0, 1, 2] = 1
    >>> rotate_images(images, 90.0)[0].round(3).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    if angle_degrees == 0:
        return images.copy()
    height, width = images.shape[-2:]
    matrix = _interpolation(height, width, angle_degrees).astype(images.dtype)
    flat = images.reshape(-1, height * width)
    rotated = np.empty_like(flat, order="C")
    for first in range(0, len(flat), BLOCK):
        block = slice(first, first + BLOCK)
        rotated[block] = (matrix @ flat[block].T).T
    return rotated.reshape(images.shape)


def rotate_masks(
    masks: UInt8[np.ndarray, "slice height width"], angle_degrees: float
) -> UInt8[np.ndarray, "slice height width"]:
    """Rotate masks like :func:`rotate_images`; each voxel takes the nearest label."""
    if angle_degrees == 0:
        return masks.copy()
    nearest = _nearest(masks.shape[1], masks.shape[2], angle_degrees)
    outside = np.zeros((len(masks), 1), masks.dtype)
    flat = np.concatenate([masks.reshape(len(masks), -1), outside], axis=1)
    return flat.take(nearest, axis=1).reshape(masks.shape)


def _source_positions(height: int, width: int, angle_degrees: float) -> np.ndarray:
    """Return row and column [2, voxel] that each voxel of a rotated slice comes from."""
    angle = np.deg2rad(angle_degrees)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = np.array([[(height - 1) / 2], [(width - 1) / 2]])
    return rotation @ (np.indices((height, width)).reshape(2, -1) - centre) + centre


@lru_cache(maxsize=2 * len(ANGLES_DEGREES))
def _interpolation(height: int, width: int, angle_degrees: float) -> sparse.csr_array:
    """Return the weights [voxel, voxel] of the up to four voxels around each voxel's origin."""
    positions = _source_positions(height, width, angle_degrees)
    corner = np.floor(positions).astype(np.int64)
    fraction = positions - corner
    voxels = np.arange(height * width)
    voxel, origin, weight = [], [], []
    for down, right in np.ndindex(2, 2):
        row, column = corner[0] + down, corner[1] + right
        inside = _inside(row, column, height, width)
        voxel.append(voxels[inside])
        origin.append((row * width + column)[inside])
        share = np.abs(1 - down - fraction[0]) * np.abs(1 - right - fraction[1])
        weight.append(share[inside])
    entries = (np.concatenate(weight), (np.concatenate(voxel), np.concatenate(origin)))
    return sparse.csr_array(entries, shape=(height * width, height * width))


@lru_cache(maxsize=2 * len(ANGLES_DEGREES))
def _nearest(height: int, width: int, angle_degrees: float) -> Int64[np.ndarray, " voxel"]:
    """Return the voxel that each voxel comes from; height × width if it is beyond the edges."""
    row, column = np.rint(_source_positions(height, width, angle_degrees)).astype(np.int64)
    inside = _inside(row, column, height, width)
    return np.where(inside, row * width + column, height * width)


def _inside(
    row: Shaped[np.ndarray, " voxel"], column: Shaped[np.ndarray, " voxel"], height: int, width: int
) -> np.ndarray:
    return (row >= 0) & (row < height) & (column >= 0) & (column < width)
