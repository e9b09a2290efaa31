"""One SpotTune training step, ours and a plain one: ``python -m benchmarks.step``."""

from __future__ import annotations

import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import tyro
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.device import count_operations, matrix_rate, peak_mb, seconds_of
from benchmarks.our_step import Case, OurTraining, random_volumes, resident, spottune
from benchmarks.plain_step import PlainTraining, VolumeFiles
from benchmarks.public_step import compare_with_public_step
from mgmt_ray.nets.policy import gumbel_noise
from mgmt_ray.training.config import Precision, TrainingConfig
from mgmt_ray.training.precision import autocast

TEMPERATURE = 100.0


@dataclass(frozen=True)
class Options:
    """Measure a training step of the paper's network; full size where there is a GPU.

    Attributes:
        device: as torch names it; none: a GPU if there is one
        width: channels of the stems; none: 64 on a GPU, 32 on a CPU
        shape: of a volume; none: 70 86 86 on a GPU, 24 32 32 on a CPU
        batch: volumes per step
        precision: of ours; the plain step computes in fp32
        compile: whether ours is compiled; none: on a GPU
        rounds: how often both are timed, in turns
        steps: of each in a round
        memory: whether peak memory is measured, in processes of their own
        reference: a checkout of the paper's public code, to measure that too
    """

    device: str | None = None
    width: int | None = None
    shape: tuple[int, int, int] | None = None
    batch: int = 12
    precision: Precision = "bf16"
    compile: bool | None = None
    rounds: int = 7
    steps: int = 1
    memory: bool = True
    reference: Path | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of a step: by the clock on the wall, and of this process's processor."""

    wall_s: float
    process_s: float


def main(options: Options) -> None:
    torch.set_num_threads(1)
    case = resolve(options)
    volumes, labels = random_volumes(case)
    with tempfile.TemporaryDirectory(prefix="mgmt-ray-benchmark-") as scratch:
        files = VolumeFiles(Path(scratch), volumes, labels)
        plain = make_plain(case, files)
        difference = {p: differences(case, plain, volumes, labels, p) for p in ("fp32", "bf16")}
        print("differences", difference, flush=True)
        operations = count_operations(spottune(case, "meta"), case.config.batch_size, case.shape)
        ours = OurTraining(spottune(case), case.config, resident(case, volumes, labels))
        for training in (plain, ours):
            for _ in range(2):  # warm, and compiled
                training.step()
        spent = in_turns(case, options, [plain.step, ours.step])
        del plain, ours
        peak = {w: peak_of(w, case, scratch) for w in ("plain", "ours")} if options.memory else None
    rates = {p: matrix_rate(case.device, p) for p in ("fp32", "bf16")}
    public = compare_with_public_step(options.reference, case.device) if options.reference else None
    print(json.dumps(summary(case, spent, difference, operations, peak, rates, public)))


def resolve(options: Options) -> Case:
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.startswith("cuda")
    config = TrainingConfig(
        batch_size=options.batch,
        temperature=TEMPERATURE,
        precision=options.precision,
        compile=on_gpu if options.compile is None else options.compile,
    )
    return Case(
        device,
        options.width or (64 if on_gpu else 32),
        options.shape or ((70, 86, 86) if on_gpu else (24, 32, 32)),
        config,
    )


def make_plain(case: Case, files: VolumeFiles) -> PlainTraining:
    plain = PlainTraining(case.width, files, case.config.batch_size, TEMPERATURE, case.device)
    plain.take(spottune(case).state_dict())
    return plain


def differences(
    case: Case, plain: PlainTraining, volumes: np.ndarray, labels: np.ndarray, precision: Precision
) -> dict[str, float]:
    """Largest difference of a logit and of the loss before any step, in training mode."""
    batch = torch.from_numpy(volumes[: case.config.batch_size]).to(case.device).float()
    label = torch.from_numpy(labels[: case.config.batch_size]).to(case.device).float()
    network, theirs = spottune(case), copy.copy(plain)
    theirs.network, theirs.agent = copy.deepcopy(plain.network), copy.deepcopy(plain.agent)
    noise = gumbel_noise(
        case.config.batch_size, network.num_routed_blocks, torch.Generator().manual_seed(2)
    )
    noise = noise.float().to(case.device)
    with torch.no_grad():
        expected = theirs.logits(batch, noise).squeeze(1)
        with autocast(batch.device, precision):
            logits = network(batch, noise)
    losses = [binary_cross_entropy_with_logits(x, label) for x in (logits, expected)]
    return {
        "logit": float((logits - expected).abs().max()),
        "loss": float((losses[0] - losses[1]).abs()),
    }


def in_turns(case: Case, options: Options, steps: list[Callable[[], None]]) -> list[list[Spent]]:
    """Per step of each, round by round."""
    spent: list[list[Spent]] = [[] for _ in steps]
    for _ in range(options.rounds):
        for own, step in zip(spent, steps, strict=True):
            started = time.process_time()
            wall_s = seconds_of(partial(repeat, step, options.steps), case.device)
            process_s = time.process_time() - started
            own.append(Spent(wall_s / options.steps, process_s / options.steps))
        print(*(f"{own[-1].wall_s:.4f} s" for own in spent), flush=True)
    return spent


def repeat(step: Callable[[], None], times: int) -> None:
    for _ in range(times):
        step()


def peak_of(which: str, case: Case, scratch: str) -> float:
    """Most memory (10⁶ bytes) of three steps in a process of their own.

    On a GPU what PyTorch allocated there; on a CPU what the process had, less what it has before.
    """
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(partial(_peak_of, which, case, scratch))


def _peak_of(which: str, case: Case, scratch: str) -> float:
    torch.set_num_threads(1)
    folder = Path(scratch) / which
    folder.mkdir()
    before = peak_mb(case.device)
    volumes, labels = random_volumes(case)
    training = (
        make_plain(case, VolumeFiles(folder, volumes, labels))
        if which == "plain"
        else OurTraining(spottune(case), case.config, resident(case, volumes, labels))
    )
    for _ in range(3):
        training.step()
    return peak_mb(case.device) - before


def summary(
    case: Case,
    spent: list[list[Spent]],
    difference: dict[str, dict[str, float]],
    operations: float,
    peak: dict[str, float] | None,
    rates: dict[str, float],
    public: dict[str, object] | None,
) -> dict[str, object]:
    plain_s, ours_s = (statistics.median(s.wall_s for s in own) for own in spent)
    pairs = list(zip(*spent, strict=True))
    precision = case.config.precision
    return {
        "name": "step",
        "ratio": round(statistics.median(p.wall_s / o.wall_s for p, o in pairs), 2),
        "process_ratio": round(statistics.median(p.process_s / o.process_s for p, o in pairs), 2),
        "difference": max(difference["fp32"].values()),
        "bf16_difference": difference["bf16"],
        "plain_steps_per_s": round(1 / plain_s, 3),
        "ours_steps_per_s": round(1 / ours_s, 3),
        "step_operations": operations,
        "matrix_rate": {name: round(rate) for name, rate in rates.items()},
        "plain_fraction": round(operations / plain_s / rates["fp32"], 3),
        "ours_fraction": round(operations / ours_s / rates[precision], 3),
        "peak_mb": peak and {name: round(value) for name, value in peak.items()},
        "precision": precision,
        "compile": case.config.compile,
        "batch": case.config.batch_size,
        "width": case.width,
        "shape": list(case.shape),
        "device": torch.cuda.get_device_name() if case.device.startswith("cuda") else case.device,
        "reference": public,
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
