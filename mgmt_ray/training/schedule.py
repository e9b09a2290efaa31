"""Learning rates from epoch to epoch, and the end of a training."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from mgmt_ray.base import MgmtError
from mgmt_ray.training.task import EpochScores
from mgmt_ray.training.training_config import AnyTraining, ClassificationTraining

Scheduler = ReduceLROnPlateau | LambdaLR


def make_scheduler(optimizer: Optimizer, config: AnyTraining) -> Scheduler:
    """Return the scheduler of the config's schedule.

    >>> import torch
    >>> from mgmt_ray.training.training_config import TrainingConfig
    >>> optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=0.1)
    >>> scheduler = make_scheduler(optimizer, TrainingConfig(schedule="cosine", epochs=2))
    >>> optimizer.step()
    >>> scheduler.step()
    >>> optimizer.param_groups[0]["lr"]
    0.05
    """
    match config.schedule:
        case "plateau":
            return ReduceLROnPlateau(
                # by default torch does not lower rates that would fall by less than 1e-8
                optimizer,
                mode="min" if config.monitor == "loss" else "max",
                factor=config.rate_factor,
                patience=config.patience,
                eps=0.0,
            )
        case "cosine":
            # Loshchilov & Hutter 2017, eq. 5, without restarts: the full rate in the first epoch,
            # almost 0 in the last
            half = math.pi / config.epochs
            return LambdaLR(optimizer, lambda epoch: (1 + math.cos(half * epoch)) / 2)
        case "constant":
            return LambdaLR(optimizer, lambda epoch: 1.0)


def end_epoch(scheduler: Scheduler, config: AnyTraining, validation: EpochScores) -> None:
    """Set the rates of the next epoch.

    Raises:
        MgmtError: the monitored score is NaN, as the validation fold has only one class.
    """
    if isinstance(scheduler, LambdaLR):
        scheduler.step()
        return
    assert config.schedule == "plateau"
    monitored: float = getattr(validation, config.monitor)
    if math.isnan(monitored):
        raise MgmtError(
            f"training.monitor: {config.monitor} is not defined, as the validation fold has only "
            "one class. Use fewer folds, or monitor: loss."
        )
    scheduler.step(monitored)


def is_stable(accuracies: Sequence[float], config: AnyTraining) -> bool:
    """Return whether the validation accuracy was stable for ``config.stable_epochs`` epochs.

    Args:
        config: never stable if its ``stable_epochs`` is None.

    >>> is_stable([0.5, 0.8, 0.8, 0.8], ClassificationTraining(stable_epochs=2))
    True
    >>> is_stable([0.8, 0.7, 0.6], ClassificationTraining(stable_epochs=2, stable="not_better"))
    True
    """
    number = config.stable_epochs
    if number is None or len(accuracies) <= number:
        return False
    if isinstance(config, ClassificationTraining) and config.stable == "not_better":
        return max(accuracies[-number:]) <= max(accuracies[:-number])
    return len({*accuracies[-number - 1 :]}) == 1
