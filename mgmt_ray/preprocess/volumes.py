"""One subject's volumes, from its files to the arrays that networks read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import SimpleITK
from jaxtyping import Bool, Float16

from mgmt_ray.base import MgmtError, stream
from mgmt_ray.cohort.check import check_pair, read_scan
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.preprocess import augment
from mgmt_ray.preprocess.intensity import scale_to_unit
from mgmt_ray.preprocess.recipe import RecipeConfig, kind_of, versions
from mgmt_ray.preprocess.spatial import (
    ClippedTumour,
    Window,
    bounding_box,
    count_clipped,
    crop,
    describe_window,
    padding_before,
    place,
    shrink_mask,
    shrink_volume,
    tumour_window,
)

Made: TypeAlias = tuple[Float16[np.ndarray, "version depth height width"], list[augment.Drawn]]
"""A modality's volumes of one subject, and per version what was drawn for it."""


@dataclass(frozen=True, slots=True)
class _Tumour:
    """Where a subject's tumour is, in the scan and on the network's grid.

    Attributes:
        part: the window of the scan that is read, on whole blocks.
        fine: tumour mask within ``part``, voxels of the scan.
        at: where ``part`` begins on the network's grid.
        coarse: tumour mask on the network's grid.
        image: the whole mask as it was read.
        num_clipped: tumour voxels of the scan outside the recipe's window.
    """

    part: Window
    fine: Bool[np.ndarray, "depth height width"]
    at: tuple[int, int, int]
    coarse: Bool[np.ndarray, "d h w"]
    image: SimpleITK.Image
    num_clipped: int


def make_versions(
    subject: Subject, modality: str, recipe: RecipeConfig, which: Sequence[str]
) -> Made:
    """A subject's volumes of one modality (see :func:`make_volumes`)."""
    return make_volumes(subject, {modality: which}, recipe)[modality]


def make_volumes(
    subject: Subject, wanted: Mapping[str, Sequence[str]], recipe: RecipeConfig
) -> dict[str, Made]:
    """Prepare and augment several modalities of a subject; the mask is read once.

    A geometric version is the same movement in every modality; noise is drawn for each. What is
    made does not depend on what else is made in the same call.

    Args:
        subject: its files are read.
        wanted: names of versions (see :func:`versions`) by modality.
        recipe: what is done.

    Returns:
        By modality float16 volumes in [0, 1], exactly 0 outside the tumour, in the order wanted.
        The drawn parameters also tell ``clipped_voxels``, the tumour voxels of the scan outside
        the window, and ``tumour_voxels``, those of the version.

    Raises:
        MgmtError: a file is damaged or does not fit its mask or the window, the tumour is empty or
            clipped, a volume has no range, or nothing of a tumour is left after a movement.
    """
    unknown = sorted({v for names in wanted.values() for v in names} - set(versions(recipe)))
    assert not unknown, f"versions {unknown} are not in the recipe"
    tumour = _find_tumour(subject, recipe)
    originals = {m: _prepare(subject, m, tumour, recipe) for m in wanted}
    volumes: dict[tuple[str, str], np.ndarray] = {}
    drawn: dict[tuple[str, str], augment.Drawn] = {}
    for version in dict.fromkeys(v for names in wanted.values() for v in names):
        sources = {m: originals[m] for m, names in wanted.items() if version in names}
        made, mask, parameters = _vary(subject, sources, tumour.coarse, version, recipe)
        counts = {
            "clipped_voxels": tumour.num_clipped,
            "tumour_voxels": int(np.count_nonzero(mask)),
        }
        for modality, volume in made.items():
            volumes[modality, version] = volume.astype(np.float16)
            drawn[modality, version] = {**parameters, **counts}
    return {
        m: (np.stack([volumes[m, v] for v in names]), [drawn[m, v] for v in names])
        for m, names in wanted.items()
    }


def _find_tumour(subject: Subject, recipe: RecipeConfig) -> _Tumour:
    image = read_scan(subject.mask)
    mask = SimpleITK.GetArrayViewFromImage(image) > 0
    if any(stop > size for (_, stop), size in zip(recipe.window, mask.shape, strict=True)):
        raise MgmtError(
            f"subject {subject.id}: the window {describe_window(recipe.window)} reaches beyond the "
            f"scan of {'×'.join(map(str, mask.shape))} voxels (depth × height × width). "
            "Fit recipe.window to the cohort's scans."
        )
    box = bounding_box(mask)
    if box is None:
        raise MgmtError(
            f"subject {subject.id}: the tumour mask {subject.mask} is empty. Mend the file, or "
            "leave the subject out with cohort.exclude."
        )
    clipped, total = count_clipped(mask, recipe.window), int(np.count_nonzero(mask))
    if clipped == total or (clipped and not recipe.allow_clipping):
        raise ClippedTumour(subject.id, clipped, total, box, recipe.window)
    part = tumour_window(box, recipe.window, recipe.shrink)
    fine = crop(mask, part)
    kept = tuple((stop - start) // recipe.shrink for start, stop in recipe.window)
    before = padding_before((kept[0], kept[1], kept[2]), recipe.shape)
    depth, height, width = (
        pad + (low - start) // recipe.shrink
        for pad, (low, _), (start, _) in zip(before, part, recipe.window, strict=True)
    )
    at = (depth, height, width)
    coarse = place(shrink_mask(fine, recipe.shrink), at, recipe.shape)
    return _Tumour(part, fine, at, coarse, image, clipped)


def _prepare(
    subject: Subject, modality: str, tumour: _Tumour, recipe: RecipeConfig
) -> augment.Volume:
    path = subject.scans[modality]
    image = read_scan(path)
    check_pair(image, tumour.image, path, subject.mask)
    scan = SimpleITK.GetArrayViewFromImage(image)  # valid only as long as ``image`` lives
    small = shrink_volume(crop(scan, tumour.part), tumour.fine, recipe.shrink)
    volume = place(small, tumour.at, recipe.shape)
    return scale_to_unit(volume, tumour.coarse, f"subject {subject.id}, {modality}")


def _vary(
    subject: Subject,
    sources: Mapping[str, np.ndarray],
    mask: augment.Mask,
    version: str,
    recipe: RecipeConfig,
) -> augment.Moved:
    draws = stream(recipe.seed, "augment", subject.id, version)
    made: augment.Moved
    match kind_of(version):
        case "original":
            return dict(sources), mask, {}
        case "noise":
            noisy = {}
            for modality, volume in sources.items():
                own = stream(recipe.seed, "augment", subject.id, version, modality)
                noisy[modality], drawn = augment.add_noise(
                    volume, mask, recipe.noise_deviation, own
                )
            return noisy, mask, drawn
        case "flip":
            made = augment.flip(sources, mask)
        case "rotate":
            made = augment.rotate(sources, mask, draws)
        case "deform":
            sigma, points = recipe.deform_sigma_voxels, recipe.deform_points
            made = augment.deform(sources, mask, sigma, points, draws)
        case kind:
            raise AssertionError(f"no such augmentation: {kind}")
    if not made[1].any():
        raise MgmtError(
            f"subject {subject.id}: version {version} moves the whole tumour off the grid. Make "
            "recipe.shape as high as wide, lower recipe.deform_sigma_voxels, or take another "
            "recipe.seed."
        )
    return made
