"""The plan: every trial of a study, each with an id that holds all that determines its result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from mgmt_ray.base import fingerprint, stream_seed
from mgmt_ray.nets.build import NetworkConfig
from mgmt_ray.splits import Split
from mgmt_ray.study.config import StudyConfig
from mgmt_ray.training.config import TrainingConfig


@dataclass(frozen=True, slots=True)
class Trial:
    """One training.

    Attributes:
        network: its name in the study.
        channels: modalities that are its input channels.
        fold: which fold validates, from 0.
        seed: number of the repetition, from 0.
        hyperparameters: what a sweep varies, by name; empty without a sweep.
        network_config: of the network.
        training_config: with the sweep's values put in.
        stream: seed of all its draws; equal for trials that differ in hyper-parameters only.
        hash: fingerprint of all that determines its result but the files' content, which
            ``trial.json`` records.
    """

    network: str
    channels: tuple[str, ...]
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
    def name(self) -> str:
        """Readable, unique but for hyper-parameters."""
        return f"{self.network}_{self.modality}_fold{self.fold}_seed{self.seed}"

    @property
    def id(self) -> str:
        """Readable and unique: the name of the trial's folder."""
        return f"{self.name}_{self.hash[:10]}"


def make_plan(study: StudyConfig, split: Split) -> list[Trial]:
    """All trials: network × input × hyper-parameters × seed × fold."""
    return [
        _trial(study, split, network, channels, values, seed, fold)
        for network in study.networks
        for channels in study.model_inputs
        for values in _combinations(study, network)
        for seed in range(study.num_seeds)
        for fold in range(study.split.folds)
    ]


def _combinations(study: StudyConfig, network: str) -> Iterator[dict[str, float]]:
    """Every combination of the swept values that the network has a use for."""
    lists = {name: values for name, values in study.sweep.model_dump().items() if values}
    if study.networks[network].kind != "spottune":
        lists = {k: v for k, v in lists.items() if k in ("epochs", "learning_rate")}
    for values in product(*lists.values()):
        yield dict(zip(lists, values, strict=True))


def _trial(
    study: StudyConfig,
    split: Split,
    network: str,
    channels: tuple[str, ...],
    values: dict[str, float],
    seed: int,
    fold: int,
) -> Trial:
    network_config = study.networks[network]
    training_config = TrainingConfig.model_validate(study.training.model_dump() | values)
    stream = stream_seed(study.seed, network, "+".join(channels), fold, seed)
    determined_by = {
        "network": network_config.model_dump(mode="json"),
        "channels": channels,
        "fold": fold,
        "stream": stream,
        "training": training_config.model_dump(mode="json"),
        "recipe": study.recipe.model_dump(mode="json"),
        "split": split.hash,
    }
    return Trial(
        network=network,
        channels=channels,
        fold=fold,
        seed=seed,
        hyperparameters=values,
        network_config=network_config,
        training_config=training_config,
        stream=stream,
        hash=fingerprint(determined_by),
    )
