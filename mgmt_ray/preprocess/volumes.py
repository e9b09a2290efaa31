"""Making one subject's volumes: from its files to the arrays that networks read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float16, Float32

from mgmt_ray.base import MgmtError, stream_seed
from mgmt_ray.cohort.problem import VIEW_SCAN, BadScan
from mgmt_ray.cohort.scan import Scan, check_grid, read_mask, read_scan
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.preprocess import augment
from mgmt_ray.preprocess.recipe import RecipeConfig, augmentation_of, versions
from mgmt_ray.preprocess.spatial import (
    Window,
    bounding_box,
    check_window,
    crop,
    padding_before,
    paste,
    resample,
    shrink_mask,
    shrink_volume,
    tumour_window,
)


def scale_to_unit(
    volume: Float32[np.ndarray, "depth height width"],
    mask: Bool[np.ndarray, "depth height width"],
    path: Path,
) -> Float32[np.ndarray, "depth height width"]:
    """Scale a masked volume to [0, 1] by its minimum and maximum (Schmitz et al. 2024).

    The background's zeros count, as in the reference code: a positive image is divided by its
    maximum. Where a map has negative tumour values, its minimum is negative, and the background,
    which scaling would raise above 0, is set back to 0.

    Raises:
        BadScan: the volume is 0 everywhere in the mask, or has a value that is not finite.

    >>> volume = np.array([[[-4.0, 12.0, 0.0]]], np.float32)
    >>> scale_to_unit(volume, volume != 0, Path("S1_PSR.nii.gz")).tolist()
    [[[0.0, 1.0, 0.0]]]
    """
    low, high = float(volume.min()), float(volume.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        found = "tumour voxels are too large for single precision"
        raise BadScan(path, "not_finite", found, VIEW_SCAN)
    if low == high:
        raise BadScan(path, "constant", f"every tumour voxel is {low:g}", VIEW_SCAN)
    scaled = (volume - np.float32(low)) / np.float32(high - low)
    return np.where(mask, scaled, np.float32(0))


SubjectVolumes: TypeAlias = tuple[
    Float16[np.ndarray, "version depth height width"], list[augment.AugmentationParameters]
]
"""A modality's volumes of one subject, and the random draws and voxel counts per version."""


@dataclass(frozen=True, slots=True)
class _Tumour:
    """A subject's tumour, in the scan and on the network's grid.

    Attributes:
        part: the window of the scan that is read, on whole blocks.
        fine: tumour mask within ``part``, in voxels of the scan.
        position: where ``part`` begins on the network's grid.
        coarse: tumour mask on the network's grid.
        scan: the whole mask as it was read.
        num_clipped: tumour voxels of the scan outside the recipe's window.
    """

    part: Window
    fine: Bool[np.ndarray, "depth height width"]
    position: tuple[int, int, int]
    coarse: Bool[np.ndarray, "d h w"]
    scan: Scan
    num_clipped: int


def make_versions(
    subject: Subject, modality: str, recipe: RecipeConfig, which: Sequence[str]
) -> SubjectVolumes:
    """Make a subject's volumes of one modality (see :func:`make_volumes`)."""
    return make_volumes(subject, {modality: which}, recipe)[modality]


def make_volumes(
    subject: Subject, wanted: Mapping[str, Sequence[str]], recipe: RecipeConfig
) -> dict[str, SubjectVolumes]:
    """Prepare and augment several modalities of a subject; the mask is read once.

    A geometric augmentation is the same in every modality; noise is drawn for each modality. A
    volume does not depend on what else is made in the same call.

    Args:
        wanted: names of versions (see :func:`versions`) by modality.

    Returns:
        By modality: float16 volumes in [0, 1], exactly 0 outside the tumour, in the order of
        ``wanted``, and the parameters of each version: the ``seed`` of its random stream and its
        draws, ``clipped_voxels`` (tumour voxels of the scan outside the window) and
        ``tumour_voxels`` (of the version).

    Raises:
        MgmtError: a file is damaged or does not fit its mask or the window, the tumour is empty or
            clipped, a volume is constant, or an augmentation moves the whole tumour off the grid.
    """
    unknown = sorted({v for names in wanted.values() for v in names} - set(versions(recipe)))
    assert not unknown, f"versions {unknown} are not in the recipe"
    tumour = _find_tumour(subject, recipe)
    originals = {m: _prepare(subject, m, tumour, recipe) for m in wanted}
    shape = recipe.shape
    volumes = {m: np.zeros((len(names), *shape), np.float16) for m, names in wanted.items()}
    drawn: dict[tuple[str, str], augment.AugmentationParameters] = {}
    for version in dict.fromkeys(v for names in wanted.values() for v in names):
        sources = {m: originals[m] for m, names in wanted.items() if version in names}
        made, mask, parameters = _augment(subject, sources, tumour.coarse, version, recipe)
        counts = {
            "clipped_voxels": tumour.num_clipped,
            "tumour_voxels": int(np.count_nonzero(mask)),
        }
        for modality, volume in made.items():
            volumes[modality][wanted[modality].index(version), mask] = volume[mask]
            seed = _stream_seed(recipe, subject.id, version, modality)
            drawn[modality, version] = {**parameters, **counts, **seed}
    return {m: (volumes[m], [drawn[m, v] for v in names]) for m, names in wanted.items()}


