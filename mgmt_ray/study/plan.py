"""The plan: every trial of a study, each with an id that holds all that determines its result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from mgmt_ray.base import fingerprint, stream_seed
from mgmt_ray.nets.build import (
    AnyNetworkConfig,
    NetworkConfig,
    SegmentationConfig,
    SliceClassifierConfig,
)
from mgmt_ray.splits.split import Split
from mgmt_ray.study.config import StudyConfig
from mgmt_ray.study.pipeline import SlicePipelineConfig
from mgmt_ray.training.config import AnyTraining, TrainingConfig

OF_AGENTS = (
    "agent_depth",
    "agent_width",
    "agent_learning_rate",
    "temperature",
    "validation_draws",
)
"""Keys of networks and training that mean nothing to a network without an agent."""


@dataclass(frozen=True, slots=True)
class Parts:
    """How a fold's training patients are dealt (see ``splits.parts.deal_parts``).

    Attributes:
        number: of parts.
        seed: of the deal.
    """

    number: int
    seed: int


@dataclass(frozen=True, slots=True)
class Trial:
    """One training.

    Attributes:
        name: readable, unique but for hyper-parameters.
        network: its name in the study.
        channels: modalities that are its input channels.
        outer: number of the split that it trains in.
        fold: which fold validates, from 0.
        seed: number of the repetition, from 0.
        hyperparameters: what a sweep varies, by name; empty without a sweep.
        network_config: of the network.
        training_config: with the sweep's values put in.
        stream: seed of all its draws; equal for trials that differ in hyper-parameters only.
        hash: fingerprint of all that determines its result but the files' content, which
            ``trial.json`` records.
        part: of a segmentation that others need, the part of the fold's training patients that it
            leaves out, from 0; None if it leaves out nobody.
        parts: how these patients are dealt; None if they are not.
        needs: of a slice classifier, the segmentations that must be finished before it: first the
            fold's own, then, where masks are cross-fitted, those of each part, in order.
    """

    name: str
    network: str
    channels: tuple[str, ...]
    outer: int
    fold: int
    seed: int
    hyperparameters: dict[str, float]
    network_config: AnyNetworkConfig
    training_config: AnyTraining
    stream: int
    hash: str
    part: int | None = None
    parts: Parts | None = None
    needs: tuple[Trial, ...] = ()

    @property
    def stage(self) -> int:
        """Trials of a stage start when those of the stage before are finished; 0 is the first."""
        return 1 if self.needs else 0

    @property
    def takes_slices(self) -> bool:
        """Whether it trains on slices."""
        return not isinstance(self.network_config, NetworkConfig)

    @property
    def tells_methylation(self) -> bool:
        """Whether it can be a member of ensembles."""
        return not isinstance(self.network_config, SegmentationConfig)

    @property
    def temperature(self) -> float:
        """τ of its policy's relaxation; 1 where there is none."""
        training = self.training_config
        return training.temperature if isinstance(training, TrainingConfig) else 1.0

    @property
    def modality(self) -> str:
        """The input's name: its modality, or its channels joined with "+"."""
        return "+".join(self.channels)

    @property
    def id(self) -> str:
        """Readable and unique: the name of the trial's folder."""
        return f"{self.name}_{self.hash[:10]}"


