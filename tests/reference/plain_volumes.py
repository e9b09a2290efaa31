"""A subject's volumes written anew, the straightforward way, to compare the package with.

After Schmitz et al. 2024, step by step on whole images in float64: every version reads its files
again. It shares nothing with ``mgmt_ray.preprocess`` but the recipe's fields and the names of the
random streams.
"""

from __future__ import annotations

from pathlib import Path

import elasticdeform
import numpy as np
import SimpleITK
from scipy import ndimage

from mgmt_ray.base import stream
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.preprocess.recipe import RecipeConfig


def plain_version(
    subject: Subject, modality: str, version: str, recipe: RecipeConfig
) -> tuple[np.ndarray, np.ndarray]:
    """One version of one modality from its files.

    Args:
        subject: its scans lie in LPS order, as SimpleITK reads them.
        modality: one of its scans.
        version: ``original``, ``flip``, ``rotate``, ``noise`` or ``deform``, or one with a round
            (``flip-2``).
        recipe: without resampling.

    Returns:
        The volume in [0, 1] and its tumour mask, both [depth, height, width].
    """
    volume, tumour = plain_original(subject, modality, recipe)
    draws = stream(recipe.seed, "augment", subject.id, version)
    match version.split("-")[0]:
        case "original":
            return volume, tumour
        case "flip":
            return volume[:, :, ::-1], tumour[:, :, ::-1]
        case "rotate":
            angle = draws.uniform(-180, 180)
            turned = ndimage.rotate(volume, angle, axes=(1, 2), reshape=False, order=1)
            weight = ndimage.rotate(
                tumour.astype(float), angle, axes=(1, 2), reshape=False, order=1
            )
            return mean_inside(turned, weight)
        case "noise":
            draws = stream(recipe.seed, "augment", subject.id, version, modality)
            noise = np.zeros(volume.shape)
            noise[tumour] = draws.standard_normal(tumour.sum(), dtype=np.float32)
            noisy = np.clip(volume + recipe.noise_std * noise, 0, 1)
            return np.where(tumour, noisy, 0), tumour
        case "deform":
            points = (recipe.deform_points,) * 3
            grid = draws.normal(0, recipe.deform_sigma_voxels, (3, *points))
            bent = elasticdeform.deform_grid(volume, grid, order=1)
            weight = elasticdeform.deform_grid(tumour.astype(float), grid, order=1)
            return mean_inside(bent, weight)
    raise AssertionError(f"no such version: {version}")


def plain_original(
    subject: Subject, modality: str, recipe: RecipeConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Mask, crop, shrink over tumour voxels, pad, scale to [0, 1], background back to 0."""
    tumour = read_array(subject.mask) > 0
    image = np.where(tumour, read_array(subject.scans[modality]).astype(float), 0)
    window = tuple(slice(start, stop) for start, stop in recipe.window)
    image, tumour = image[window], tumour[window]
    n = recipe.shrink
    depth, height, width = (size // n for size in image.shape)
    blocks = (depth, n, height, n, width, n)
    number = tumour.reshape(blocks).sum(axis=(1, 3, 5))
    small = image.reshape(blocks).sum(axis=(1, 3, 5)) / np.maximum(number, 1)
    missing = [want - have for want, have in zip(recipe.shape, small.shape, strict=True)]
    pads = [(lack // 2, lack - lack // 2) for lack in missing]
    small, tumour = np.pad(small, pads), np.pad(number > 0, pads)
    scaled = (small - small.min()) / (small.max() - small.min())
    return np.where(tumour, scaled, 0), tumour


def mean_inside(total: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interpolated values of tumour voxels alone, where the tumour weighs at least half."""
    inside = weight >= 0.5
    return np.where(inside, total / np.where(inside, weight, 1), 0), inside


def read_array(path: Path) -> np.ndarray:
    """An image as SimpleITK gives it, [depth, height, width]."""
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
