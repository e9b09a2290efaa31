"""What a device does and has: operations, seconds, memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mgmt_ray.training.config import Precision


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def seconds_of(run: Callable[[], object], device: str) -> float:
    wait(device)
    started = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - started


def matrix_rate(device: str, precision: Precision) -> float:
    """Operations per second of a large matrix product; the best of some, undisturbed."""
    size = 8192 if device.startswith("cuda") else 1536
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
    seconds = [seconds_of(lambda: a @ b, device) for _ in range(7)]
    return 2 * size**3 / min(seconds)


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


def peak_mb(device: str) -> float:
    """Most memory so far, 10⁶ bytes: on a GPU what PyTorch had there, else what the process had.

    getrusage would not do: its figure begins with that of the process's parent.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
