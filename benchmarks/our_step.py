"""The package's training step on volumes that stay on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.naive_routes import make_network
from mgmt_ray.nets.build import Network
from mgmt_ray.nets.spottune import SpotTune
from mgmt_ray.training.config import TrainingConfig
from mgmt_ray.training.dataset import VolumeSet, volume_set
from mgmt_ray.training.loop import TrainingState
from mgmt_ray.training.precision import arrange, compiled
from mgmt_ray.training.step import train_step
from mgmt_ray.training.tasks import make_task

NUM_BATCHES = 2


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
        arrange(network, config.precision)
        self.config, self.data = config, data
        self.optimizer = TrainingState(network, config).optimizer
        self.network = compiled(network, config, data.volumes.device).train()
        self.task = make_task(network, data, config)
        self.random = np.random.default_rng(0)
        self.draw = self.task.noise(0, 1)

    def step(self) -> None:
        rows = self.random.permutation(len(self.data))[: self.config.batch_size]
        train_step(
            self.network,
            self.optimizer,
            self.data.select(rows),
            self.task,
            self.draw(len(rows)),
            num_rows=len(rows),
            num_workers=1,
        )


def spottune(case: Case, device: str | None = None) -> SpotTune:
    """In training mode, with gradients where training needs them; random weights."""
    device = device or case.device
    network = make_network(case.width, "meta" if device == "meta" else "cpu")
    network.temperature = case.config.temperature
    for parameters in network.parameter_groups().values():
        for parameter in parameters:
            parameter.requires_grad_(True)
    return network.to(device).train()


def random_volumes(case: Case, batches: int = NUM_BATCHES) -> tuple[np.ndarray, np.ndarray]:
    """Volumes [row, 1, depth, height, width] and labels."""
    number = batches * case.config.batch_size
    random = np.random.default_rng(1)
    volumes = random.random((number, 1, *case.shape), dtype=np.float32).astype(np.float16)
    return volumes, np.arange(number) % 2


def resident(case: Case, volumes: np.ndarray, labels: np.ndarray) -> VolumeSet:
    names = [str(i) for i in range(len(labels))]
    return volume_set([volumes], labels.tolist(), names, case.device)
