"""How the learning rates fall from epoch to epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from mgmt_ray.base import MgmtError
from mgmt_ray.training.task import EpochScores
from mgmt_ray.training.training_config import AnyTraining

Scheduler = ReduceLROnPlateau | LambdaLR


def make_scheduler(optimizer: Optimizer, config: AnyTraining) -> Scheduler:
    """The config's schedule; its state can be saved and continued from."""
    match config.schedule:
        case "plateau":
            return ReduceLROnPlateau(
                # without eps=0 torch leaves rates alone that would fall by less than 1e-8
                optimizer,
                mode="min" if config.monitor == "loss" else "max",
                factor=config.rate_factor,
                patience=config.patience,
                eps=0.0,
            )
        case "cosine":
            # Loshchilov & Hutter 2017, eq. 5, without restarts: all of the rate in the first
            # epoch, almost none in the last
            half = math.pi / config.epochs
            return LambdaLR(optimizer, lambda epoch: (1 + math.cos(half * epoch)) / 2)
        case "constant":
            return LambdaLR(optimizer, lambda epoch: 1.0)


def end_epoch(scheduler: Scheduler, config: AnyTraining, validation: EpochScores) -> None:
    """Set the rates of the next epoch.

    Args:
        scheduler: of :func:`make_scheduler`.
        config: the same.
        validation: the epoch's scores; a plateau looks at the one that the config names.

    Raises:
        MgmtError: the monitor is not defined, for want of one of the classes.
    """
    if isinstance(scheduler, LambdaLR):
        scheduler.step()
        return
    assert config.schedule == "plateau"
    watched: float = getattr(validation, config.monitor)
    if math.isnan(watched):
        raise MgmtError(
            f"training.monitor: {config.monitor} is not defined, as the validation fold lacks a "
            "class. Take fewer folds, or monitor: loss."
        )
    scheduler.step(watched)


def is_stable(accuracies: Sequence[float], config: AnyTraining) -> bool:
    """Whether the validation accuracy has stayed the same for the config's number of epochs.

    Args:
        accuracies: one per epoch so far.
        config: which may ask for no such end.
    """
    number = config.stable_epochs
    if number is None or len(accuracies) <= number:
        return False
    return len({*accuracies[-number - 1 :]}) == 1
