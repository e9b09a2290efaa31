"""The study file: all that determines a study's results, in one YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from mgmt_ray.base import Config, InputPath, MgmtError, parse, write_text
from mgmt_ray.cohort.covariates import Covariate
from mgmt_ray.cohort.datasets import CohortConfig
from mgmt_ray.nets.build import NetworkConfig
from mgmt_ray.nets.myronenko import MIN_FACTOR
from mgmt_ray.nets.slice_classifier import SIDE
from mgmt_ray.preprocess.recipe import RecipeConfig, SliceRecipe
from mgmt_ray.splits.draw import SplitConfig
from mgmt_ray.study.baseline_config import FEATURE_SCANS, REGIONS, BaselineName, ForestConfig
from mgmt_ray.study.folder import OLD_BASELINES_KEY
from mgmt_ray.training.training_config import (
    ClassificationTraining,
    EvaluationConfig,
    SegmentationTraining,
    TrainingConfig,
)


class SlicePipelineConfig(Config):
    """Slices are segmented, then classified by image and predicted tumour.

    Chen et al. 2020, sec. 2.3 and 2.4.

    To the study it is a network that takes one modality and tells methylation: both stages of a
    fold together are one member of the ensembles.
    """

    pretrained: ClassVar[bool] = False
    covariates: ClassVar[tuple[Covariate, ...]] = ()
    start_from: ClassVar[None] = None

    kind: Literal["slices"]
    width: int = Field(
        32, ge=8, multiple_of=8, description="channels of the segmentation network's first stage"
    )
    cross_fitted: bool = Field(
        True,
        description="masks of a classifier's training slices come from a network that did not "
        "train on that patient; false takes them from the fold's one network, as the paper does",
    )
    parts: int = Field(
        3, ge=2, description="cross-fitted: parts of the training patients, each left out once"
    )
    segmentation: SegmentationTraining = SegmentationTraining()
    classification: ClassificationTraining = ClassificationTraining()

    @model_validator(mode="after")
    def _check_inner_folds_used(self) -> SlicePipelineConfig:
        if not self.cross_fitted and self.parts != type(self).model_fields["parts"].default:
            raise ValueError(
                "parts: with cross_fitted: false no part of the patients is left out. Take parts "
                "out, or write cross_fitted: true"
            )
        return self


class MaskSource(Config):
    """A finished study with a network of kind slices, whose segmentations predict masks."""

    study: InputPath = Field(description="folder of the finished slices study")
    network: str | None = Field(
        None, description="its network of kind slices; needed where it has several"
    )
    modality: str | None = Field(
        None, description="the scan that is segmented; FLAIR if that study has it, else its first"
    )


NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
"""What may become the name of a file."""

MIN_SIDE = 2 * MIN_FACTOR
"""What the sides of slices are multiples of."""

REPLACEMENT_HINTS = {
    "training": "what networks of slices train with is networks.NAME.segmentation and "
    "networks.NAME.classification",
    "recipe": "what they take is in slices",
    "evaluation": "their predictions draw nothing",
    "mask_source": "they find tumours themselves",
}
"""Sections that mean nothing to networks of slices, and what stands in their place."""


StudyNetwork = Annotated[NetworkConfig | SlicePipelineConfig, Field(discriminator="kind")]


class SweepConfig(Config):
    """Values to try; every combination becomes trials. Empty: the training's own value."""

    epochs: tuple[int, ...] = ()
    learning_rate: tuple[float, ...] = ()
    agent_learning_rate: tuple[float, ...] = ()
    temperature: tuple[float, ...] = ()


