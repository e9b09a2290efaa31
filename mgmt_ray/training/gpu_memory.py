"""The GPU that a training ran on, the memory it took, and how many such trainings fit a card."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

CONTEXT_BYTES = 600_000_000
"""What CUDA and its libraries take in each process beyond PyTorch's own allocations; a guess from
above, since PyTorch does not see it."""

USABLE_SHARE = 0.95
"""Of a card's memory; the rest covers what allocations of several processes leave unused."""


def restart_peak_memory(device: str) -> None:
    """Give back what earlier trainings of this process left, and measure from here."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def gpu_use(device: str) -> dict[str, Any]:
    """Return what ``trial.json`` says of the GPU and its memory in bytes; nothing on a CPU."""
    if not device.startswith("cuda"):
        return {}
    card = torch.cuda.get_device_properties(device)
    return {
        "gpu": {
            "name": card.name,
            "memory_bytes": card.total_memory,
            "peak_bytes": torch.cuda.max_memory_reserved(device),
        }
    }


def trainings_per_card(uses: Iterable[Mapping[str, int]]) -> int:
    """Return how many trainings fit a card at once, if each takes as much as the largest so far.

    Args:
        uses: ``gpu`` of trials that ran, at least one.

    >>> trainings_per_card([{"memory_bytes": 80 * 10**9, "peak_bytes": 6 * 10**9}])
    11
    """
    shares = [(u["peak_bytes"] + CONTEXT_BYTES) / (u["memory_bytes"] * USABLE_SHARE) for u in uses]
    return max(1, math.floor(1 / max(shares)))
