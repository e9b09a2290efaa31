"""The recipe of a study's volumes: what is done, under which names, and what depends on what."""

from __future__ import annotations

from pydantic import Field, PositiveInt, model_validator

from mgmt_ray.base import Config, fingerprint
from mgmt_ray.preprocess.spatial import Window, describe_window

AUGMENTATIONS = ("flip", "rotate", "noise", "deform")
VOLUME_METHOD = 1
"""Raised whenever the same recipe would give other voxels, so that old volumes are not kept."""


class RecipeConfig(Config):
    """From scans to volumes; the defaults are those of Schmitz et al. 2024.

    The paper does not give the noise: 0.1 and the clipping to [0, 1] are those of the call in its
    reference code (scikit-image's ``random_noise``), as is the grid of 3 points.
    """

    window: Window = Field(
        ((0, 140), (39, 211), (44, 208)),
        description="voxels kept along depth, height and width, as [start, stop) of the scan",
    )
    shrink: int = Field(2, ge=1, description="voxels averaged into one along each axis")
    shape: tuple[int, int, int] = Field(
        (70, 86, 86), description="depth, height, width of a volume after padding both sides"
    )
    resample: bool = Field(
        False,
        description="bring scans onto their mask's grid by linear interpolation where they are on "
        "another one, instead of raising an error",
    )
    allow_clipping: bool = Field(
        False, description="accept tumours that the window cuts instead of raising an error"
    )
    noise_std: float = Field(0.1, ge=0, le=1, description="of the added noise; volumes span 0 to 1")
    deform_sigma_voxels: float = Field(
        5.0, ge=0, description="deviation of the deformation grid's displacements after shrinking"
    )
    deform_points: int = Field(3, ge=2, description="deformation grid points along each axis")
    rounds: int = Field(1, ge=0, description="times that the four augmentations are made")
    seed: int = Field(0, description="of the augmentations' draws")

    @model_validator(mode="after")
    def _check_shape(self) -> RecipeConfig:
        for name, (start, stop), size in zip(
            ("depth", "height", "width"), self.window, self.shape, strict=True
        ):
            if not 0 <= start < stop:
                raise ValueError(
                    f"window along {name} is {start}:{stop}: give a start of at least 0 and a "
                    "larger stop"
                )
            if (stop - start) % self.shrink:
                raise ValueError(
                    f"window {describe_window(self.window)}: {stop - start} voxels along {name} "
                    f"cannot be shrunk by {self.shrink}. Make the extent a multiple of shrink"
                )
            if (stop - start) // self.shrink > size:
                raise ValueError(
                    f"window along {name} keeps {(stop - start) // self.shrink} voxels after "
                    f"shrinking, more than shape's {size}. Enlarge shape or narrow the window"
                )
        return self


def versions(recipe: RecipeConfig) -> tuple[str, ...]:
    """Names of a subject's volumes: ``original``, ``flip`` ... ``deform``, then ``flip-2`` ...

    A flip has nothing to draw, so ``flip-2`` equals ``flip``; it is there so that all rounds weigh
    the four kinds alike.
    """
    names = ["original", *AUGMENTATIONS] if recipe.rounds else ["original"]
    names += [f"{kind}-{i}" for i in range(2, recipe.rounds + 1) for kind in AUGMENTATIONS]
    return tuple(names)


def augmentation_of(version: str) -> str:
    """What is done to make a version: ``original`` or one of :data:`AUGMENTATIONS`."""
    return version.partition("-")[0]


def version_key(recipe: RecipeConfig, version: str, modality: str) -> str:
    """Fingerprint of exactly those parts of the recipe that a version's voxels depend on.

    ``allow_clipping`` is not among them: it decides whether a volume may be, not what it is.

    Args:
        recipe: whole.
        version: one of :func:`versions`.
        modality: the noise is drawn anew for each.
    """
    parts: dict[str, object] = {
        "method": VOLUME_METHOD,
        "window": recipe.window,
        "shrink": recipe.shrink,
        "shape": recipe.shape,
        "kind": augmentation_of(version),
        "resample": recipe.resample,
    }
    match augmentation_of(version):
        case "rotate":
            parts |= {"draws": [recipe.seed, version]}
        case "noise":
            parts |= {"draws": [recipe.seed, version, modality], "sd": recipe.noise_std}
        case "deform":
            parts |= {
                "draws": [recipe.seed, version],
                "sigma": recipe.deform_sigma_voxels,
                "points": recipe.deform_points,
            }
    return fingerprint(parts)


SLICE_METHOD = 2
"""Raised whenever the same recipe would give other slices, so that old ones are not kept."""


class SliceRecipe(Config):
    """From scans to slices.

    All slices through the brain are stored: intensities are normalised over them, and a scan
    without a mask is segmented whole. Those through the tumour train and are classified. The paper
    drew its slices by hand on scans of some 5 mm between slices, about 13 slices of each patient;
    it gives neither their size nor how they were chosen.
    """

    shape: tuple[PositiveInt, PositiveInt] = Field(
        (128, 128), description="height and width of a slice, centred on the brain"
    )
    shrink: int = Field(2, ge=1, description="voxels averaged into one along height and width")
    least_tumour_voxels: int = Field(
        50,
        ge=1,
        description="of a slice through the tumour, after shrinking; in a scan without a mask the "
        "predicted one",
    )
    least_brain_voxels: int = Field(
        500,
        ge=1,
        description="of a slice through the brain, after shrinking; a slice with any tumour is "
        "stored with less",
    )
    most_slices: int | None = Field(
        None,
        ge=1,
        description="through a tumour, spread evenly over it, that train and are classified; null "
        "takes all",
    )
    resample: bool = Field(
        False,
        description="bring scans onto their mask's grid by linear interpolation where they are on "
        "another one, instead of raising an error",
    )
