"""The training loop: yields epochs; whoever calls it chooses, saves and reports."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mgmt_ray.base import MgmtError, stream, stream_seed
from mgmt_ray.nets.build import Network
from mgmt_ray.nets.head import dropout_mask
from mgmt_ray.nets.plain import Tail
from mgmt_ray.nets.policy import gumbel_noise
from mgmt_ray.training.config import TrainingConfig
from mgmt_ray.training.dataset import VolumeSet, balanced_rows, even_batches
from mgmt_ray.training.distributed import World
from mgmt_ray.training.evaluate import Predictions, predict
from mgmt_ray.training.frozen import run_frozen_part
from mgmt_ray.training.metrics import Scores, score
from mgmt_ray.training.objective import class_weights
from mgmt_ray.training.precision import (
    arrange,
    compile_failure_told,
    compiled,
    refuse_faulty_bf16,
)
from mgmt_ray.training.schedule import end_epoch, make_scheduler
from mgmt_ray.training.step import train_step


class Diverged(MgmtError):
    """A training's loss is no longer a number.

    Attributes:
        epoch: the one that it happened in, from 1; the one before is the last good one.
    """

    def __init__(self, message: str, epoch: int) -> None:
        super().__init__(message)
        self.epoch = epoch


@dataclass(frozen=True, slots=True, eq=False)
class Epoch:
    """What one pass over the training volumes gave.

    Attributes:
        number: from 1.
        train: scores of the volumes as they passed, under one drawn policy each.
        validation: scores of the validation fold, mean over its draws.
        learning_rates: by parameter group, as used in this epoch.
        seconds: wall time.
        predictions: of the validation fold, in its order.
    """

    number: int
    train: Scores
    validation: Scores
    learning_rates: dict[str, float]
    seconds: float
    predictions: Predictions


class TrainingState:
    """A network with its optimiser and schedule: what a checkpoint must hold to continue."""

    def __init__(self, network: Network, config: TrainingConfig) -> None:
        rates = {"network": config.learning_rate, "agent": config.agent_learning_rate}
        arrange(network, config.precision)
        on_gpu = next(network.parameters()).is_cuda
        self.network = network
        self.optimizer = torch.optim.Adam(
            [
                {"params": parameters, "lr": rates[name], "name": name}
                for name, parameters in network.parameter_groups().items()
            ],
            # one kernel for all parameters; on CPUs in float32 its rounding would be another
            fused=on_gpu or config.precision == "bf16",
        )
        self.scheduler = make_scheduler(self.optimizer, config)
        self.epoch = 0

    @property
    def learning_rates(self) -> dict[str, float]:
        """Current rate by parameter group."""
        return {group["name"]: group["lr"] for group in self.optimizer.param_groups}

    def state_dict(self) -> dict[str, object]:
        """All that changes during training."""
        return {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint, whichever device saved it."""
        self.epoch = state["epoch"]
        self.network.load_state_dict(state["network"])
        own = {"fused": self.optimizer.defaults["fused"]}
        saved = state["optimizer"]
        groups = [group | own for group in saved["param_groups"]]
        self.optimizer.load_state_dict({**saved, "param_groups": groups})
        for parameter, moments in self.optimizer.state.items():
            for name in ("exp_avg", "exp_avg_sq"):
                # fused kernels walk through memory: moments must lie as their parameters do
                moments[name] = torch.empty_like(parameter).copy_(moments[name])
        self.scheduler.load_state_dict(state["scheduler"])


def prepare_training_rows(data: VolumeSet, config: TrainingConfig, seed: int) -> VolumeSet:
    """The volumes that train, once classes are balanced as the config says."""
    if config.balance != "prune":
        return data
    rows = balanced_rows(data.labels.cpu().numpy(), stream(seed, "prune"))
    return data.select(rows)


