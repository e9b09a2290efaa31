"""How long the paper's 165 trainings take on some GPUs: ``python -m benchmarks.study``."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import ceil
from statistics import median

import numpy as np
import torch
import tyro
from torch import nn

from benchmarks.device import count_operations, seconds_of
from benchmarks.our_step import Case, OurTraining, random_volumes, resident, spottune
from benchmarks.step import Options as StepOptions
from benchmarks.step import resolve
from mgmt_ray.nets.plain import PlainNetwork
from mgmt_ray.nets.resnet3d import ResNet3d
from mgmt_ray.training.config import Precision
from mgmt_ray.training.evaluate import predict

GROUPS = {"DSC": (3, 132), "DTI": (4, 151), "Struct": (4, 183)}
"""Modalities, and training subjects of each (SPEC section A, Split)."""

FOLDS, VERSIONS, METHYLATED, VALIDATION_DRAWS = 5, 5, 121 / 291, 32
FULL_WIDTH, FULL_SHAPE = 64, (70, 86, 86)


@dataclass(frozen=True)
class Options:
    """Predict the wall time of the 165 trainings from seconds that are given or measured now.

    What is not given is measured: at full size on a GPU; small on a CPU, and scaled by the number
    of operations, which is a guess.

    Attributes:
        spottune_step_s: a training step of SpotTune
        random_step_s: a training step of the network from scratch
        forward_s: one volume through the transfer network's frozen part
        spottune_validation_s: one subject under 32 Sobol policies
        plain_step_s: a plain step of SpotTune, for the ratio
        head_step_s: a step on kept features
        start_s: before the first step of a trial: reading volumes and weights, compiling
        busy: share of the time in which one trial keeps a GPU busy; measure it with nvidia-smi
        gpus: numbers of GPUs
        trials_per_gpu: numbers of trials that share one
        epochs: of each training
        batch: volumes per step
        precision: what is measured
        device: as torch names it; none: a GPU if there is one
    """

    spottune_step_s: float | None = None
    random_step_s: float | None = None
    forward_s: float | None = None
    spottune_validation_s: float | None = None
    plain_step_s: float | None = None
    head_step_s: float = 0.001
    start_s: float = 20.0
    busy: float = 1.0
    gpus: tuple[int, ...] = (1, 4, 8)
    trials_per_gpu: tuple[int, ...] = (1, 2, 4)
    epochs: int = 90
    batch: int = 12
    precision: Precision = "bf16"
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Seconds:
    """Of the parts of a training; see :class:`Options`."""

    spottune_step: float
    random_step: float
    forward: float
    spottune_validation: float


def main(options: Options) -> None:
    seconds = find_seconds(options)
    print(seconds, flush=True)
    trials = trainings(options, seconds)
    hours = {
        f"{gpus} GPUs, {share} trials each": round(wall_s(trials, options, gpus, share) / 3600, 3)
        for gpus in options.gpus
        for share in options.trials_per_gpu
    }
    plain_step_s = options.plain_step_s or seconds.spottune_step
    slower = plain_step_s / seconds.spottune_step
    plain = sum(slower * t for t in trainings(options, seconds, cached=False))
    plain += len(trials) * options.start_s
    print(
        json.dumps(
            {
                "name": "study",
                "ratio": round(plain / wall_s(trials, options, 1, 1), 2),
                "difference": None,  # nothing is trained
                "num_trainings": len(trials),
                "hours": hours,
                "compute_hours": round(sum(trials) / 3600, 3),
                "plain_hours_on_1_gpu": round(plain / 3600, 3),
                "seconds": {name: float(f"{s:.4g}") for name, s in asdict(seconds).items()},
                "busy": options.busy,
                "start_s": options.start_s,
            }
        )
    )


def trainings(options: Options, seconds: Seconds, cached: bool = True) -> list[float]:
    """Seconds of each of the 165 trainings, without their start."""
    found = []
    for modalities, subjects in GROUPS.values():
        validating = subjects // FOLDS
        rows = round(2 * METHYLATED * VERSIONS * (subjects - validating))
        steps = ceil(rows / options.batch)
        once = (rows + validating) * seconds.forward
        epochs = options.epochs
        spottune = steps * seconds.spottune_step + validating * seconds.spottune_validation
        random = steps * seconds.random_step + validating * seconds.forward
        transfer = once + epochs * steps * options.head_step_s if cached else epochs * once
        found += [*[epochs * spottune, epochs * random, transfer] * modalities * FOLDS]
    return found


def wall_s(trials: list[float], options: Options, gpus: int, share: int) -> float:
    """Seconds until the last trial ends, the longest begun first.

    One trial keeps a GPU busy for a part of the time; several take turns, until it is always busy.
    """
    slower = max(1.0, share * options.busy)
    free = [0.0] * (gpus * share)
    for trial in sorted(trials, reverse=True):
        heapq.heappush(free, heapq.heappop(free) + options.start_s + slower * trial)
    return max(free)


def find_seconds(options: Options) -> Seconds:
    """What is given, and the rest measured."""
    given = (
        options.spottune_step_s,
        options.random_step_s,
        options.forward_s,
        options.spottune_validation_s,
    )
    measured = measure(options) if None in given else given
    return Seconds(*(m if g is None else g for g, m in zip(given, measured, strict=True)))


def measure(options: Options) -> tuple[float, float, float, float]:
    torch.set_num_threads(1)
    case = resolve(
        StepOptions(device=options.device, batch=options.batch, precision=options.precision)
    )
    device, config = case.device, case.config
    data = resident(case, *random_volumes(case))
    batch = data.select(np.arange(options.batch))
    evaluate = partial(predict, data=batch, kind="sobol", seed=0, precision=options.precision)
    network, plain = spottune(case), from_scratch(case.width, device)
    draws_s = timed(lambda: evaluate(network, num_draws=VALIDATION_DRAWS), device)
    forward_s = timed(lambda: evaluate(plain, num_draws=1), device)
    spottune_s = timed(OurTraining(network, config, data).step, device)
    random_s = timed(OurTraining(plain, config, data).step, device)
    full = replace(case, width=FULL_WIDTH, shape=FULL_SHAPE)
    routed_scale = operations(full, spottune(full, "meta")) / operations(
        case, spottune(case, "meta")
    )
    plain_scale = operations(full, from_scratch(full.width, "meta")) / operations(
        case, from_scratch(case.width, "meta")
    )
    return (
        spottune_s * routed_scale,
        random_s * plain_scale,
        forward_s / options.batch * plain_scale,
        draws_s / options.batch * routed_scale,
    )


def from_scratch(width: int, device: str) -> PlainNetwork:
    with torch.device(device):
        return PlainNetwork(ResNet3d(50, width, 1, 1), None).train()


def operations(case: Case, network: nn.Module) -> float:
    return count_operations(network, case.config.batch_size, case.shape)


def timed(run: Callable[[], object], device: str) -> float:
    """Median of three calls after two that warm up and compile."""
    return median([seconds_of(run, device) for _ in range(5)][2:])


if __name__ == "__main__":
    main(tyro.cli(Options))
