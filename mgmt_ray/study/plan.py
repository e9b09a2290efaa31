"""The plan: every trial of a study, each with an id that holds all that determines its result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from mgmt_ray.nets.build import NetworkConfig
from mgmt_ray.splits.split import Split
from mgmt_ray.study.config import StudyConfig
from mgmt_ray.study.pipeline import SlicePipelineConfig
from mgmt_ray.study.place import Place
from mgmt_ray.study.slice_plan import slice_trials
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.training_config import TrainingConfig

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