def fit(
    state: TrainingState,
    training: VolumeSet,
    validation: VolumeSet,
    config: TrainingConfig,
    seed: int,
    world: World | None = None,
) -> Iterator[Epoch]:
    """Train from the state's epoch to the config's last one, yielding each epoch.

    Every draw of an epoch comes from a stream named after the epoch, so that continuing from a
    checkpoint equals never having stopped.

    Args:
        state: changed in place; between epochs it can be saved.
        training: see :func:`prepare_training_rows`; the whole set on every worker.
        validation: one row per subject, never augmented.
        config: of the training.
        seed: of the trial's streams.
        world: the workers that share each batch; None trains alone.

    Raises:
        Diverged: the loss became NaN or infinite.
    """
    world = world or World()
    device = training.volumes.device
    refuse_faulty_bf16(state.network, training.volumes, config.precision)
    trained, training, validation = run_frozen_part(
        state.network, training, validation, config.batch_size, config.precision
    )
    network = compiled(world.wrap(trained), config, device)
    weights = class_weights(training.labels) if config.balance == "weight" else None
    while state.epoch < config.epochs:
        started = time.perf_counter()
        number = state.epoch + 1
        rates = state.learning_rates
        with compile_failure_told(config):
            train = _train_epoch(network, state, training, config, seed, world, weights, number)
        _refuse_divergence("training", train, number)
        predictions = _validate(trained, validation, config, seed, world)
        scores = score(predictions.probability, validation.labels.cpu().numpy(), predictions.loss)
        _refuse_divergence("validation", scores, number)
        end_epoch(state.scheduler, config, scores)
        state.epoch = number
        seconds = time.perf_counter() - started
        yield Epoch(number, train, scores, rates, seconds, predictions)


def _train_epoch(
    network: nn.Module,
    state: TrainingState,
    data: VolumeSet,
    config: TrainingConfig,
    seed: int,
    world: World,
    weights: Tensor | None,
    number: int,
) -> Scores:
    network.train()
    order = stream(seed, "order", number).permutation(len(data))
    noise = torch.Generator().manual_seed(stream_seed(seed, "gumbel", number))
    dropped = torch.Generator().manual_seed(stream_seed(seed, "dropout", number))
    num_blocks, num_features = state.network.num_routed_blocks, state.network.num_features
    dropout = state.network.dropout
    seen = []
    for rows in even_batches(order, config.batch_size):
        gumbel = gumbel_noise(len(rows), num_blocks, noise)
        mine = slice(world.rank, None, world.size)
        batch = data.select(rows[mine])
        keep = dropout_mask(len(rows), num_features, dropout, dropped)[mine] if dropout else None
        logits = train_step(
            network,
            state.optimizer,
            batch,
            gumbel[mine],
            keep=keep,
            weights=weights,
            num_rows=len(rows),
            num_workers=world.size,
            precision=config.precision,
        )
        seen.append(torch.stack([logits.to(batch.labels.dtype), batch.labels]))
    logits, labels = world.gather(torch.cat(seen, dim=1).T).double().T.cpu()
    probability = torch.sigmoid(logits)
    losses = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return score(probability.numpy(), labels.numpy(), losses.numpy())


def _refuse_divergence(part: str, scores: Scores, epoch: int) -> None:
    """Raise :class:`Diverged` unless the mean loss, and with it every single one, is finite."""
    if not math.isfinite(scores.loss):
        raise Diverged(
            f"the {part} loss is {scores.loss} in epoch {epoch}. "
            "Lower learning_rate (and agent_learning_rate) of the study's training.",
            epoch,
        )


def _validate(
    network: Network | Tail, data: VolumeSet, config: TrainingConfig, seed: int, world: World
) -> Predictions:
    """Predictions of all rows, each made by one worker."""
    mine = np.arange(len(data))[world.rank :: world.size]
    own = predict(
        network,
        data.select(mine),
        num_draws=config.validation_draws,
        kind="sobol",
        seed=stream_seed(seed, "validation"),
        precision=config.precision,
    )
    columns = np.stack([own.probability, own.deviation, own.loss, mine], axis=1)
    gathered = world.gather(torch.from_numpy(columns)).numpy()
    gathered = gathered[np.argsort(gathered[:, 3])]
    return Predictions(gathered[:, 0], gathered[:, 1], gathered[:, 2])
