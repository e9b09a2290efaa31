"""Apply one function to many items: as Ray tasks, or one after another in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from mgmt_ray.cluster.connection import awaits_local_ray, ensure_connected, fetch
from mgmt_ray.cluster.resources import MAX_FAILURES, Resources

if TYPE_CHECKING:
    import ray

PENDING_PER_CPU = 2
"""Tasks submitted per core at a time: the results of more would fill the object store."""

START_SECONDS = 15.0
"""Work of more seconds than this is worth the start of a local Ray and its workers."""

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
    """Yield ``(item, function(item, shared))`` as the calls finish, in any order.

    A local Ray that does not run yet is only started for what would take longer than that.

    Args:
        function: must be importable: defined at the top level of a module.
        shared: second argument of every call; sent to Ray's object store once.

    Examples:
        >>> in_process = Resources(backend="in-process")
        >>> list(parallel_map(pow, [1, 2, 3], 2, in_process))
        [(1, 1), (2, 4), (3, 9)]
    """
    here = resources.backend == "in-process"
    seconds = 0.0
    pending = list(reversed(items))
    while pending and (here or (awaits_local_ray() and not gpus)):
        item, started = pending.pop(), time.monotonic()
        result = function(item, shared)
        seconds += time.monotonic() - started
        yield item, result
        left = seconds / (len(items) - len(pending)) * len(pending)
        if not here and left > START_SECONDS:
            break
    if not pending:
        return
    import ray  # only where something runs there

    ensure_connected()
    remote = ray.remote(function).options(num_cpus=cpus, num_gpus=gpus, max_retries=MAX_FAILURES)
    shared_reference = ray.put(shared)
    limit = PENDING_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1)))
    running: dict[ray.ObjectRef, Item] = {}
    while pending or running:
        while pending and len(running) < limit:
            item = pending.pop()
            running[remote.remote(item, shared_reference)] = item
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
    """Return ``function(item, shared)`` for every item, in the order of the items.

    See :func:`parallel_map` for the arguments.

    Args:
        function: must be importable: defined at the top level of a module.
        items: one task each; no object may occur twice.
        shared: second argument of every call.
        progress: called after each item with (items done, items in total).

    Examples:
        >>> in_process = Resources(backend="in-process")
        >>> parallel_map_in_order(pow, [3, 1, 2], 2, in_process, lambda done, total: None)
        [9, 1, 4]
    """
    results: dict[int, Result] = {}
    for item, result in parallel_map(function, items, shared, resources, cpus, gpus):
        results[id(item)] = result
        progress(len(results), len(items))
    return [results[id(item)] for item in items]
