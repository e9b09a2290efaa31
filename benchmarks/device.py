"""Measure a device: operations per second, seconds of calls, memory."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mgmt_ray.training.training_config import Precision

FULL_WIDTH, FULL_SHAPE = 64, (70, 86, 86)
"""Channels of the paper's stems; depth, height, width of its volumes."""

SMALL_SHAPE = (24, 32, 32)
"""Size of a volume for measurements on a CPU."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of a call: wall time, and CPU time of this process."""

    wall_s: float
    process_s: float


def timed(run: Callable[[], T], device: str) -> tuple[T, Timing]:
    """Run once and time it; the device is synchronised before and after."""
    wait(device)
    wall, process = time.perf_counter(), time.process_time()
    result = run()
    wait(device)
    return result, Timing(time.perf_counter() - wall, time.process_time() - process)


def in_turns(runs: Sequence[Callable[[], T]], number: int, device: str) -> list[tuple[T, Timing]]:
    """Time each run once, in the given order in even rounds and in reverse order in odd ones.

    The second run finds the machine as the first left it: with warm caches, or throttled.
    """
    order = range(len(runs)) if number % 2 == 0 else range(len(runs) - 1, -1, -1)
    found = {index: timed(runs[index], device) for index in order}
    return [found[index] for index in range(len(runs))]


def wall_ratio(plain: Sequence[Timing], ours: Sequence[Timing]) -> float:
    """Return plain over our wall time, median over rounds."""
    pairs = zip(plain, ours, strict=True)
    return round(statistics.median(p.wall_s / o.wall_s for p, o in pairs), 2)


def process_ratio(plain: Sequence[Timing], ours: Sequence[Timing]) -> float:
    """Return plain over our CPU time, which other load disturbs less, median over rounds."""
    pairs = zip(plain, ours, strict=True)
    return round(statistics.median(p.process_s / o.process_s for p, o in pairs), 2)


def median_s(timings: Sequence[Timing]) -> float:
    """Return the median wall time."""
    return statistics.median(s.wall_s for s in timings)


def wait(device: str) -> None:
    """Wait until the device has finished its work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def fp32_numbers(device: str) -> str:
    """Return the number format of float32 convolutions on the device: "fp32" or "tf32"."""
    tensor_cores = device.startswith("cuda") and torch.backends.cudnn.allow_tf32
    return "tf32" if tensor_cores else "fp32"


@contextmanager
def without_tf32() -> Iterator[None]:
    """Disable TF32 in convolutions during the ``with`` block."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def matrix_rate(device: str, precision: Precision) -> float:
    """Return the operations per second of a large matrix product, the best of seven.

    A float32 product uses the same number format (fp32 or tf32) as float32 convolutions.
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
    """Count floating-point operations of convolutions and matrix products, including padding.

    Nothing is computed on the meta device.
    """
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def useful_share(length: int, stride: int, dilation: int, kernel: int = 3) -> float:
    """Return the share of a convolution's products along one axis that touch data, not padding.

    The convolution is padded by ``dilation * (kernel - 1) // 2`` on both sides, as ours are.

    >>> useful_share(length=4, stride=1, dilation=1)  # the first and last of 4 lose one of 3 each
    0.8333333333333334
    """
    reach = dilation * (kernel - 1) // 2
    centres = range(0, length, stride)
    offsets = range(-reach, reach + 1, dilation)
    inside = sum(0 <= centre + offset < length for centre in centres for offset in offsets)
    return inside / (len(centres) * kernel)


def data_share(network: nn.Module, *inputs: Tensor) -> float:
    """Return the share of all 3-D convolutions' products in a forward pass that touch data.

    The rest multiplies padding, which libraries may skip or not. Nothing is computed on the meta
    device.
    """
    counted, useful = [], []

    def count(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv3d)
        counted.append(output.numel() * module.weight[0].numel())
        sizes = zip(
            given[0].shape[2:], module.stride, module.dilation, module.kernel_size, strict=True
        )
        useful.append(counted[-1] * math.prod(useful_share(*axis) for axis in sizes))

    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d)]
    handles = [m.register_forward_hook(count) for m in convolutions]
    network(*inputs)
    for handle in handles:
        handle.remove()
    return sum(useful) / sum(counted)


def step_operations(network: nn.Module, batch: int, shape: tuple[int, int, int]) -> float:
    """Count operations of a training step; the network is on the meta device, in training mode."""
    with torch.device("meta"):
        volumes, noise = torch.empty(batch, 1, *shape), torch.empty(batch, 16, 2)
        return count_operations(lambda: network(volumes, noise).sum().backward())


def peak_mb(device: str) -> float:
    """Return the peak memory so far in 10⁶ bytes: PyTorch's on a GPU, otherwise the process's.

    getrusage is no alternative: its figure includes that of the parent process.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
