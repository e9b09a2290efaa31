"""Random fields, from which phantom brains, tumour shapes and textures are made."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32

COARSE_MM = 5.0
FINE_MM = 1.0
"""Smoothness (standard deviation of the Gaussian kernel) of the two textures.

Both survive averaging over 2×2×2 voxels: white noise would become weaker there, and the textures
would differ in strength, not in grain.
"""


def smoothed_noise(
    shape: tuple[int, ...], sigma: float, random: np.random.Generator
) -> Float32[np.ndarray, "depth height width"]:
    """Draw Gaussian noise, smoothed by a Gaussian kernel; mean 0 and variance 1 at each voxel.

    Independent numbers on a lattice of spacing ``sigma`` are convolved with the kernel along each
    axis. This spacing makes the field stationary to 1e-4 of its variance, and the cost decreases
    with the cube of ``sigma``.

    Args:
        sigma: standard deviation of the kernel in voxels, at least 1.

    >>> field = smoothed_noise((40, 40, 40), 2.0, np.random.default_rng(0))
    >>> field.shape, bool(0.9 < field.std() < 1.1)
    ((40, 40, 40), True)
    """
    kernels = []
    for extent in shape:
        points = np.arange(-3 * sigma, extent - 1 + 3 * sigma + sigma, sigma)
        kernel = np.exp(-0.5 * ((np.arange(extent)[:, None] - points) / sigma) ** 2)
        kernel /= np.linalg.norm(kernel, axis=1, keepdims=True)
        kernels.append(kernel.astype(np.float32))
    field = random.standard_normal([kernel.shape[1] for kernel in kernels], dtype=np.float32)
    for kernel in kernels:
        field = np.moveaxis(np.tensordot(field, kernel, axes=(0, 1)), -1, 2)
    return field


def plain_texture(
    tumour: Bool[np.ndarray, "depth height width"], random: np.random.Generator
) -> Float32[np.ndarray, "depth height width"]:
    """Draw coarse and fine noise, randomly mixed and standardised; the same for both labels."""
    share = np.float32(random.uniform())
    coarse = smoothed_noise(tumour.shape, COARSE_MM, random)
    fine = smoothed_noise(tumour.shape, FINE_MM, random)
    return _standardise(share * coarse + (1 - share) * fine, tumour)


def _standardise(
    field: Float32[np.ndarray, "depth height width"], tumour: Bool[np.ndarray, "depth height width"]
) -> Float32[np.ndarray, "depth height width"]:
    """Scale a field to mean 0 and standard deviation 1 inside the tumour, and set 0 outside."""
    inside = field[tumour].astype(np.float64)
    scaled = (field - np.float32(inside.mean())) / np.float32(inside.std())
    return np.where(tumour, scaled, np.float32(0))


def tumour_texture(
    tumour: Bool[np.ndarray, "depth height width"],
    methylated: bool,
    amplitude: float,
    random: np.random.Generator,
) -> Float32[np.ndarray, "depth height width"]:
    """Draw a tumour's texture: the plain one, plus the label's if a signal is planted.

    The label's is coarse noise in methylated tumours and fine noise in the others.

    Args:
        methylated: the label; no bit of the result depends on it at amplitude 0.
        amplitude: of the label's texture, in standard deviations of the plain one.

    Returns:
        Mean 0 and standard deviation (1 + amplitude²)^1/2 inside the tumour, 0 outside.

    >>> tumour = np.ones((12, 12, 12), bool)
    >>> texture = tumour_texture(tumour, True, 2.0, np.random.default_rng(0))
    >>> round(float(texture.std()), 3)
    2.236
    """
    plain = plain_texture(tumour, random)
    if amplitude == 0:
        return plain
    noise = smoothed_noise(tumour.shape, COARSE_MM if methylated else FINE_MM, random)
    both = plain + np.float32(amplitude) * _standardise(noise, tumour)
    return _standardise(both, tumour) * np.float32((1 + amplitude**2) ** 0.5)