def _find_tumour(subject: Subject, recipe: RecipeConfig) -> _Tumour:
    scan = read_mask(subject.required_mask, subject.conventions)
    mask = scan.voxels > 0
    clipped = check_window(
        mask, recipe.window, allow_clipping=recipe.allow_clipping, path=subject.required_mask
    )
    box = bounding_box(mask)
    assert box is not None
    part = tumour_window(box, recipe.window, recipe.shrink)
    fine = crop(mask, part)
    kept = tuple((stop - start) // recipe.shrink for start, stop in recipe.window)
    before = padding_before((kept[0], kept[1], kept[2]), recipe.shape)
    depth, height, width = (
        pad + (low - start) // recipe.shrink
        for pad, (low, _), (start, _) in zip(before, part, recipe.window, strict=True)
    )
    at = (depth, height, width)
    coarse = paste(shrink_mask(fine, recipe.shrink), at, recipe.shape)
    return _Tumour(part, fine, at, coarse, scan, clipped)


def _prepare(
    subject: Subject, modality: str, tumour: _Tumour, recipe: RecipeConfig
) -> augment.Volume:
    path = subject.scans[modality]
    scan = read_scan(path, subject.conventions)
    if recipe.resample:
        part = resample(scan, tumour.scan.grid, tumour.part)
    else:
        check_grid(scan, tumour.scan, path, subject.required_mask)
        part = crop(scan.voxels, tumour.part)
    small = shrink_volume(part, tumour.fine, recipe.shrink)
    volume = paste(small, tumour.position, recipe.shape)
    return scale_to_unit(volume, tumour.coarse, path)


def _augment(
    subject: Subject,
    sources: Mapping[str, np.ndarray],
    mask: augment.Mask,
    version: str,
    recipe: RecipeConfig,
) -> augment.Augmented:
    augmented: augment.Augmented
    match augmentation_of(version):
        case "original":
            return dict(sources), mask, {}
        case "noise":
            noisy = {}
            for modality, volume in sources.items():
                random = _random(recipe, subject.id, version, modality)
                noisy[modality], drawn = augment.add_noise(volume, mask, recipe.noise_std, random)
            return noisy, mask, drawn
        case "flip":
            augmented = augment.flip(sources, mask)
        case "rotate":
            augmented = augment.rotate(sources, mask, _random(recipe, subject.id, version))
        case "deform":
            sigma, points = recipe.deform_sigma_voxels, recipe.deform_points
            random = _random(recipe, subject.id, version)
            augmented = augment.deform(sources, mask, sigma, points, random)
        case kind:
            raise AssertionError(f"no such augmentation: {kind}")
    if not augmented[1].any():
        raise MgmtError(
            f"{subject.mask}: version {version} moves the whole tumour off the grid. Make "
            "recipe.shape as high as wide, lower recipe.deform_sigma_voxels, or use another "
            "recipe.seed."
        )
    return augmented


def _random(
    recipe: RecipeConfig, subject: str, version: str, modality: str = ""
) -> np.random.Generator:
    return np.random.default_rng(**_stream_seed(recipe, subject, version, modality))


def _stream_seed(
    recipe: RecipeConfig, subject: str, version: str, modality: str = ""
) -> dict[str, int]:
    """Return the ``seed`` of a version's random stream; nothing for the original and flips.

    Noise has one stream for each modality, a geometric augmentation one for all modalities.
    """
    match augmentation_of(version):
        case "rotate" | "deform":
            return {"seed": stream_seed(recipe.seed, "augment", subject, version)}
        case "noise":
            return {"seed": stream_seed(recipe.seed, "augment", subject, version, modality)}
        case _:
            return {}
