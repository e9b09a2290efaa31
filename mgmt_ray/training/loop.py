"""The training loop: yields epochs; whoever calls it chooses, saves and reports."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mgmt_ray.base import MgmtError, stream, stream_seed
from mgmt_ray.nets.build import Network
from mgmt_ray.nets.policy import gumbel_noise
from mgmt_ray.training.config import TrainingConfig
from mgmt_ray.training.dataset import VolumeSet, balanced_rows
from mgmt_ray.training.distributed import World
from mgmt_ray.training.evaluate import Predictions, predict
from mgmt_ray.training.metrics import Scores, score
from mgmt_ray.training.objective import class_weights, cross_entropy_sum


class Diverged(MgmtError):
    """The loss is no longer a number."""


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
        self.network = network
        self.optimizer = torch.optim.Adam(
            [
                {"params": parameters, "lr": rates[name], "name": name}
                for name, parameters in network.parameter_groups().items()
            ]
        )
        self.scheduler = ReduceLROnPlateau(
            # without eps=0 torch leaves rates alone that would fall by less than 1e-8
            self.optimizer,
            factor=config.rate_factor,
            patience=config.patience,
            eps=0.0,
        )
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

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue from a checkpoint."""
        self.epoch = state["epoch"]  # type: ignore[assignment]
        self.network.load_state_dict(state["network"])  # type: ignore[arg-type]
        self.optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]
        self.scheduler.load_state_dict(state["scheduler"])  # type: ignore[arg-type]


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
    network = world.wrap(state.network)
    weights = class_weights(training.labels) if config.balance == "weight" else None
    while state.epoch < config.epochs:
        started = time.perf_counter()
        number = state.epoch + 1
        rates = state.learning_rates
        train = _train_epoch(network, state, training, config, seed, world, weights, number)
        predictions = _validate(state.network, validation, config, seed, world)
        scores = score(predictions.probability, validation.labels.cpu().numpy(), predictions.loss)
        state.scheduler.step(scores.loss)
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
    num_blocks = state.network.num_routed_blocks
    dtype = next(state.network.parameters()).dtype
    seen = []
    for rows in np.array_split(order, -(-len(data) // config.batch_size)):
        gumbel = gumbel_noise(len(rows), num_blocks, noise)
        mine = slice(world.rank, None, world.size)
        batch = data.select(rows[mine])
        logits = network(batch.volumes.to(dtype), gumbel[mine].to(batch.volumes.device))
        loss = cross_entropy_sum(logits, batch.labels, weights)
        state.optimizer.zero_grad(set_to_none=True)
        # Workers average their gradients, so each gives its share of the batch's mean.
        (loss * world.size / len(rows)).backward()
        state.optimizer.step()
        seen.append(torch.stack([logits.detach().to(batch.labels.dtype), batch.labels]))
    logits, labels = world.gather(torch.cat(seen, dim=1).T).double().T.cpu()
    if not torch.isfinite(logits).all():
        raise Diverged(
            f"the loss is no longer a number in epoch {number}. "
            "Lower the learning rate of the study's training."
        )
    probability = torch.sigmoid(logits)
    losses = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return score(probability.numpy(), labels.numpy(), losses.numpy())


def _validate(
    network: Network, data: VolumeSet, config: TrainingConfig, seed: int, world: World
) -> Predictions:
    """Predictions of all rows, each made by one worker."""
    mine = np.arange(len(data))[world.rank :: world.size]
    own = predict(
        network,
        data.select(mine),
        num_draws=config.validation_draws,
        kind="sobol",
        seed=stream_seed(seed, "validation"),
    )
    columns = np.stack([own.probability, own.deviation, own.loss, mine], axis=1)
    gathered = world.gather(torch.from_numpy(columns)).numpy()
    gathered = gathered[np.argsort(gathered[:, 3])]
    return Predictions(gathered[:, 0], gathered[:, 1], gathered[:, 2])
