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
from mgmt_ray.study.trial import InnerFolds, Trial
from mgmt_ray.training.training_config import AnyTraining, TrainingConfig


@dataclass(frozen=True, slots=True)
class TrialKey:
    """Where in a study a training stands.

    Attributes:
        network: its name in the study.
        channels: modalities that are its input channels.
        split: that it trains in.
        fold: which fold validates, from 0.
        repeat: number of the repetition, from 0.
        study_seed: of the whole study.
        has_outer_folds: whether the study has several splits, so that names tell them apart.
    """

    network: str
    channels: tuple[str, ...]
    split: Split
    fold: int
    repeat: int
    study_seed: int
    has_outer_folds: bool

    def derive_seed(self, *purpose: str | int) -> int:
        """Seed of the draws of a training at this place.

        Args:
            *purpose: tells apart several trainings of one place.
        """
        outer = ("outer", self.split.outer_fold) if self.split.outer_fold else ()
        named = (self.network, "+".join(self.channels), self.fold, self.repeat)
        return stream_seed(self.study_seed, *named, *outer, *purpose)

    def make_trial(
        self,
        name: str,
        network_config: AnyNetworkConfig,
        training_config: AnyTraining,
        seed: int,
        determined_by: dict[str, Any],
        hyperparameters: dict[str, float] | None = None,
        *,
        inner_fold: int | None = None,
        inner_folds: InnerFolds | None = None,
        needs: tuple[Trial, ...] = (),
    ) -> Trial:
        """A training at this place.

        Args:
            name: of what is trained.
            network_config: of the network.
            training_config: with a sweep's values put in.
            seed: of all its draws.
            determined_by: what its result follows from, besides its key and seed.
            hyperparameters: what a sweep varies.
            inner_fold: see :class:`~mgmt_ray.study.trial.Trial`, as the next two.
            inner_folds: how patients are dealt.
            needs: what must be finished before.
        """
        where = {
            "channels": self.channels,
            "fold": self.fold,
            "stream": seed,
            "split": self.split.hash,
        }
        return Trial(
            name=self._trial_name(name),
            network=self.network,
            channels=self.channels,
            outer_fold=self.split.outer_fold,
            fold=self.fold,
            repeat=self.repeat,
            hyperparameters=hyperparameters or {},
            network_config=network_config,
            training_config=training_config,
            seed=seed,
            hash=fingerprint(determined_by | where),
            inner_fold=inner_fold,
            inner_folds=inner_folds,
            needs=needs,
        )

    def _trial_name(self, trained: str) -> str:
        outer = f"outer{self.split.outer_fold}_" if self.has_outer_folds else ""
        return f"{trained}_{'+'.join(self.channels)}_{outer}fold{self.fold}_seed{self.repeat}"


def slice_trials(study: StudyConfig, config: SlicePipelineConfig, key: TrialKey) -> list[Trial]:
    """The fold's segmentation, those that leave out a part each, and the classifier, in order.

    Args:
        study: with the recipe of its slices.
        config: of the pipeline.
        key: where in the study all of them stand.
    """
    segmentations = _segmentations(study, config, key)
    classifier = SliceClassifierConfig()
    needed = {"needs": [trial.id for trial in segmentations]}
    described = _slices_determined_by(study, classifier, config.classification)
    classification = key.make_trial(
        key.network,
        classifier,
        config.classification,
        key.derive_seed(),
        described | needed,
        inner_folds=_inner_folds(config, key),
        needs=tuple(segmentations),
    )
    return [*segmentations, classification]


def _segmentations(study: StudyConfig, config: SlicePipelineConfig, key: TrialKey) -> list[Trial]:
    """The fold's own, and with cross-fitting one that leaves out each part."""
    network = SegmentationConfig(width=config.width, shape=study.slices.shape)
    described = _slices_determined_by(study, network, config.segmentation)
    parts = _inner_folds(config, key)
    whole = key.make_trial(
        f"{key.network}-segmentation",
        network,
        config.segmentation,
        key.derive_seed("segmentation"),
        described,
        inner_folds=parts,
    )
    if parts is None:
        return [whole]
    dealt = [parts.number, parts.seed]
    return [
        whole,
        *(
            key.make_trial(
                f"{key.network}-segmentation-without{part}",
                network,
                config.segmentation,
                key.derive_seed("segmentation", part),
                described | {"part": part, "parts": dealt},
                inner_fold=part,
                inner_folds=parts,
            )
            for part in range(parts.number)
        ),
    ]


def _inner_folds(config: SlicePipelineConfig, key: TrialKey) -> InnerFolds | None:
    return InnerFolds(config.parts, key.derive_seed()) if config.cross_fitted else None


def _slices_determined_by(
    study: StudyConfig, network: AnyNetworkConfig, training: AnyTraining
) -> dict[str, Any]:
    """What a trial's result follows from, as its id holds it."""
    return {
        "network": network.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "slices": study.slices.model_dump(mode="json"),
    }


AGENT_KEYS = (
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
        for repeat in range(study.num_seeds)
        for split in splits
        for fold in range(len(split.folds))
        for trial in _trials(
            study, TrialKey(network, channels, split, fold, repeat, study.seed, several), values
        )
    ]


def _combinations(study: StudyConfig, network: str) -> Iterator[dict[str, float]]:
    """Every combination of the swept values that the network has a use for."""
    lists = {name: values for name, values in study.sweep.model_dump().items() if values}
    if study.networks[network].kind == "slices":
        lists = {}
    if study.networks[network].kind != "spottune":
        lists = {k: v for k, v in lists.items() if k not in AGENT_KEYS}
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
        for name in AGENT_KEYS:
            described.pop(name, None)
            trained.pop(name, None)
    return {"network": described, "training": trained}


def _trials(study: StudyConfig, key: TrialKey, values: dict[str, float]) -> list[Trial]:
    """The trainings of one place and combination."""
    config = study.networks[key.network]
    if isinstance(config, SlicePipelineConfig):
        return slice_trials(study, config, key)
    training = TrainingConfig.model_validate(study.training.model_dump() | values)
    determined_by = _determined_by(config, training) | {
        "recipe": study.recipe.model_dump(mode="json"),
    }
    return [key.make_trial(key.network, config, training, key.derive_seed(), determined_by, values)]
