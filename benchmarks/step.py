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
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.naive_routes import make_network
from benchmarks.plain_step import PlainTraining, VolumeFiles
from benchmarks.public_step import compare_with_public_step
from mgmt_ray.nets.policy import gumbel_noise
from mgmt_ray.nets.spottune import SpotTune
from mgmt_ray.training.config import Precision, TrainingConfig
from mgmt_ray.training.dataset import VolumeSet, volume_set
from mgmt_ray.training.loop import TrainingState
from mgmt_ray.training.precision import arrange, autocast, compiled
from mgmt_ray.training.step import train_step

TEMPERATURE = 100.0
NUM_BATCHES = 2


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
class Case:
    """Options with nothing left open."""

    device: str
    width: int
    shape: tuple[int, int, int]
    batch: int
    config: TrainingConfig


class OurTraining:
    """The package's step, on volumes that stay on the device."""

    def __init__(self, case: Case, data: VolumeSet) -> None:
        self.case, self.data = case, data
        network = spottune(case.width, case.device)
        arrange(network, case.config.precision)
        self.optimizer = TrainingState(network, case.config).optimizer
        self.network = compiled(network, case.config, data.volumes.device).train()
        self.num_blocks = network.num_routed_blocks
        self.random = np.random.default_rng(0)
        self.noise = torch.Generator().manual_seed(0)

    def step(self) -> None:
        rows = self.random.permutation(len(self.data))[: self.case.batch]
        train_step(
            self.network,
            self.optimizer,
            self.data.select(rows),
            gumbel_noise(len(rows), self.num_blocks, self.noise),
            keep=None,
            weights=None,
            num_rows=len(rows),
            num_workers=1,
            precision=self.case.config.precision,
        )


def main(options: Options) -> None:
    torch.set_num_threads(1)
    case = resolve(options)
    volumes, labels = random_volumes(case)
    with tempfile.TemporaryDirectory(prefix="mgmt-ray-benchmark-") as scratch:
        files = VolumeFiles(Path(scratch), volumes, labels)
        plain = make_plain(case, files)
        difference = {p: differences(case, plain, volumes, labels, p) for p in ("fp32", "bf16")}
        print("differences", difference, flush=True)
        operations = count_operations(spottune(case.width, "meta"), case.batch, case.shape)
        ours = OurTraining(case, resident(case, volumes, labels))
        for training in (plain, ours):
            for _ in range(2):  # warm, and compiled
                training.step()
        seconds = in_turns(case, options, [plain.step, ours.step])
        del plain, ours
        peak = {w: peak_mb(w, case, scratch) for w in ("plain", "ours")} if options.memory else None
    rates = {p: matrix_rate(case.device, p) for p in ("fp32", "bf16")}
    public = compare_with_public_step(options.reference, case.device) if options.reference else None
    print(json.dumps(summary(case, seconds, difference, operations, peak, rates, public)))


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
        options.batch,
        config,
    )


def spottune(width: int, device: str) -> SpotTune:
    """In training mode, with gradients where training needs them."""
    network = make_network(width, "meta" if device == "meta" else "cpu")
    network.temperature = TEMPERATURE
    for parameters in network.parameter_groups().values():
        for parameter in parameters:
            parameter.requires_grad_(True)
    return network.to(device).train()


def random_volumes(case: Case) -> tuple[np.ndarray, np.ndarray]:
    number = NUM_BATCHES * case.batch
    random = np.random.default_rng(1)
    volumes = random.random((number, 1, *case.shape), dtype=np.float32).astype(np.float16)
    return volumes, np.arange(number) % 2


def resident(case: Case, volumes: np.ndarray, labels: np.ndarray) -> VolumeSet:
    names = [str(i) for i in range(len(labels))]
    return volume_set([volumes], labels.tolist(), names, case.device)


def make_plain(case: Case, files: VolumeFiles) -> PlainTraining:
    plain = PlainTraining(case.width, files, case.batch, TEMPERATURE, case.device)
    plain.take(spottune(case.width, case.device).state_dict())
    return plain


def differences(
    case: Case, plain: PlainTraining, volumes: np.ndarray, labels: np.ndarray, precision: Precision
) -> dict[str, float]:
    """Largest difference of a logit and of the loss before any step, in training mode."""
    batch = torch.from_numpy(volumes[: case.batch]).to(case.device).float()
    label = torch.from_numpy(labels[: case.batch]).to(case.device).float()
    network, theirs = spottune(case.width, case.device), copy.copy(plain)
    theirs.network, theirs.agent = copy.deepcopy(plain.network), copy.deepcopy(plain.agent)
    noise = gumbel_noise(case.batch, network.num_routed_blocks, torch.Generator().manual_seed(2))
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


def count_operations(network: nn.Module, batch: int, shape: tuple[int, int, int]) -> float:
    """Floating-point operations of one step's convolutions and linear layers.

    Args:
        network: on the meta device, in training mode.
        batch: volumes.
        shape: of a volume.
    """
    with torch.device("meta"):
        volumes, noise = torch.empty(batch, 1, *shape), torch.empty(batch, 16, 2)
        with FlopCounterMode(display=False) as counter:
            network(volumes, noise).sum().backward()
    return float(counter.get_total_flops())


def in_turns(case: Case, options: Options, steps: list[Callable[[], None]]) -> list[list[float]]:
    """Seconds per step of each, round by round."""
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(options.rounds):
        for own, step in zip(seconds, steps, strict=True):
            wait(case.device)
            started = time.perf_counter()
            for _ in range(options.steps):
                step()
            wait(case.device)
            own.append((time.perf_counter() - started) / options.steps)
        print(*(f"{own[-1]:.4f} s" for own in seconds), flush=True)
    return seconds


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def matrix_rate(device: str, precision: Precision) -> float:
    """Operations per second of a large matrix product, median."""
    size = 8192 if device.startswith("cuda") else 1536
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(7):
        wait(device)
        started = time.perf_counter()
        a @ b
        wait(device)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(seconds[1:])


def peak_mb(which: str, case: Case, scratch: str) -> float:
    """Most memory (10⁶ bytes) of three steps in a process of their own.

    On a GPU what PyTorch allocated there; on a CPU what the process had, less what it has before.
    """
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(partial(_peak_mb, which, case, scratch))


def _peak_mb(which: str, case: Case, scratch: str) -> float:
    torch.set_num_threads(1)
    folder = Path(scratch) / which
    folder.mkdir()
    before = resident_peak_mb()
    volumes, labels = random_volumes(case)
    training = (
        make_plain(case, VolumeFiles(folder, volumes, labels))
        if which == "plain"
        else OurTraining(case, resident(case, volumes, labels))
    )
    for _ in range(3):
        training.step()
    if case.device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 1e6
    return resident_peak_mb() - before


def resident_peak_mb() -> float:
    """Most memory that this process ever had; getrusage's figure begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def summary(
    case: Case,
    seconds: list[list[float]],
    difference: dict[str, dict[str, float]],
    operations: float,
    peak: dict[str, float] | None,
    rates: dict[str, float],
    public: dict[str, object] | None,
) -> dict[str, object]:
    plain_s, ours_s = (statistics.median(own) for own in seconds)
    ratios = [plain / ours for plain, ours in zip(*seconds, strict=True)]
    precision = case.config.precision
    return {
        "name": "step",
        "ratio": round(statistics.median(ratios), 2),
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
        "batch": case.batch,
        "width": case.width,
        "shape": list(case.shape),
        "device": torch.cuda.get_device_name() if case.device.startswith("cuda") else case.device,
        "reference": public,
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