class StudyConfig(Config):
    """A study's stages, in the order in which they run."""

    name: str = Field(pattern=NAME)
    seed: int = Field(0, description="of training; every stream is derived from it")
    cohort: CohortConfig
    external: dict[Annotated[str, Field(pattern=NAME)], CohortConfig] = Field(
        {}, description="cohorts by name that the finished models predict, and nothing else"
    )
    mask_source: MaskSource | None = Field(
        None, description="finished slices study that predicts masks (see `cohort.mask`)"
    )
    checkpoint: InputPath | None = Field(None, description="MedicalNet's .pth file")
    recipe: RecipeConfig = RecipeConfig()
    slices: SliceRecipe = Field(SliceRecipe(), description="what networks of kind slices take")
    split: SplitConfig = SplitConfig()
    inputs: tuple[Annotated[tuple[str, ...], Field(min_length=1)], ...] = Field(
        (), description="channels of each model; empty: every modality alone"
    )
    networks: dict[Annotated[str, Field(pattern=NAME)], StudyNetwork] = Field(min_length=1)
    training: TrainingConfig = TrainingConfig()
    sweep: SweepConfig = SweepConfig()
    num_seeds: int = Field(1, ge=1, description="trainings of each network, input and fold")
    evaluation: EvaluationConfig = EvaluationConfig()
    baselines: tuple[BaselineName, ...] = Field(
        (), description="models that no network is part of, fitted and tested beside the networks"
    )
    forest: ForestConfig = ForestConfig()

    @model_validator(mode="after")
    def _check_inputs(self) -> StudyConfig:
        unknown = sorted({c for channels in self.inputs for c in channels} - {*self.modalities})
        if unknown:
            raise ValueError(f"inputs: {', '.join(unknown)} not in cohort.modalities")
        if len(set(self.inputs)) < len(self.inputs) or any(
            len(set(c)) < len(c) for c in self.inputs
        ):
            raise ValueError("inputs: one is listed twice, or has a channel twice")
        for name, values in self.sweep.model_dump().items():
            if len(set(values)) < len(values):
                raise ValueError(f"sweep.{name}: a value is listed twice")
            for value in values:
                try:
                    TrainingConfig.model_validate({name: value})
                except ValidationError as error:
                    raise ValueError(f"sweep.{name}: {error.errors()[0]['msg']}") from error
        return self

    @model_validator(mode="after")
    def _check_slices(self) -> StudyConfig:
        if not self.takes_slices:
            return self
        if any(len(channels) > 1 for channels in self.inputs):
            raise ValueError(
                "inputs: a network of kind slices takes one modality at a time. Leave inputs away, "
                "or put that network into a study of its own"
            )
        if any(side % MIN_SIDE for side in self.slices.shape):
            raise ValueError(
                f"slices.shape: {self.slices.shape[0]} × {self.slices.shape[1]}, and networks of "
                f"kind slices take multiples of {MIN_SIDE}"
            )
        if max(self.slices.shape) > SIDE:
            raise ValueError(
                f"slices.shape: {self.slices.shape[0]} × {self.slices.shape[1]}, of which the "
                f"classifier sees {SIDE} × {SIDE} around the middle of the tumour's box, and so "
                "may miss some of it. Raise slices.shrink until the brain fits into sides of at "
                f"most {SIDE}"
            )
        if not self.takes_volumes and any(self.sweep.model_dump().values()):
            raise ValueError("sweep: networks of kind slices have nothing swept; take it out")
        return self

    @model_validator(mode="after")
    def _check_sections_used(self) -> StudyConfig:
        """Defaults are no fault: the study that is written beside the results has them all."""
        changed = {
            name
            for name in (*REPLACEMENT_HINTS, "slices")
            if getattr(self, name) != type(self).model_fields[name].default
        }
        for name, instead in REPLACEMENT_HINTS.items():
            if name in changed and not self.takes_volumes:
                raise ValueError(
                    f"{name}: is for networks of volumes, and this study has none ({instead}). "
                    "Take it out"
                )
        if "slices" in changed and not self.takes_slices:
            raise ValueError(
                "slices: is for networks of kind slices, and this study has none. Take it out"
            )
        return self

    @model_validator(mode="after")
    def _check_mask_source(self) -> StudyConfig:
        named = {"cohort": self.cohort} | {f"external.{n}": c for n, c in self.external.items()}
        predicted = {name: c.mask for name, c in named.items() if c.mask != "given"}
        if "cohort" in predicted and self.takes_slices:
            raise ValueError(
                f"cohort.mask: {self.cohort.mask}, and networks of kind slices learn from given "
                "masks. Write given, or put that network into a study of its own"
            )
        if predicted and self.takes_volumes and self.mask_source is None:
            name, mask = next(iter(predicted.items()))
            raise ValueError(
                f"{name}.mask: {mask}, and nothing says by which networks. Name the folder of a "
                "finished slices study: `mask_source: {study: FOLDER}`"
            )
        if "cohort" in predicted and "radiomics_forest" in self.baselines:
            raise ValueError(
                "baselines: radiomics_forest needs masks that tell necrosis, edema and enhancing "
                f"tumour apart, and with cohort.mask: {self.cohort.mask} they tell tumour alone. "
                "Take it out"
            )
        return self

    @model_validator(mode="after")
    def _check_baselines(self) -> StudyConfig:
        if len(set(self.baselines)) < len(self.baselines):
            raise ValueError("baselines: one is listed twice")
        taken = sorted({*self.baselines} & {*self.networks})
        if taken:
            raise ValueError(f"networks: {', '.join(taken)} is a comparison model; rename it")
        if "radiomics_forest" not in self.baselines:
            return self
        lacking = [m for m in FEATURE_SCANS if m not in self.modalities]
        if lacking:
            raise ValueError(
                f"baselines: radiomics_forest takes {', '.join(lacking)}, not in "
                "cohort.modalities. Add it there, or take radiomics_forest out"
            )
        labels = {label for region in REGIONS.values() for label in region}
        if not labels <= {*self.cohort.mask_labels}:
            raise ValueError(
                "baselines: radiomics_forest needs masks that tell necrosis (1), edema (2) and "
                "enhancing tumour (4) apart, and cohort.mask_labels lacks one. Take it out"
            )
        return self

    @property
    def takes_slices(self) -> bool:
        """Whether a network takes slices."""
        return any(isinstance(n, SlicePipelineConfig) for n in self.networks.values())

    @property
    def takes_volumes(self) -> bool:
        """Whether a network takes volumes."""
        return any(isinstance(n, NetworkConfig) for n in self.networks.values())

    @property
    def modalities(self) -> tuple[str, ...]:
        """All modalities that the study reads."""
        return self.cohort.modalities

    @property
    def model_inputs(self) -> tuple[tuple[str, ...], ...]:
        """Channels of each model."""
        return self.inputs or tuple((m,) for m in self.modalities)


