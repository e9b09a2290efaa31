"""The package's training step on volumes that stay on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from benchmarks.naive_routes import make_network
from mgmt_ray.nets.network import VolumeNetwork
from mgmt_ray.nets.spottune import SpotTune
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.loop import TrainingState, make_task, train_step
from mgmt_ray.training.precision import compile_network, search_kernels
from mgmt_ray.training.task import Noise
from mgmt_ray.training.training_config import TrainingConfig

NUM_BATCHES, NUM_BLOCKS = 2, 16


@dataclass(frozen=True, slots=True)
class Case:
    """A measured configuration.

    Attributes:
        device: "cpu" or "cuda".
        width: channels of the stems.
        shape: depth, height, width of a volume.
        config: of our training; all trainings have its batch size.
    """

    device: str
    width: int
    shape: tuple[int, int, int]
    config: TrainingConfig


class OurTraining:
    """The package's training, one step at a time."""

    def __init__(self, network: VolumeNetwork, config: TrainingConfig, data: VolumeSet) -> None:
        self.config, self.data = config, data
        self.optimizer = TrainingState(network, config).optimizer
        self.network = compile_network(network, config, data.volumes.device).train()
        self.task = make_task(network, data, config)
        self.random = np.random.default_rng(0)
        self.draw = self.task.noise(0, 1)

    def step(self) -> None:
        """Train on a random batch with random noise."""
        rows = self.random.permutation(len(self.data))[: self.config.batch_size]
        self.learn(self.data.select(rows), self.draw(len(rows)))

    def learn(self, batch: VolumeSet, noise: Noise) -> Tensor:
        """Train on a batch; return its logits and labels [row, 2] before the step."""
        with search_kernels(batch.volumes.device, self.config.precision):
            return train_step(
                self.network,
                self.optimizer,
                batch,
                self.task,
                noise,
                num_rows=len(batch),
                num_workers=1,
            )


def spottune(case: Case, device: str | None = None) -> SpotTune:
    """Return a SpotTune network in training mode; the weights are the same in each call."""
    device = device or case.device
    network = make_network(case.width, "meta" if device == "meta" else "cpu")
    network.temperature = case.config.temperature
    for parameters in network.parameter_groups().values():
        for parameter in parameters:
            parameter.requires_grad_(True)
    return network.to(device).train()
