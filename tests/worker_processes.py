"""Processes that train together, as Ray's workers do."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch.multiprocessing

multiprocessing.set_forkserver_preload(["mgmt_ray.training.loop", "torch._dynamo", "pytest"])


def run_workers(work: Callable[..., None], arguments: tuple[Any, ...], number: int) -> None:
    """Call ``work(rank, *arguments)`` in each of several processes; raise what one of them raises.

    They are copies of a process that has imported torch: a new one would take seconds for that.
    """
    torch.multiprocessing.start_processes(work, arguments, nprocs=number, start_method="forkserver")