def load_study(path: Path, data: Path | None = None, checkpoint: Path | None = None) -> StudyConfig:
    """Read a study file.

    Args:
        path: the YAML; paths in it are relative to its folder.
        data: the data set's folder, instead of ``cohort.root``.
        checkpoint: the pretrained weights, instead of ``checkpoint``.

    Raises:
        MgmtError: no such file, not YAML, an unknown key or a wrong value; names the key's path.
    """
    if not path.is_file():
        raise MgmtError(f"{path}: no such study file. Shipped ones are in jobs/studies/.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = " ".join(str(error).split())
        raise MgmtError(f"{path}: is not YAML ({where}). Mend that line.") from error
    if not isinstance(content, dict) or not isinstance(content.get("cohort"), dict):
        raise MgmtError(f"{path}: has no `cohort:` section, so it is not a study file.")
    if OLD_BASELINES_KEY in content:
        raise MgmtError(
            f"{path}: `{OLD_BASELINES_KEY}` is an earlier version's key. Write `baselines`, and "
            "recipe.noise_std for recipe.noise_deviation."
        )
    if data is not None:
        content["cohort"]["root"] = data.absolute()
    if checkpoint is not None:
        content["checkpoint"] = checkpoint.absolute()
    if "root" not in content["cohort"]:
        raise MgmtError(
            f"{path}: does not say where the data set is. "
            "Give its folder with --data DIR, or set cohort.root."
        )
    return parse(StudyConfig, content, str(path), path.parent)


def write_study(study: StudyConfig, path: Path) -> None:
    """Write the resolved study, defaults included, unless just that is there already."""
    text = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
