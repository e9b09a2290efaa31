"""Speed of a SpotTune training step against a plain one: ``python -m benchmarks.step``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
import tyro

from benchmarks.device import (
    FULL_SHAPE,
    FULL_WIDTH,
    SMALL_SHAPE,
    Timing,
    data_share,
    fp32_numbers,
    in_turns,
    matrix_rate,
    median_s,
    peak_mb,
    process_ratio,
    step_operations,
    wall_ratio,
)
from benchmarks.our_step import NUM_BATCHES, Case, OurTraining, spottune
from benchmarks.plain_step import PlainTraining, VolumeFiles
from benchmarks.public_step import compare_with_public_step
from benchmarks.step_difference import step_differences
from benchmarks.volumes import random_volumes, resident
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.training_config import Precision, TrainingConfig

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
        steps: of each in a round; none: 20 on a GPU, 1 on a CPU
        memory: whether peak memory is measured, in processes of their own
        reference: a checkout of the paper's public code, to measure that too
    """

    device: str | None = None
    width: int | None = None
    shape: tuple[int, int, int] | None = None
    batch: int = 12
    precision: Precision = "bf16"
    compile: bool | None = None
    rounds: int = 8
    steps: int | None = None
    memory: bool = True
    reference: Path | None = None


def main(options: Options) -> None:
    torch.set_num_threads(1)
    case = resolve(options)
    volumes, labels = random_volumes(NUM_BATCHES * options.batch, case.shape)
    data = resident(volumes, labels, case.device)
    with tempfile.TemporaryDirectory(prefix="mgmt-ray-benchmark-") as scratch:
        files = VolumeFiles(Path(scratch), volumes, labels)
        difference = step_differences(case, partial(make_plain, case, files), data)
        print("differences", difference, flush=True)
        timings = measure(case, options, make_plain(case, files), data)
        peak = {w: peak_of(w, case, scratch) for w in ("plain", "ours")} if options.memory else None
    public = compare_with_public_step(options.reference, case.device) if options.reference else None
    print(json.dumps(summary(case, timings, difference, peak, public)))


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
        options.width or (FULL_WIDTH if on_gpu else 32),
        options.shape or (FULL_SHAPE if on_gpu else SMALL_SHAPE),
        config,
    )


def make_plain(case: Case, files: VolumeFiles) -> PlainTraining:
    plain = PlainTraining(case.width, files, case.config.batch_size, TEMPERATURE, case.device)
    plain.take(spottune(case).state_dict())
    return plain


def measure(
    case: Case, options: Options, plain: PlainTraining, data: VolumeSet
) -> tuple[list[Timing], list[Timing]]:
    """Return times per step of the plain training and of ours, by round."""
    ours = OurTraining(spottune(case), case.config, data)
    steps = options.steps or (20 if case.device.startswith("cuda") else 1)
    runs = [partial(repeat, training.step, steps) for training in (plain, ours)]
    for training in (plain, ours):
        repeat(training.step, 2)  # warm up and compile
    timings: tuple[list[Timing], list[Timing]] = ([], [])
    for number in range(options.rounds):
        for own, (_, whole) in zip(timings, in_turns(runs, number, case.device), strict=True):
            own.append(Timing(whole.wall_s / steps, whole.process_s / steps))
        print(*(f"{own[-1].wall_s:.4f} s" for own in timings), flush=True)
    return timings


def repeat(step: Callable[[], None], times: int) -> None:
    for _ in range(times):
        step()


def peak_of(which: str, case: Case, scratch: str) -> float:
    """Return the peak memory (10⁶ bytes) of three steps in a new process.

    On a GPU, what PyTorch allocated; on a CPU, the increase of the process's peak.
    """
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(partial(_peak_of, which, case, scratch))


def _peak_of(which: str, case: Case, scratch: str) -> float:
    torch.set_num_threads(1)
    folder = Path(scratch) / which
    folder.mkdir()
    before = peak_mb(case.device)
    volumes, labels = random_volumes(NUM_BATCHES * case.config.batch_size, case.shape)
    training = (
        make_plain(case, VolumeFiles(folder, volumes, labels))
        if which == "plain"
        else OurTraining(spottune(case), case.config, resident(volumes, labels, case.device))
    )
    repeat(training.step, 3)
    return peak_mb(case.device) - before


def summary(
    case: Case,
    timings: tuple[list[Timing], list[Timing]],
    difference: dict[str, dict[str, float]],
    peak: dict[str, float] | None,
    public: dict[str, object] | None,
) -> dict[str, object]:
    plain_s, ours_s = (median_s(own) for own in timings)
    operations = step_operations(spottune(case, "meta"), case.config.batch_size, case.shape)
    with torch.device("meta"):
        inputs = torch.empty(1, 1, *case.shape), torch.empty(1, 16, 2)
        share = data_share(spottune(case, "meta"), *inputs)
    rates = {p: matrix_rate(case.device, p) for p in ("fp32", "bf16")}
    precision = case.config.precision
    return {
        "name": "step",
        "ratio": wall_ratio(*timings),
        "process_ratio": process_ratio(*timings),
        "difference": difference["fp32"]["gradient"],
        **{f"{name}_difference": found for name, found in difference.items()},
        "plain_steps_per_s": float(f"{1 / plain_s:.4g}"),
        "ours_steps_per_s": float(f"{1 / ours_s:.4g}"),
        "step_operations": operations,
        "data_share": round(share, 3),
        "fp32_numbers": fp32_numbers(case.device),
        "matrix_rate": {name: round(rate) for name, rate in rates.items()},
        "plain_fraction": round(operations / plain_s / rates["fp32"], 3),
        "ours_fraction": round(operations / ours_s / rates[precision], 3),
        "plain_fraction_without_padding": round(share * operations / plain_s / rates["fp32"], 3),
        "ours_fraction_without_padding": round(share * operations / ours_s / rates[precision], 3),
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
