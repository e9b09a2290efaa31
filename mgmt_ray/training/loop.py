"""The training loop: it yields epochs, and its caller chooses, saves and reports them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mgmt_ray.base import MgmtError, stream, stream_seed
from mgmt_ray.nets.myronenko import SegmentationNetwork
from mgmt_ray.nets.network import Network, VolumeNetwork
from mgmt_ray.training.checkpoint import trained_tensors
from mgmt_ray.training.classification_task import ClassificationTask, SliceScores
from mgmt_ray.training.dataset import VolumeSet, balanced_rows, even_batches, upload
from mgmt_ray.training.distributed import World
from mgmt_ray.training.frozen_features import cache_frozen_features
from mgmt_ray.training.precision import (
    check_bf16_kernels,
    compile_network,
    raise_compile_error_with_hint,
    search_kernels,
    set_precision,
)
from mgmt_ray.training.schedule import end_epoch, is_stable, make_scheduler
from mgmt_ray.training.segmentation_task import SegmentationTask
from mgmt_ray.training.task import EpochPredictions, EpochScores, Noise, Task
from mgmt_ray.training.training_config import (
    AnyTraining,
    ClassificationTraining,
    SegmentationTraining,
    TrainingConfig,
)
from mgmt_ray.training.volume_task import VolumeTask, class_weights


def make_task(network: Network, training: VolumeSet, config: AnyTraining) -> Task:
    """Return what a config trains a network for; class weights are those of the training rows."""
    if isinstance(config, SegmentationTraining):
        assert isinstance(network, SegmentationNetwork)
        return SegmentationTask(network, config)
    weights = class_weights(training.labels) if config.balance == "weight" else None
    match config:
        case ClassificationTraining():
            return ClassificationTask(config, weights)
        case TrainingConfig():
            assert isinstance(network, VolumeNetwork)
            return VolumeTask(network, config, weights)


def train_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: VolumeSet,
    task: Task,
    noise: Noise,
    *,
    num_rows: int,
    num_workers: int,
) -> Float[Tensor, "row value"]:
    """Update a network's parameters by one batch, without waiting for the device.

    Args:
        num_rows: rows of the global batch.
        num_workers: workers that share the global batch and average their gradients.

    Returns:
        :attr:`~mgmt_ray.training.task.BatchLoss.outputs` before the update.
    """
    loss = task.loss(network, batch, noise)
    optimizer.zero_grad(set_to_none=True)
    mean = loss.total * num_workers / num_rows
    (mean if loss.penalty is None else mean + loss.penalty).backward()
    optimizer.step()
    return loss.outputs


class Diverged(MgmtError):
    """A training's loss became NaN or infinite.

    Attributes:
        epoch: in which it happened, from 1; the epoch before is the last good one.
    """

    def __init__(self, message: str, epoch: int) -> None:
        super().__init__(message)
        self.epoch = epoch


@dataclass(frozen=True, slots=True, eq=False)
class Epoch:
    """Results of one pass over the training rows.

    Attributes:
        train: scores of the training rows, under one draw of noise each and the weights at their
            step.
        predictions: of the validation fold, in its order.
    """

    number: int
    train: EpochScores
    validation: EpochScores
    learning_rates: dict[str, float]
    seconds: float
    predictions: EpochPredictions


class TrainingState:
    """A network with its optimiser and schedule: all that continuing a training needs."""

    def __init__(self, network: Network, config: AnyTraining) -> None:
        rates = config.learning_rates
        set_precision(network, config.precision)
        on_gpu = next(network.parameters()).is_cuda
        self.network = network
        self.optimizer = torch.optim.Adam(
            [
                {"params": parameters, "lr": rates[name], "name": name}
                for name, parameters in network.parameter_groups().items()
            ],
            eps=config.adam_epsilon,
            weight_decay=config.weight_decay,
            # one kernel for all parameters; on CPUs in float32 it would round differently
            fused=on_gpu or config.precision == "bf16",
        )
        self.scheduler = make_scheduler(self.optimizer, config)
        self.epoch = 0
        self.accuracies: list[float] = []

    @property
    def learning_rates(self) -> dict[str, float]:
        """Current learning rate by parameter group."""
        return {group["name"]: group["lr"] for group in self.optimizer.param_groups}

    def state_dict(self) -> dict[str, object]:
        """Return all that changes during training, without a copy."""
        return {
            "epoch": self.epoch,
            "network": trained_tensors(self.network),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "accuracies": [*self.accuracies],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state, whichever device saved it, in a network with the same frozen part."""
        self.epoch = state["epoch"]
        self.network.load_state_dict(self.network.state_dict() | state["network"])
        saved = state["optimizer"]
        fused = self.optimizer.defaults["fused"]  # depends on the device, not on the state
        groups = [group | {"fused": fused} for group in saved["param_groups"]]
        self.optimizer.load_state_dict({**saved, "param_groups": groups})
        for parameter, moments in self.optimizer.state.items():
            for name in ("exp_avg", "exp_avg_sq"):
                # fused kernels require the moments in the memory layout of their parameters
                moments[name] = torch.empty_like(parameter).copy_(moments[name])
        self.scheduler.load_state_dict(state["scheduler"])
        self.accuracies = [*state["accuracies"]]


def training_rows(labels: np.ndarray, config: TrainingConfig, seed: int) -> np.ndarray:
    """Prune rows of the larger class at random if the config says so; otherwise return all.

    Args:
        labels: [row], 0 or 1.
    """
    if config.balance != "prune":
        return np.arange(len(labels))
    return balanced_rows(labels, stream(seed, "prune"))


