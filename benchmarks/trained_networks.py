"""SpotTune networks that have learnt to tell textures, for measurements on trained networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mgmt_ray.base import stream
from mgmt_ray.cohort.texture import tumour_texture
from mgmt_ray.nets.build import NetworkConfig, build
from mgmt_ray.nets.resnet3d import Depth
from mgmt_ray.nets.spottune import SpotTune
from mgmt_ray.training.config import TrainingConfig
from mgmt_ray.training.dataset import VolumeSet, volume_set
from mgmt_ray.training.evaluate import predict
from mgmt_ray.training.loop import TrainingState, fit
from mgmt_ray.training.metrics import score
from mgmt_ray.training.pretrain import SourceTaskConfig, write_source_task_checkpoint

RATES = ((1e-3, 1e-3), (3e-4, 1e-3), (3e-4, 3e-4))
"""Learning rates of network and agent; the networks take them in turn.

From policies that end near certainty to policies that hardly leave one half.
"""

SOURCE_STEPS = 400
TRAINING_SUBJECTS, VALIDATION_SUBJECTS = 100, 20
SIGNAL = 4.0
"""Amplitude of the label's texture, in deviations of the texture that all tumours have."""


Shape = tuple[int, int, int]


def write_source_weights(depth: Depth, width: int, shape: Shape, path: Path) -> None:
    """The weights that all networks start from."""
    source = SourceTaskConfig(depth=depth, width=width, shape=shape, steps=SOURCE_STEPS)
    write_source_task_checkpoint(source, path)


def train_spottune(
    depth: Depth, width: int, shape: Shape, epochs: int, number: int, weights: Path
) -> tuple[SpotTune, VolumeSet]:
    """Train the network of this number; its rates, volumes and draws follow from that.

    Returns:
        The network in evaluation mode, and subjects that it was not trained on.
    """
    torch.manual_seed(number)
    config = NetworkConfig(kind="spottune", depth=depth, width=width, agent_width=width)
    network = build(config, 1, 1.0, weights)
    assert isinstance(network, SpotTune)
    rate, agent_rate = RATES[number % len(RATES)]
    training = TrainingConfig(
        epochs=epochs,
        batch_size=6,
        learning_rate=rate,
        agent_learning_rate=agent_rate,
        temperature=1.0,
        balance="none",
        validation_draws=1,
    )
    volumes = textured_volumes(TRAINING_SUBJECTS, shape, "training", number)
    validation = textured_volumes(VALIDATION_SUBJECTS, shape, "validation", number)
    for _ in fit(TrainingState(network, training), volumes, validation, training, number):
        pass
    found = predict(network, validation, num_draws=100, kind="independent", seed=42)
    auc = score(found.probability, validation.labels.numpy(), found.loss).auc
    network.eval()
    with torch.no_grad():
        certainty = (network.tuned_probability(validation.volumes.float()) - 0.5).abs().mean()
    print(
        f"network {number}, rates {rate:g} and {agent_rate:g}: validation AUC {auc:.2f}, "
        f"mean |p - 0.5| {certainty:.2f}",
        end=", ",
        flush=True,
    )
    return network, validation


def textured_volumes(number: int, shape: Shape, purpose: str, seed: int) -> VolumeSet:
    """Balls whose texture is coarse in methylated and fine in unmethylated subjects."""
    random = stream(seed, "draws", purpose)
    centre = (np.array(shape).reshape(3, 1, 1, 1) - 1) / 2
    distance = np.linalg.norm(np.indices(shape) - centre, axis=0)
    labels = [subject % 2 for subject in range(number)]
    volumes = []
    for label in labels:
        tumour = distance < random.uniform(0.6, 0.95) * min(shape) / 2
        texture = tumour_texture(tumour, bool(label), SIGNAL, random)
        volumes.append(np.where(tumour, np.clip(0.5 + 0.08 * texture, 0.01, 1), 0)[None])
    ids = [f"{purpose}-{subject}" for subject in range(number)]
    return volume_set([np.stack(volumes)], labels, ids, "cpu")
