"""The study file: one YAML that determines a study's results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import yaml
from pydantic import Field, model_validator

from mgmt_ray.base import (
    Config,
    InputPath,
    MgmtError,
    did_you_mean,
    expand_path,
    later_key,
    parse,
    write_text,
)
from mgmt_ray.cohort.covariates import Covariate
from mgmt_ray.cohort.datasets import CohortConfig
from mgmt_ray.nets.build import VolumeNetworkConfig
from mgmt_ray.nets.myronenko import MIN_FACTOR, SegmentationStart
from mgmt_ray.nets.slice_classifier import SIDE, BatchNorms
from mgmt_ray.preprocess.recipe import RecipeConfig, SliceRecipe
from mgmt_ray.splits.draw import SplitConfig
from mgmt_ray.study.baseline_config import FEATURE_SCANS, BaselineName, ForestConfig
from mgmt_ray.study.folder import OLD_BASELINES_KEY
from mgmt_ray.study.search_config import SearchConfig, check_search, replace_values
from mgmt_ray.study.yaml_file import check_study_file, read_yaml
from mgmt_ray.training.training_config import (
    ClassificationTraining,
    EvaluationConfig,
    SegmentationTraining,
    TrainingConfig,
)


class SlicePipelineConfig(Config):
    """A pipeline that segments slices, then classifies them by image and predicted tumour mask.

    Chen et al. 2020, sec. 2.3 and 2.4. The study treats it as a network that predicts
    methylation: both networks of a fold together are one member of the ensembles.
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
        "train on that patient; false uses the fold's single network, as the paper does",
    )
    parts: int = Field(
        3, ge=2, description="cross-fitted: parts of the training patients, each left out once"
    )
    initialisation: SegmentationStart = later_key(
        "glorot",
        description="of the segmentation's kernels: glorot is Keras's default, he the classifier's",
    )
    convolutions: int = later_key(
        2, ge=2, le=5, description="of the classifier; the paper tried 2 to 5 and chose 2"
    )
    batch_norm: BatchNorms = later_key(
        "pytorch", description="whose momentum and ε the classifier's BatchNorm has"
    )
    segmentations_of: str | None = later_key(
        None,
        description="another network of kind slices whose segmentations are used instead of own "
        "ones; both must describe the same",
    )
    segmentation: SegmentationTraining = SegmentationTraining()
    classification: ClassificationTraining = ClassificationTraining()

    @model_validator(mode="after")
    def _check_inner_folds_used(self) -> SlicePipelineConfig:
        if not self.cross_fitted and self.parts != type(self).model_fields["parts"].default:
            raise ValueError(
                "parts: has no effect with cross_fitted: false. Remove parts, or write "
                "cross_fitted: true"
            )
        return self


class MaskSource(Config):
    """A finished study with a network of kind slices, whose segmentation networks predict masks."""

    study: InputPath = Field(description="folder of the finished slices study")
    network: str | None = Field(
        None, description="its network of kind slices; required where it has several"
    )
    modality: str | None = Field(
        None,
        description="the input that is segmented, such as FLAIR+T1GD for two channels; FLAIR if "
        "that study has it, else its first",
    )


NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
"""Pattern of names that are used in file names."""

MIN_SIDE = 2 * MIN_FACTOR
"""The sides of slices are multiples of this number of pixels."""

StudyNetwork = Annotated[VolumeNetworkConfig | SlicePipelineConfig, Field(discriminator="kind")]

PipelineName: TypeAlias = Literal["volumes", "slices"]
"""What networks are trained on; each has an implementation in :mod:`mgmt_ray.trials.pipelines`."""


SECTIONS_OF_PIPELINES: dict[str, tuple[PipelineName, str]] = {
    "training": (
        "volumes",
        " (networks of kind slices use networks.NAME.segmentation and "
        "networks.NAME.classification)",
    ),
    "recipe": ("volumes", " (networks of kind slices use the section slices)"),
    "evaluation": ("volumes", " (networks of kind slices have no policy to draw from)"),
    "mask_source": ("volumes", " (networks of kind slices segment tumours themselves)"),
    "slices": ("slices", ""),
}
"""Sections that apply to one pipeline only, and what applies to the other."""


