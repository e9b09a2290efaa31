"""One function over many subjects: as Ray tasks, or one after another in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray

from mgmt_ray.cluster.connection import fetch
from mgmt_ray.cluster.resources import Resources

PENDING_PER_CPU = 2
"""Tasks submitted per core at a time: results of many more would fill the object store."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[..., Result],
    items: Sequence[Item],
    shared: Any,
    resources: Resources,
    cpus: float = 1,
    gpus: float = 0,
) -> Iterator[tuple[Item, Result]]:
    """Yield ``(item, function(item, shared))`` as they are done, in any order.

    Args:
        function: of the top level of a module.
        items: each becomes a task.
        shared: the second argument of all.
        resources: with backend "ray", Ray must be connected.
        cpus: cores that one call takes.
        gpus: GPUs, or the fraction of one, likewise.
    """
    if resources.backend == "in-process":
        for item in items:
            yield item, function(item, shared)
        return
    remote = ray.remote(function).options(
        num_cpus=cpus, num_gpus=gpus, max_retries=resources.max_failures
    )
    held = ray.put(shared)
    limit = PENDING_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1)))
    left = list(reversed(items))
    running: dict[ray.ObjectRef, Item] = {}
    while left or running:
        while left and len(running) < limit:
            item = left.pop()
            running[remote.remote(item, held)] = item
        (reference, *_), _ = ray.wait(list(running), num_returns=1)
        yield running.pop(reference), fetch(reference)


def parallel_map_in_order(
    function: Callable[..., Result],
    items: Sequence[Item],
    shared: Any,
    resources: Resources,
    progress: Callable[[int, int], None],
    cpus: float = 1,
    gpus: float = 0,
) -> list[Result]:
    """``function(item, shared)`` for every item, in the order of the items.

    Args:
        function: of the top level of a module.
        items: each becomes a task.
        shared: the second argument of all.
        resources: with backend "ray", Ray must be connected.
        progress: is given items done and their number.
        cpus: cores that one call takes.
        gpus: GPUs, or the fraction of one, likewise.
    """
    done: dict[int, Result] = {}
    for item, result in parallel_map(function, items, shared, resources, cpus, gpus):
        done[id(item)] = result
        progress(len(done), len(items))
    return [done[id(item)] for item in items]