def fit(
    state: TrainingState,
    training: VolumeSet,
    validation: VolumeSet,
    config: AnyTraining,
    seed: int,
    world: World | None = None,
) -> Iterator[Epoch]:
    """Train from the state's epoch to the config's last one, yielding each epoch.

    Every draw of an epoch comes from a random stream named after the epoch, so that continuing from
    a saved state gives the same bits as a training without interruption.

    Args:
        state: changed in place; between epochs it can be saved.
        training: see :func:`training_rows`; the whole set on every worker.
        validation: one row per subject (or its slices), never augmented.
        world: the workers that share each batch; None trains with one worker.

    Raises:
        Diverged: the loss became NaN or infinite.

    >>> from mgmt_ray.nets.build import NetworkConfig, build_volume_network
    >>> network_config = NetworkConfig(kind="random", depth=10, width=4)
    >>> config = TrainingConfig(epochs=2, batch_size=4)
    >>> network = build_volume_network(network_config, 1, config.temperature, checkpoint=None)
    >>> labels = torch.tensor([0.0, 1.0, 0.0, 1.0])
    >>> data = VolumeSet(torch.rand(4, 1, 16, 16, 16).half(), labels, ("a", "b", "c", "d"))
    >>> [epoch.number for epoch in fit(TrainingState(network, config), data, data, config, seed=1)]
    [1, 2]
    """
    world = world or World()
    task = make_task(state.network, training, config)
    check_bf16_kernels(state.network, training.volumes, config.precision)
    trained, training, validation = cache_frozen_features(
        state.network, training, validation, config.batch_size, config.precision
    )
    device = training.volumes.device
    network = compile_network(world.wrap(trained), config, device)
    while state.epoch < config.epochs and not is_stable(state.accuracies, config):
        started = time.perf_counter()
        number = state.epoch + 1
        rates = state.learning_rates
        if isinstance(config, TrainingConfig) and config.temperature_end is not None:
            assert isinstance(state.network, VolumeNetwork)
            state.network.temperature = config.temperature_in(number)
        with raise_compile_error_with_hint(config), search_kernels(device, config.precision):
            train = _train_epoch(network, state, training, task, config, seed, world)
        _check_finite("training", train, number)
        scores, predictions = _validate(task, trained, validation, seed, world)
        _check_finite("validation", scores, number)
        end_epoch(state.scheduler, config, scores)
        if isinstance(scores, SliceScores):
            state.accuracies.append(scores.accuracy)
        state.epoch = number
        seconds = time.perf_counter() - started
        yield Epoch(number, train, scores, rates, seconds, predictions)


def _train_epoch(
    network: nn.Module,
    state: TrainingState,
    data: VolumeSet,
    task: Task,
    config: AnyTraining,
    seed: int,
    world: World,
) -> EpochScores:
    """Train on all rows once, and score them."""
    network.train()
    number, device = state.epoch + 1, data.volumes.device
    batches = even_batches(stream(seed, "order", number).permutation(len(data)), config.batch_size)
    shares = [rows[world.rank :: world.size] for rows in batches]
    sizes = [len(rows) for rows in shares]
    indices = upload(torch.from_numpy(np.concatenate(shares)), device).split(sizes)
    noises = _draw_noise(task.noise(seed, number), batches, world, device)
    outputs = []
    for rows, share, index, noise in zip(batches, shares, indices, noises, strict=True):
        outputs.append(
            train_step(
                network,
                state.optimizer,
                data.select(share, index),
                task,
                noise,
                num_rows=len(rows),
                num_workers=world.size,
            )
        )
    return task.train_scores(world.gather(torch.cat(outputs)))


def _draw_noise(
    draw: Callable[[int], Noise], batches: list[np.ndarray], world: World, device: torch.device
) -> list[Noise]:
    """Draw the noise of an epoch's batches in their order, and upload this worker's share at once.

    A copy in each step would make the CPU wait for the device.
    """
    columns: list[Sequence[Tensor | None]] = []
    for parts in zip(*(draw(len(rows)) for rows in batches), strict=True):
        shares = [part[world.rank :: world.size] for part in parts if part is not None]
        if shares:
            columns.append(upload(torch.cat(shares), device).split([len(part) for part in shares]))
        else:
            columns.append([None] * len(batches))
    return [tuple(column[i] for column in columns) for i in range(len(batches))]


def _check_finite(part: str, scores: EpochScores, epoch: int) -> None:
    """Raise :class:`Diverged` unless the mean loss, and so that of each row, is finite."""
    if not math.isfinite(scores.loss):
        raise Diverged(
            f"the {part} loss is {scores.loss} in epoch {epoch}. "
            "Lower learning_rate (and agent_learning_rate) in the study's training.",
            epoch,
        )


def _validate(
    task: Task, network: nn.Module, data: VolumeSet, seed: int, world: World
) -> tuple[EpochScores, EpochPredictions]:
    """Return scores and predictions of all rows, each predicted by one worker."""
    rows = np.arange(len(data))[world.rank :: world.size]
    share = data if world.size == 1 else data.select(rows)
    values = task.predict(network, share, stream_seed(seed, "validation"))
    gathered = world.gather(torch.column_stack([values, torch.from_numpy(rows)]))
    in_order = gathered[gathered[:, -1].argsort()]
    return task.validation(in_order[:, :-1], data)
