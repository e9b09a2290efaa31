"""What a device does and has: operations, seconds, memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mgmt_ray.training.training_config import Precision

FULL_WIDTH, FULL_SHAPE = 64, (70, 86, 86)
"""Channels of the paper's stems; depth, height, width of its volumes."""

SMALL_SHAPE = (24, 32, 32)
"""A volume that a CPU gets through."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of a call: by the clock on the wall, and of this process's processor."""

    wall_s: float
    process_s: float


def timed(run: Callable[[], T], device: str) -> tuple[T, Spent]:
    """Run once; the device has done all that it was given before, and what it was given here."""
    wait(device)
    wall, process = time.perf_counter(), time.process_time()
    result = run()
    wait(device)
    return result, Spent(time.perf_counter() - wall, time.process_time() - process)


def in_turns(runs: Sequence[Callable[[], T]], number: int, device: str) -> list[tuple[T, Spent]]:
    """One round: each run once, in the given order in even rounds and in reverse in odd ones.

    Whoever comes second finds the machine as the first has left it: warm, or hot.
    """
    order = range(len(runs)) if number % 2 == 0 else range(len(runs) - 1, -1, -1)
    found = {index: timed(runs[index], device) for index in order}
    return [found[index] for index in range(len(runs))]


def wall_ratio(plain: Sequence[Spent], ours: Sequence[Spent]) -> float:
    """Plain seconds over ours by the clock on the wall, median over rounds."""
    pairs = zip(plain, ours, strict=True)
    return round(statistics.median(p.wall_s / o.wall_s for p, o in pairs), 2)


def process_ratio(plain: Sequence[Spent], ours: Sequence[Spent]) -> float:
    """The same by processor time, which others' work disturbs less."""
    pairs = zip(plain, ours, strict=True)
    return round(statistics.median(p.process_s / o.process_s for p, o in pairs), 2)


def median_s(spent: Sequence[Spent]) -> float:
    """By the clock on the wall."""
    return statistics.median(s.wall_s for s in spent)


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def fp32_numbers(device: str) -> str:
    """In which numbers float32 convolutions compute there: "fp32" or "tf32"."""
    tensor_cores = device.startswith("cuda") and torch.backends.cudnn.allow_tf32
    return "tf32" if tensor_cores else "fp32"


@contextmanager
def without_tf32() -> Iterator[None]:
    """Float32 convolutions compute in float32 within."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def matrix_rate(device: str, precision: Precision) -> float:
    """Operations per second of a large matrix product; the best of some, undisturbed.

    A float32 product computes in the numbers of the float32 convolutions that it is compared with.
    """
    size = 8192 if device.startswith("cuda") else 1536
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = fp32_numbers(device) == "tf32"
    try:
        seconds = [timed(lambda: a @ b, device)[1].wall_s for _ in range(7)]
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return 2 * size**3 / min(seconds)


def count_operations(run: Callable[[], object]) -> float:
    """Floating-point operations of convolutions and matrix products, padding included.

    On the meta device nothing is computed for it.
    """
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def step_operations(network: nn.Module, batch: int, shape: tuple[int, int, int]) -> float:
    """Of a training step; the network on the meta device, in training mode."""
    with torch.device("meta"):
        volumes, noise = torch.empty(batch, 1, *shape), torch.empty(batch, 16, 2)
        return count_operations(lambda: network(volumes, noise).sum().backward())


def peak_mb(device: str) -> float:
    """Most memory so far, 10⁶ bytes: on a GPU what PyTorch had there, else what the process had.

    getrusage would not do: its figure begins with that of the process's parent.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
