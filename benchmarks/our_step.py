"""The package's training step on volumes that stay on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from benchmarks.naive_routes import make_network
from mgmt_ray.nets.build import Network
from mgmt_ray.nets.spottune import SpotTune
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.loop import TrainingState, train_step
from mgmt_ray.training.make_task import make_task
from mgmt_ray.training.precision import compile_network
from mgmt_ray.training.task import Noise
from mgmt_ray.training.training_config import TrainingConfig

NUM_BATCHES, NUM_BLOCKS = 2, 16


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured.

    Attributes:
        device: as torch names it.
        width: channels of the stems.
        shape: depth, height, width of a volume.
        config: of ours; its batch size is everybody's.
    """

    device: str
    width: int
    shape: tuple[int, int, int]
    config: TrainingConfig


class OurTraining:
    """A network that takes a step at a time."""

    def __init__(self, network: Network, config: TrainingConfig, data: VolumeSet) -> None:
        self.config, self.data = config, data
        self.optimizer = TrainingState(network, config).optimizer
        self.network = compile_network(network, config, data.volumes.device).train()
        self.task = make_task(network, data, config)
        self.random = np.random.default_rng(0)
        self.draw = self.task.noise(0, 1)

    def step(self) -> None:
        """Some batch, and noise of its own."""
        rows = self.random.permutation(len(self.data))[: self.config.batch_size]
        self.learn(self.data.select(rows), self.draw(len(rows)))

    def learn(self, batch: VolumeSet, noise: Noise) -> Tensor:
        """A step on this batch; its logits and labels [row, 2] before the step."""
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
    """In training mode, with gradients where training needs them; the same weights each time."""
    device = device or case.device
    network = make_network(case.width, "meta" if device == "meta" else "cpu")
    network.temperature = case.config.temperature
    for parameters in network.parameter_groups().values():
        for parameter in parameters:
            parameter.requires_grad_(True)
    return network.to(device).train()
