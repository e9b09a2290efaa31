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
from mgmt_ray.study.study_config import SlicePipelineConfig, StudyConfig
from mgmt_ray.study.trial import Parts, Trial
from mgmt_ray.training.training_config import AnyTraining, TrainingConfig


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a study a training stands.

    Attributes:
        network: its name in the study.
        channels: modalities that are its input channels.
        split: that it trains in.
        fold: which fold validates, from 0.
        seed: number of the repetition, from 0.
        study_seed: of the whole study.
        several: whether the study has several splits, so that names tell them apart.
    """

    network: str
    channels: tuple[str, ...]
    split: Split
    fold: int
    seed: int
    study_seed: int
    several: bool

    def stream(self, *purpose: str | int) -> int:
        """Seed of the draws of a training at this place.

        Args:
            *purpose: tells apart several trainings of one place.
        """
        outer = ("outer", self.split.outer) if self.split.outer else ()
        named = (self.network, "+".join(self.channels), self.fold, self.seed)
        return stream_seed(self.study_seed, *named, *outer, *purpose)

    def trial(
        self,
        name: str,
        network_config: AnyNetworkConfig,
        training_config: AnyTraining,
        stream: int,
        determined_by: dict[str, Any],
        hyperparameters: dict[str, float] | None = None,
        *,
        part: int | None = None,
        parts: Parts | None = None,
        needs: tuple[Trial, ...] = (),
    ) -> Trial:
        """A training at this place.

        Args:
            name: of what is trained.
            network_config: of the network.
            training_config: with a sweep's values put in.
            stream: seed of all its draws.
            determined_by: what its result follows from, besides the place and the stream.
            hyperparameters: what a sweep varies.
            part: see :class:`~mgmt_ray.study.trial.Trial`, as the next two.
            parts: how patients are dealt.
            needs: what must be finished before.
        """
        where = {
            "channels": self.channels,
            "fold": self.fold,
            "stream": stream,
            "split": self.split.hash,
        }
        return Trial(
            name=self._name(name),
            network=self.network,
            channels=self.channels,
            outer=self.split.outer,
            fold=self.fold,
            seed=self.seed,
            hyperparameters=hyperparameters or {},
            network_config=network_config,
            training_config=training_config,
            stream=stream,
            hash=fingerprint(determined_by | where),
            part=part,
            parts=parts,
            needs=needs,
        )

    def _name(self, trained: str) -> str:
        outer = f"outer{self.split.outer}_" if self.several else ""
        return f"{trained}_{'+'.join(self.channels)}_{outer}fold{self.fold}_seed{self.seed}"


def slice_trials(study: StudyConfig, config: SlicePipelineConfig, place: Place) -> list[Trial]:
    """The fold's segmentation, those that leave out a part each, and the classifier, in order.

    Args:
        study: with the recipe of its slices.
        config: of the pipeline.
        place: where in the study all of them stand.
    """
    segmentations = _segmentations(study, config, place)
    classifier = SliceClassifierConfig()
    needed = {"needs": [trial.id for trial in segmentations]}
    described = _described(study, classifier, config.classification)
    classification = place.trial(
        place.network,
        classifier,
        config.classification,
        place.stream(),
        described | needed,
        parts=_parts(config, place),
        needs=tuple(segmentations),
    )
    return [*segmentations, classification]


def _segmentations(study: StudyConfig, config: SlicePipelineConfig, place: Place) -> list[Trial]:
    """The fold's own, and with cross-fitting one that leaves out each part."""
    network = SegmentationConfig(width=config.width, shape=study.slices.shape)
    described = _described(study, network, config.segmentation)
    parts = _parts(config, place)
    whole = place.trial(
        f"{place.network}-segmentation",
        network,
        config.segmentation,
        place.stream("segmentation"),
        described,
        parts=parts,
    )
    if parts is None:
        return [whole]
    dealt = [parts.number, parts.seed]
    return [
        whole,
        *(
            place.trial(
                f"{place.network}-segmentation-without{part}",
                network,
                config.segmentation,
                place.stream("segmentation", part),
                described | {"part": part, "parts": dealt},
                part=part,
                parts=parts,
            )
            for part in range(parts.number)
        ),
    ]


def _parts(config: SlicePipelineConfig, place: Place) -> Parts | None:
    return Parts(config.parts, place.stream()) if config.cross_fitted else None


def _described(
    study: StudyConfig, network: AnyNetworkConfig, training: AnyTraining
) -> dict[str, Any]:
    """What a trial's result follows from, as its id holds it."""
    return {
        "network": network.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "slices": study.slices.model_dump(mode="json"),
    }


OF_AGENTS = (
    "agent_depth",
    "agent_width",
    "agent_learning_rate",
    "temperature",
    "validation_draws",
)
"""Keys of networks and training that mean nothing to a network without an agent."""


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
        for trial in _trials(
            study, Place(network, channels, split, fold, seed, study.seed, several), values
        )
    ]


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


def _trials(study: StudyConfig, place: Place, values: dict[str, float]) -> list[Trial]:
    """The trainings of one place and combination."""
    config = study.networks[place.network]
    if isinstance(config, SlicePipelineConfig):
        return slice_trials(study, config, place)
    training = TrainingConfig.model_validate(study.training.model_dump() | values)
    determined_by = _determined_by(config, training) | {
        "recipe": study.recipe.model_dump(mode="json"),
    }
    return [place.trial(place.network, config, training, place.stream(), determined_by, values)]
