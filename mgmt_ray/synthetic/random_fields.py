"""Random fields: the stuff of phantom brains, tumour shapes and planted textures."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32

COARSE_MM = 5.0
FINE_MM = 1.0
"""Smoothness (deviation of the Gaussian) of the two textures.

Both survive averaging over 2×2×2 voxels: white noise would lose its deviation there, and the
textures would differ in strength, not in grain.
"""


def smoothed_noise(
    shape: tuple[int, ...], sigma: float, random: np.random.Generator
) -> Float32[np.ndarray, "depth height width"]:
    """Gaussian noise with mean 0 and deviation 1 at each voxel, smoothed by a Gaussian kernel.

    A lattice of independent numbers, one per ``sigma``, is spread by the kernel along each axis. A
    lattice as fine as the kernel is wide makes the field stationary to 1e-4 of its variance, and
    the cost falls with the cube of ``sigma``.

    Args:
        shape: of the field in voxels.
        sigma: deviation of the kernel in voxels, at least 1.
        random: the stream to draw from.
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
    """Coarse and fine noise in a random mixture: what a tumour looks like whatever its label.

    Returns:
        Mean 0 and deviation 1 inside the tumour, 0 outside.
    """
    share = np.float32(random.uniform())
    coarse = smoothed_noise(tumour.shape, COARSE_MM, random)
    fine = smoothed_noise(tumour.shape, FINE_MM, random)
    return standardise(share * coarse + (1 - share) * fine, tumour)


def label_texture(
    tumour: Bool[np.ndarray, "depth height width"], methylated: bool, random: np.random.Generator
) -> Float32[np.ndarray, "depth height width"]:
    """The planted sign: coarse noise in methylated tumours, fine noise in the others.

    Returns:
        Mean 0 and deviation 1 inside the tumour, 0 outside; only the grain tells the label.
    """
    sigma = COARSE_MM if methylated else FINE_MM
    return standardise(smoothed_noise(tumour.shape, sigma, random), tumour)


def standardise(
    field: Float32[np.ndarray, "depth height width"], tumour: Bool[np.ndarray, "depth height width"]
) -> Float32[np.ndarray, "depth height width"]:
    """A field with mean 0 and deviation 1 inside the tumour, and 0 outside."""
    inside = field[tumour].astype(np.float64)
    scaled = (field - np.float32(inside.mean())) / np.float32(inside.std())
    return np.where(tumour, scaled, np.float32(0))


def tumour_texture(
    tumour: Bool[np.ndarray, "depth height width"],
    methylated: bool,
    amplitude: float,
    random: np.random.Generator,
) -> Float32[np.ndarray, "depth height width"]:
    """Plain texture, with the label's texture on top where a signal is planted.

    Args:
        tumour: where the texture is.
        methylated: without effect at amplitude 0, down to the last bit.
        amplitude: deviation of the label's texture in units of the plain one's.
        random: the stream to draw from.

    Returns:
        Mean 0 and deviation (1 + amplitude²)^1/2 inside the tumour for either label, 0 outside.
    """
    plain = plain_texture(tumour, random)
    if amplitude == 0:
        return plain
    both = plain + np.float32(amplitude) * label_texture(tumour, methylated, random)
    return standardise(both, tumour) * np.float32((1 + amplitude**2) ** 0.5)
