"""The plan: every trial of a study, each with an id that holds all that determines its result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from mgmt_ray.base import fingerprint, stream_seed
from mgmt_ray.nets.build import NetworkConfig
from mgmt_ray.splits.split import Split
from mgmt_ray.study.config import StudyConfig
from mgmt_ray.training.config import TrainingConfig

OF_AGENTS = (
    "agent_depth",
    "agent_width",
    "agent_learning_rate",
    "temperature",
    "validation_draws",
)
"""Keys of networks and training that mean nothing to a network without an agent."""


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
    """

    name: str
    network: str
    channels: tuple[str, ...]
    outer: int
    fold: int
    seed: int
    hyperparameters: dict[str, float]
    network_config: NetworkConfig
    training_config: TrainingConfig
    stream: int
    hash: str

    @property
    def modality(self) -> str:
        """The input's name: its modality, or its channels joined with "+"."""
        return "+".join(self.channels)

    @property
    def id(self) -> str:
        """Readable and unique: the name of the trial's folder."""
        return f"{self.name}_{self.hash[:10]}"


def make_plan(study: StudyConfig, splits: Sequence[Split]) -> list[Trial]:
    """All trials: network × input × hyper-parameters × seed × split × fold."""
    return [
        _trial(study, splits, split, network, channels, values, seed, fold)
        for network in study.networks
        for channels in study.model_inputs
        for values in _combinations(study, network)
        for seed in range(study.num_seeds)
        for split in splits
        for fold in range(len(split.folds))
    ]


def _combinations(study: StudyConfig, network: str) -> Iterator[dict[str, float]]:
    """Every combination of the swept values that the network has a use for."""
    lists = {name: values for name, values in study.sweep.model_dump().items() if values}
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


def _trial(
    study: StudyConfig,
    splits: Sequence[Split],
    split: Split,
    network: str,
    channels: tuple[str, ...],
    values: dict[str, float],
    seed: int,
    fold: int,
) -> Trial:
    network_config = study.networks[network]
    training_config = TrainingConfig.model_validate(study.training.model_dump() | values)
    modality = "+".join(channels)
    outer = ("outer", split.outer) if split.outer else ()
    stream = stream_seed(study.seed, network, modality, fold, seed, *outer)
    part = f"outer{split.outer}_fold{fold}" if len(splits) > 1 else f"fold{fold}"
    determined_by = _determined_by(network_config, training_config) | {
        "channels": channels,
        "fold": fold,
        "stream": stream,
        "recipe": study.recipe.model_dump(mode="json"),
        "split": split.hash,
    }
    return Trial(
        name=f"{network}_{modality}_{part}_seed{seed}",
        network=network,
        channels=channels,
        outer=split.outer,
        fold=fold,
        seed=seed,
        hyperparameters=values,
        network_config=network_config,
        training_config=training_config,
        stream=stream,
        hash=fingerprint(determined_by),
    )