def make_plan(study: StudyConfig, splits: Sequence[Split]) -> list[Trial]:
    """All trials: network × input × hyper-parameters × seed × split × fold.

    A network of kind slices has several trials of each, the one that tells methylation last.
    """
    several = len(splits) > 1
    return [
        trial
        for network in study.networks
        for channels in study.model_inputs
        for values in _combinations(study, network)
        for seed in range(study.num_seeds)
        for split in splits
        for fold in range(len(split.folds))
        for trial in _trials(study, _Place(network, channels, split, fold, seed, several), values)
    ]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a study a training stands."""

    network: str
    channels: tuple[str, ...]
    split: Split
    fold: int
    seed: int
    several: bool

    @property
    def modality(self) -> str:
        return "+".join(self.channels)

    def name(self, network: str) -> str:
        outer = f"outer{self.split.outer}_" if self.several else ""
        return f"{network}_{self.modality}_{outer}fold{self.fold}_seed{self.seed}"

    def stream(self, study: StudyConfig, *purpose: str | int) -> int:
        outer = ("outer", self.split.outer) if self.split.outer else ()
        named = (self.network, self.modality, self.fold, self.seed)
        return stream_seed(study.seed, *named, *outer, *purpose)


def _combinations(study: StudyConfig, network: str) -> Iterator[dict[str, float]]:
    """Every combination of the swept values that the network has a use for."""
    lists = {name: values for name, values in study.sweep.model_dump().items() if values}
    if study.networks[network].kind == "slices":
        lists = {}
    if study.networks[network].kind != "spottune":
        lists = {k: v for k, v in lists.items() if k not in OF_AGENTS}
    for values in product(*lists.values()):
        yield dict(zip(lists, values, strict=True))


def _determined_by(network: NetworkConfig, training: TrainingConfig) -> dict[str, dict[str, Any]]:
    """What of the two configurations a result follows from: what an agent needs only with one."""
    described = network.model_dump(mode="json")
    trained = training.model_dump(mode="json")
    if network.start_from is not None:
        # where a trial's folder stands does not matter; its name ends with what determined it
        described["start_from"] = network.start_from.name
    if network.kind != "spottune":
        for name in OF_AGENTS:
            described.pop(name, None)
            trained.pop(name, None)
    return {"network": described, "training": trained}


def _trials(study: StudyConfig, place: _Place, values: dict[str, float]) -> list[Trial]:
    """The trainings of one place and combination."""
    config = study.networks[place.network]
    if isinstance(config, SlicePipelineConfig):
        return _slice_trials(study, config, place)
    training = TrainingConfig.model_validate(study.training.model_dump() | values)
    determined_by = _determined_by(config, training) | {
        "recipe": study.recipe.model_dump(mode="json"),
    }
    stream = place.stream(study)
    return [_trial(place, place.network, config, training, stream, determined_by, values)]


def _slice_trials(study: StudyConfig, config: SlicePipelineConfig, place: _Place) -> list[Trial]:
    """The fold's segmentation, those that leave out a part each, and the classifier."""
    segmenter = SegmentationConfig(width=config.width, shape=study.slices.shape)
    classifier = SliceClassifierConfig()
    recipe = {"slices": study.slices.model_dump(mode="json")}
    parts = Parts(config.parts, place.stream(study)) if config.cross_fitted else None
    segmentations = []
    for part in (None, *range(parts.number if parts else 0)):
        named = () if part is None else (part,)
        without = "" if part is None else f"-without{part}"
        segmentations.append(
            _trial(
                place,
                f"{place.network}-segmentation{without}",
                segmenter,
                config.segmentation,
                place.stream(study, "segmentation", *named),
                _described(segmenter, config.segmentation)
                | recipe
                | (
                    {}
                    if part is None or parts is None
                    else {"part": part, "parts": [parts.number, parts.seed]}
                ),
                part=part,
                parts=parts,
            )
        )
    needs = tuple(segmentations)
    classification = _trial(
        place,
        place.network,
        classifier,
        config.classification,
        place.stream(study),
        _described(classifier, config.classification) | recipe | {"needs": [t.id for t in needs]},
        parts=parts,
        needs=needs,
    )
    return [*segmentations, classification]


def _described(network: AnyNetworkConfig, training: AnyTraining) -> dict[str, Any]:
    return {
        "network": network.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
    }


def _trial(
    place: _Place,
    name: str,
    network_config: AnyNetworkConfig,
    training_config: AnyTraining,
    stream: int,
    determined_by: dict[str, Any],
    values: dict[str, float] | None = None,
    *,
    part: int | None = None,
    parts: Parts | None = None,
    needs: tuple[Trial, ...] = (),
) -> Trial:
    where = {
        "channels": place.channels,
        "fold": place.fold,
        "stream": stream,
        "split": place.split.hash,
    }
    return Trial(
        name=place.name(name),
        network=place.network,
        channels=place.channels,
        outer=place.split.outer,
        fold=place.fold,
        seed=place.seed,
        hyperparameters=values or {},
        network_config=network_config,
        training_config=training_config,
        stream=stream,
        hash=fingerprint(determined_by | where),
        part=part,
        parts=parts,
        needs=needs,
    )
