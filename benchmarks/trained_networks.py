"""SpotTune networks trained to classify textures, for measurements on trained networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.volumes import Shape, textured_volumes
from mgmt_ray.nets.build import NetworkConfig, build_volume_network
from mgmt_ray.nets.resnet3d import Depth
from mgmt_ray.nets.spottune import SpotTune
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.evaluate import predict
from mgmt_ray.training.loop import TrainingState, fit
from mgmt_ray.training.metrics import score
from mgmt_ray.training.pretrain import SourceTaskConfig, write_source_task_checkpoint
from mgmt_ray.training.training_config import TrainingConfig

RATES = ((1e-3, 1e-3), (3e-4, 1e-3), (3e-4, 3e-4))
"""Learning rates of network and agent, used by the networks in turn.

The resulting policies range from nearly certain ones to some that stay near one half.
"""

VALIDATION_SUBJECTS = 20
SIGNAL = 4.0
"""Amplitude of the label's texture, in standard deviations of the texture of all tumours."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How networks are trained.

    Attributes:
        depth: of the networks.
        width: channels of their stems.
        shape: depth, height, width of a volume.
        source_steps: of the source task, whose weights all networks start from.
        subjects: that train a network.
        epochs: of its training.
    """

    depth: Depth
    width: int
    shape: Shape
    source_steps: int
    subjects: int
    epochs: int


def write_source_weights(recipe: Recipe, path: Path) -> None:
    """Write the weights that all networks start from."""
    source = SourceTaskConfig(
        depth=recipe.depth, width=recipe.width, shape=recipe.shape, steps=recipe.source_steps
    )
    write_source_task_checkpoint(source, path)


def train_spottune(recipe: Recipe, number: int, weights: Path) -> tuple[SpotTune, VolumeSet]:
    """Train the network of a number, which determines its rates, volumes and draws.

    Returns:
        The network in evaluation mode, and subjects that it was not trained on.
    """
    torch.manual_seed(number)
    config = NetworkConfig(
        kind="spottune", depth=recipe.depth, width=recipe.width, agent_width=recipe.width
    )
    network = build_volume_network(config, 1, 1.0, weights)
    assert isinstance(network, SpotTune)
    training = training_config(recipe, number)
    volumes, validation = (
        textured_volumes(subjects, recipe.shape, purpose, number, SIGNAL)
        for purpose, subjects in (
            ("training", recipe.subjects),
            ("validation", VALIDATION_SUBJECTS),
        )
    )
    for _ in fit(TrainingState(network, training), volumes, validation, training, number):
        pass
    describe(network, validation, training, number)
    return network, validation


def training_config(recipe: Recipe, number: int) -> TrainingConfig:
    rate, agent_rate = RATES[number % len(RATES)]
    return TrainingConfig(
        epochs=recipe.epochs,
        batch_size=6,
        learning_rate=rate,
        agent_learning_rate=agent_rate,
        temperature=1.0,
        balance="none",
        validation_draws=1,
    )


@torch.no_grad()
def describe(network: SpotTune, data: VolumeSet, config: TrainingConfig, number: int) -> None:
    """Print a network's validation AUC, and how certain its policies are."""
    network.eval()
    found = predict(
        network, data, num_draws=100, kind="independent", seed=42, precision=config.precision
    )
    auc = score(found.probability, data.labels.numpy(), found.loss).auc
    certainty = (network.tuned_probability(data.volumes.float()) - 0.5).abs().mean()
    print(
        f"network {number}, rates {config.learning_rate:g} and {config.agent_learning_rate:g}: "
        f"validation AUC {auc:.2f}, mean |p - 0.5| {certainty:.2f}",
        end=", ",
        flush=True,
    )