class StudyConfig(Config):
    """A study: data, splits, networks, training and evaluation."""

    name: str = Field(pattern=NAME)
    seed: int = Field(0, description="of training; every random stream is derived from it")
    cohort: CohortConfig
    external: dict[Annotated[str, Field(pattern=NAME)], CohortConfig] = Field(
        {}, description="further cohorts by name, which the finished models only predict"
    )
    mask_source: MaskSource | None = Field(
        None, description="finished slices study that predicts masks (see `cohort.mask`)"
    )
    checkpoint: InputPath | None = Field(None, description="MedicalNet's .pth file")
    recipe: RecipeConfig = RecipeConfig()
    slices: SliceRecipe = Field(
        SliceRecipe(), description="preprocessing for networks of kind slices"
    )
    split: SplitConfig = SplitConfig()
    inputs: tuple[Annotated[tuple[str, ...], Field(min_length=1)], ...] = Field(
        (), description="channels of each model; empty: each modality alone"
    )
    networks: dict[Annotated[str, Field(pattern=NAME)], StudyNetwork] = Field(min_length=1)
    training: TrainingConfig = TrainingConfig()
    search: SearchConfig | None = later_key(
        None, description="values to try, of which the best on validation are taken"
    )
    num_seeds: int = Field(1, ge=1, description="repetitions of each network, input and fold")
    evaluation: EvaluationConfig = EvaluationConfig()
    test_register: InputPath | None = Field(
        None,
        description="file in which each access to test subjects is entered, shared by the studies "
        "of a data set",
    )
    baselines: tuple[BaselineName, ...] = Field(
        (), description="baseline models without a network, fitted and tested like the networks"
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
            raise ValueError("inputs: an input is listed twice, or has a channel twice")
        if self.search is not None:
            check_search(self.search, self.training, self.networks)
        return self

    @model_validator(mode="after")
    def _check_slices(self) -> StudyConfig:
        if "slices" not in self.pipelines:
            return self
        for name, network in self.networks.items():
            if isinstance(network, SlicePipelineConfig):
                _check_shared_segmentations(name, network, self.networks)
        if any(side % MIN_SIDE for side in self.slices.shape):
            raise ValueError(
                f"slices.shape: {self.slices.shape[0]} × {self.slices.shape[1]}, but networks of "
                f"kind slices need multiples of {MIN_SIDE}"
            )
        if max(self.slices.shape) > SIDE:
            raise ValueError(
                f"slices.shape: {self.slices.shape[0]} × {self.slices.shape[1]}, of which the "
                f"classifier crops {SIDE} × {SIDE} around the centre of the tumour's bounding box, "
                "which may cut it. Raise slices.shrink until the brain fits into sides of at most "
                f"{SIDE}"
            )
        return self

    @model_validator(mode="after")
    def _check_sections_used(self) -> StudyConfig:
        """Accept defaults: the study file that is written next to the results has all of them."""
        for name, (pipeline, hint) in SECTIONS_OF_PIPELINES.items():
            if pipeline in self.pipelines:
                continue
            if getattr(self, name) != type(self).model_fields[name].default:
                kind = "of kind slices" if pipeline == "slices" else "of volumes"
                raise ValueError(
                    f"{name}: is for networks {kind}, and this study has none{hint}. Remove it"
                )
        return self

    @model_validator(mode="after")
    def _check_mask_source(self) -> StudyConfig:
        cohorts = {"cohort": self.cohort} | {f"external.{n}": c for n, c in self.external.items()}
        predicted = {name: c.mask for name, c in cohorts.items() if c.mask != "given"}
        if "cohort" in predicted and "slices" in self.pipelines:
            raise ValueError(
                f"cohort.mask: {self.cohort.mask}, but networks of kind slices train on given "
                "masks. Write given, or put that network into its own study"
            )
        if predicted and "volumes" in self.pipelines and self.mask_source is None:
            name, mask = next(iter(predicted.items()))
            raise ValueError(
                f"{name}.mask: {mask}, but mask_source is missing. Give the folder of a finished "
                "slices study: `mask_source: {study: FOLDER}`"
            )
        if "cohort" in predicted and "radiomics_forest" in self.baselines:
            raise ValueError(
                "baselines: radiomics_forest needs masks that distinguish necrosis, edema and "
                f"enhancing tumour, and with cohort.mask: {self.cohort.mask} they mark only "
                "tumour. Remove it"
            )
        return self

    @model_validator(mode="after")
    def _check_baselines(self) -> StudyConfig:
        if self.baselines and self.split.test_set == "per_modality":
            raise ValueError(
                "baselines: models are compared on the same subjects only, and with "
                "split.test_set: per_modality these differ by modality. Remove them"
            )
        if len(set(self.baselines)) < len(self.baselines):
            raise ValueError("baselines: a model is listed twice")
        conflicts = sorted({*self.baselines} & {*self.networks})
        if conflicts:
            raise ValueError(f"networks: {', '.join(conflicts)} is a baseline model; rename it")
        if "first_order" in self.baselines and "volumes" not in self.pipelines:
            raise ValueError(
                "baselines: first_order measures the volumes that networks read, and this study "
                "has only networks of kind slices. Remove it"
            )
        if "radiomics_forest" not in self.baselines:
            return self
        missing = [m for m in FEATURE_SCANS if m not in self.modalities]
        if missing:
            raise ValueError(
                f"baselines: radiomics_forest needs {', '.join(missing)}, not in "
                "cohort.modalities. Add it there, or remove radiomics_forest"
            )
        if self.cohort.label_map is None:
            raise ValueError(
                "baselines: radiomics_forest needs to know which label of the masks is necrosis, "
                "edema and enhancing tumour. Write cohort.mask_labels: brats2021 (1, 2, 4), "
                "brats2023 (1, 2, 3) or {necrosis: 1, edema: 2, enhancing: 4}, or remove "
                "radiomics_forest"
            )
        return self

    def with_values(self, values: Mapping[str, Any]) -> StudyConfig:
        """Return the study without its search, with the values of one configuration.

        Raises:
            MgmtError: they cannot be combined.
        """
        try:
            training, networks = replace_values(self.training, self.networks, values)
            for name, network in networks.items():
                if isinstance(network, SlicePipelineConfig):
                    _check_shared_segmentations(name, network, networks)
        except ValueError as error:
            given = ", ".join(f"{key} {value}" for key, value in values.items())
            raise MgmtError(f"search: {given} cannot be combined ({error}).") from error
        changed = {"training": training, "networks": networks, "search": None}
        return self.model_copy(update=changed)

    @property
    def pipelines(self) -> tuple[PipelineName, ...]:
        """What its networks are trained on."""
        names: tuple[PipelineName, ...] = ("volumes", "slices")
        return tuple(name for name in names if self.networks_of(name))

    def networks_of(self, pipeline: PipelineName) -> dict[str, StudyNetwork]:
        """Return the networks that are trained on volumes, or those on slices, by name."""
        of_slices = pipeline == "slices"
        return {n: c for n, c in self.networks.items() if (c.kind == "slices") == of_slices}

    @property
    def volume_recipe(self) -> RecipeConfig | None:
        """How scans become volumes; None if no network takes any."""
        return self.recipe if "volumes" in self.pipelines else None

    @property
    def slice_recipe(self) -> SliceRecipe | None:
        """How scans become slices; None if no network takes any."""
        return self.slices if "slices" in self.pipelines else None

    @property
    def first_recipe(self) -> RecipeConfig | SliceRecipe:
        """The recipe of volumes, or of slices in a study without volumes."""
        return self.volume_recipe or self.slices

    @property
    def network_covariates(self) -> tuple[Covariate, ...]:
        """Covariates that any network takes in addition to the image, sorted."""
        names = {name for network in self.networks.values() for name in network.covariates}
        return tuple(sorted(names))

    @property
    def modalities(self) -> tuple[str, ...]:
        """All modalities that the study reads."""
        return self.cohort.modalities

    @property
    def model_inputs(self) -> tuple[tuple[str, ...], ...]:
        """Input channels of each model."""
        return self.inputs or tuple((m,) for m in self.modalities)


OF_SEGMENTATIONS = ("width", "initialisation", "cross_fitted", "parts", "segmentation")
"""Keys of a network of kind slices that its segmentations depend on."""


def _check_shared_segmentations(
    name: str, network: SlicePipelineConfig, networks: Mapping[str, StudyNetwork]
) -> None:
    """Raise ValueError unless the network whose segmentations are used would train the same."""
    if network.segmentations_of is None:
        return
    owner = networks.get(network.segmentations_of)
    where = f"networks.{name}.segmentations_of: {network.segmentations_of}"
    if not isinstance(owner, SlicePipelineConfig) or owner.segmentations_of is not None:
        raise ValueError(f"{where} is no network of kind slices with segmentations of its own")
    differing = [key for key in OF_SEGMENTATIONS if getattr(network, key) != getattr(owner, key)]
    if differing:
        raise ValueError(
            f"{where} has another {', '.join(differing)}. Write the same, or train own ones"
        )


def load_study(path: Path, data: Path | None = None, checkpoint: Path | None = None) -> StudyConfig:
    r"""Read a study file.

    Args:
        path: the YAML; paths in it are relative to its folder.
        data: the data set's folder, instead of ``cohort.root``.
        checkpoint: the pretrained weights, instead of ``checkpoint``.

    Raises:
        MgmtError: the file is missing or not YAML, or has unknown keys or wrong values; names the
            path of each key.

    >>> import tempfile
    >>> text = (
    ...     "name: example\ncohort: {reader: upenn, modalities: [FLAIR, T1]}\n"
    ...     "networks: {scratch: {kind: random}}"
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "study.yaml").write_text(text)
    ...     study = load_study(Path(folder, "study.yaml"), data=Path("data"))
    >>> study.model_inputs, study.split.folds
    ((('FLAIR',), ('T1',)), 5)
    """
    check_study_file(path)
    content = read_yaml(path)
    cohort = content.get("cohort") if isinstance(content, dict) else None
    if not isinstance(cohort, dict):
        for key in content if isinstance(content, dict) else ():
            if key != "cohort" and (hint := did_you_mean(str(key), ["cohort"])):
                raise MgmtError(f"{path}: {key}: unknown key{hint}")
        raise MgmtError(f"{path}: has no `cohort:` section, so it is not a study file.")
    if OLD_BASELINES_KEY in content:
        raise MgmtError(
            f"{path}: `{OLD_BASELINES_KEY}` is an earlier version's key. Write `baselines`, and "
            "recipe.noise_std for recipe.noise_deviation."
        )
    _drop_empty_sweep(path, content)
    if data is not None:  # not in place: with an anchor, an external cohort is the same mapping
        content["cohort"] = {**cohort, "root": expand_path(data, Path.cwd())}
    if checkpoint is not None:
        content["checkpoint"] = expand_path(checkpoint, Path.cwd())
    if "root" not in content["cohort"]:
        raise MgmtError(
            f"{path}: does not say where the data set is. "
            "Give its folder with --data DIR, or set cohort.root."
        )
    return parse(StudyConfig, content, str(path), path.parent)


def _drop_empty_sweep(path: Path, content: dict[str, Any]) -> None:
    """Remove the key of earlier versions that listed values to try, which these wrote if empty.

    Raises:
        MgmtError: it lists values.
    """
    sweep = content.pop("sweep", None)
    if not sweep:
        return
    lists = {k: v for k, v in sweep.items() if v} if isinstance(sweep, dict) else {"KEY": ["..."]}
    if lists:
        space = ", ".join(f"{key}: {{values: {[*values]}}}" for key, values in lists.items())
        raise MgmtError(
            f"{path}: `sweep` is an earlier version's key. Write `search: {{method: grid, space: "
            f"{{{space}}}}}` and run `mgmt-ray search STUDY`."
        )


def write_study(study: StudyConfig, path: Path) -> None:
    """Write the study with all defaults, unless the file already has this content."""
    text = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
