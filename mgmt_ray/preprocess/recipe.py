"""The recipes by which a study's volumes and slices are made from its scans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

from pydantic import Field, PositiveInt, model_validator

from mgmt_ray.base import Config, fingerprint, later_key
from mgmt_ray.preprocess.spatial import Window, describe_window

Augmentation: TypeAlias = Literal["flip", "rotate", "noise", "deform"]

AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)


PAPER_SHAPE = (70, 86, 86)
PAPER_DEFORM_SIGMA_VOXELS = 5.0


def proportional_sigma(shape: Sequence[int]) -> float:
    """Return the paper's deformation in voxels of another volume.

    Displacements keep their proportion to the distance of the deformation grid's points along the
    axis that is shortest compared with the paper's: on a smaller volume the paper's number of
    voxels would tear tumours apart.

    >>> proportional_sigma((70, 86, 86)), proportional_sigma((35, 43, 43))
    (5.0, 2.5)
    """
    return PAPER_DEFORM_SIGMA_VOXELS * min(
        size / paper for size, paper in zip(shape, PAPER_SHAPE, strict=True)
    )


class RecipeConfig(Config):
    """How scans become volumes; the defaults are those of Schmitz et al. 2024.

    The paper does not specify the noise: 0.1 and the clipping to [0, 1] come from its reference
    code (scikit-image's ``random_noise``), as does the deformation grid of 3 points.
    """

    window: Window = Field(
        ((0, 140), (39, 211), (44, 208)),
        description="voxels kept along depth, height and width, as [start, stop) of the scan",
    )
    shrink: int = Field(2, ge=1, description="voxels averaged into one along each axis")
    shape: tuple[int, int, int] = Field(
        PAPER_SHAPE, description="depth, height, width of a volume after padding both sides"
    )
    resample: bool = Field(
        False,
        description="bring scans onto their mask's grid by linear interpolation where they are on "
        "another one, instead of raising an error",
    )
    allow_clipping: bool = Field(
        False, description="accept tumours that the window cuts instead of raising an error"
    )
    noise_std: float = Field(
        0.1, ge=0, le=1, description="standard deviation of the added noise; volumes span 0 to 1"
    )
    deform_sigma_voxels: float = Field(
        default_factory=lambda given: proportional_sigma(given.get("shape", PAPER_SHAPE)),
        ge=0,
        description="standard deviation of the deformation grid's displacements after shrinking; "
        "left out, the paper's 5 on its 70 × 86 × 86 voxels, and in proportion on others",
    )
    deform_points: int = Field(3, ge=2, description="deformation grid points along each axis")
    augmentations: tuple[Augmentation, ...] = later_key(
        AUGMENTATIONS, min_length=1, description="which augmentations are applied"
    )
    rounds: int = Field(1, ge=0, description="how often each augmentation is applied")
    seed: int = Field(0, description="random seed of the augmentations")

    @model_validator(mode="after")
    def _check_shape(self) -> RecipeConfig:
        if len(set(self.augmentations)) < len(self.augmentations):
            raise ValueError("augmentations: one is listed twice. Raise rounds to repeat them all")
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
    """Return the names of a subject's volumes: the original and each round of augmentations.

    A flip is not random, so ``flip-2`` equals ``flip``; it exists so that every round has all
    augmentations.

    >>> versions(RecipeConfig())
    ('original', 'flip', 'rotate', 'noise', 'deform')
    >>> versions(RecipeConfig(rounds=2))[5:]
    ('flip-2', 'rotate-2', 'noise-2', 'deform-2')
    >>> versions(RecipeConfig(augmentations=("flip", "noise")))
    ('original', 'flip', 'noise')
    """
    kinds = recipe.augmentations
    names = ["original", *kinds] if recipe.rounds else ["original"]
    names += [f"{kind}-{i}" for i in range(2, recipe.rounds + 1) for kind in kinds]
    return tuple(names)


def augmentation_of(version: str) -> str:
    """Return the augmentation of a version: ``original`` or one of :data:`AUGMENTATIONS`.

    >>> augmentation_of("rotate-2")
    'rotate'
    """
    return version.partition("-")[0]


def version_key(recipe: RecipeConfig, version: str, modality: str) -> str:
    """Return a fingerprint of exactly the parts of the recipe that a version's voxels depend on.

    ``allow_clipping`` is not among them: it decides whether a volume is accepted, not its voxels.
    The modality matters for noise alone, which is drawn for each modality.

    >>> noisier = RecipeConfig(noise_std=0.2)
    >>> [v for v in versions(noisier)
    ...  if version_key(noisier, v, "T1") != version_key(RecipeConfig(), v, "T1")]
    ['noise']
    """
    parts: dict[str, object] = {
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


class SliceRecipe(Config):
    """How scans become slices.

    All slices through the brain are stored: intensities are normalised over them, and a scan
    without a mask is segmented whole. Slices through the tumour are used for training and
    classification. In the paper (Chen et al. 2020) slices were annotated by hand on scans of about
    5 mm between slices, about 13 slices of each patient; it states neither their size nor how they
    were chosen.
    """

    shape: tuple[PositiveInt, PositiveInt] = Field(
        (128, 128), description="height and width of a slice, centred on the brain"
    )
    shrink: int = Field(2, ge=1, description="voxels averaged into one along height and width")
    least_tumour_voxels: int = Field(
        50,
        ge=1,
        description="tumour voxels that a slice through the tumour has at least, after shrinking; "
        "in a scan without a mask of the predicted tumour",
    )
    least_brain_voxels: int = Field(
        500,
        ge=1,
        description="brain voxels that a slice has at least, after shrinking; slices with any "
        "tumour are stored with fewer",
    )
    most_slices: int | None = Field(
        None,
        ge=1,
        description="most slices per tumour for training and classification, spread evenly over "
        "it; null takes all",
    )
    resample: bool = Field(
        False,
        description="bring scans onto their mask's grid by linear interpolation where they are on "
        "another one, instead of raising an error",
    )
