"""Estimated time of the paper's 165 trainings on GPUs: ``python -m benchmarks.study``."""

from __future__ import annotations

import heapq
import json
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import tyro

from benchmarks.study_seconds import Known, find_seconds
from mgmt_ray.training.training_config import Precision

GROUPS = {"DSC": (3, 132), "DTI": (4, 151), "Struct": (4, 183)}
"""Modalities, and training subjects of each (Schmitz et al. 2024, sec. 2.2)."""

FOLDS, VERSIONS, METHYLATED = 5, 5, 121 / 291


@dataclass(frozen=True)
class Options:
    """Estimate the wall time of the 165 trainings from given or measured durations.

    Durations that are not given are measured: at full size on a GPU; on a CPU at a small size,
    scaled by the number of operations. The others are guesses, which the result marks as such.

    Attributes:
        step_json: output of ``benchmarks.step``, for the steps of SpotTune and the plain one
        spottune_step_s: a training step of SpotTune
        random_step_s: a training step of the network from scratch
        forward_s: one volume through the transfer network's frozen part
        spottune_validation_s: one subject under 32 Sobol policies
        plain_step_s: a plain step of SpotTune; without it there is no ratio
        head_step_s: a step on kept features; none: a guess, 1 ms
        start_s: reading volumes and weights, compiling: before a trial's first step; none: a
            guess, 20 s
        busy: share of the time in which one trial keeps a GPU busy; measure it with nvidia-smi
        gpus: numbers of GPUs
        trials_per_gpu: numbers of trials that share one
        epochs: of each training
        batch: volumes per step
        precision: what is measured
        device: as torch names it; none: a GPU if there is one
    """

    step_json: Path | None = None
    spottune_step_s: float | None = None
    random_step_s: float | None = None
    forward_s: float | None = None
    spottune_validation_s: float | None = None
    plain_step_s: float | None = None
    head_step_s: float | None = None
    start_s: float | None = None
    busy: float = 1.0
    gpus: tuple[int, ...] = (1, 4, 8)
    trials_per_gpu: tuple[int, ...] = (1, 2, 4)
    epochs: int = 90
    batch: int = 12
    precision: Precision = "bf16"
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Seconds:
    """Seconds of the parts of a training; see :class:`Options`."""

    spottune_step: float
    random_step: float
    forward: float
    spottune_validation: float
    head_step: float
    start: float
    plain_step: float | None = None


def main(options: Options) -> None:
    given = {name: getattr(options, name) for name in vars(options) if name.endswith("_s")}
    known = find_seconds(given, options.step_json, options.device, options.batch, options.precision)
    seconds = Seconds(**{name.removesuffix("_s"): k.seconds for name, k in known.items()})
    print(json.dumps(summary(options, seconds, known)))


def summary(options: Options, seconds: Seconds, known: dict[str, Known]) -> dict[str, object]:
    trials = trainings(options, seconds)
    plain = plain_wall_s(options, seconds)
    ours = wall_s(trials, options, seconds.start, gpus=1, share=1)
    hours = {
        f"{gpus} GPUs, {share} trials each": round(
            wall_s(trials, options, seconds.start, gpus, share) / 3600, 3
        )
        for gpus in options.gpus
        for share in options.trials_per_gpu
    }
    return {
        "name": "study",
        "ratio": None if plain is None else round(plain / ours, 2),
        "difference": None,  # nothing is trained
        "num_trainings": len(trials),
        "hours": hours,
        "compute_hours": round(sum(trials) / 3600, 3),
        "plain_hours_on_1_gpu": None if plain is None else round(plain / 3600, 3),
        "seconds": {name: float(f"{k.seconds:.4g}") for name, k in known.items()},
        "sources": {name: k.source for name, k in known.items()},
        "busy": options.busy,
    }


def trainings(
    options: Options, seconds: Seconds, slowdown: float = 1.0, cached: bool = True
) -> list[float]:
    """Return the seconds of each of the 165 trainings, without their start.

    Args:
        options: of the trainings.
        seconds: of their parts.
        slowdown: of training steps; validation and the frozen network's run take what they take.
        cached: the frozen network runs once and not in every epoch.
    """
    found = []
    for modalities, subjects in GROUPS.values():
        validating = subjects // FOLDS
        rows = round(2 * METHYLATED * VERSIONS * (subjects - validating))
        steps = ceil(rows / options.batch)
        once = (rows + validating) * seconds.forward
        epochs = options.epochs
        spottune = slowdown * steps * seconds.spottune_step
        spottune += validating * seconds.spottune_validation
        random = slowdown * steps * seconds.random_step + validating * seconds.forward
        transfer = once + epochs * steps * seconds.head_step if cached else epochs * once
        found += [*[epochs * spottune, epochs * random, transfer] * modalities * FOLDS]
    return found


def plain_wall_s(options: Options, seconds: Seconds) -> float | None:
    """Return the seconds of all trials on one GPU with plain steps; None without a plain step.

    Frozen features are not cached, and the network from scratch is slowed down as SpotTune is.
    """
    if seconds.plain_step is None:
        return None
    trials = trainings(
        options, seconds, slowdown=seconds.plain_step / seconds.spottune_step, cached=False
    )
    return wall_s(trials, options, seconds.start, gpus=1, share=1)


def wall_s(trials: list[float], options: Options, start_s: float, gpus: int, share: int) -> float:
    """Return the seconds until the last trial ends, if the longest trials start first.

    One trial keeps a GPU busy for part of the time; trials that share it fill the gaps.
    """
    slower = max(1.0, share * options.busy)
    free = [0.0] * (gpus * share)
    for trial in sorted(trials, reverse=True):
        heapq.heappush(free, heapq.heappop(free) + start_s + slower * trial)
    return max(free)


if __name__ == "__main__":
    main(tyro.cli(Options))
