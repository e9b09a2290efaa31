"""Successive halving: which configurations train how far."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

ETA = 3
"""Of this many configurations one goes on from each rung."""

NUM_RUNGS = 2
"""Rungs before the end of a training."""

T = TypeVar("T")


def rung_epochs(epochs: int) -> tuple[int, ...]:
    """Return the epochs at which trainings stop to be compared, then those of a whole training.

    Li et al. 2018 (Hyperband), sec. 3: each rung has ETA times the epochs of the one before.

    Args:
        epochs: of the longest training.

    >>> rung_epochs(90), rung_epochs(2)
    ((10, 30, 90), (1, 2))
    """
    rungs = {math.ceil(epochs / ETA**k) for k in range(NUM_RUNGS, -1, -1)}
    return tuple(sorted(rungs))


def survivors(
    configurations: Sequence[T],
    rungs: Sequence[int],
    has_reached: Callable[[T, int], bool],
    rank: Callable[[T, int], tuple[float, ...]],
) -> tuple[list[T], int]:
    """Return the configurations that train next, and up to which epoch.

    A function of results at rungs alone, so that it doesn't matter when and in which order
    trainings ended, and more configurations later can be compared with the earlier ones.

    Args:
        rungs: see :func:`rung_epochs`.
        has_reached: whether all trainings of a configuration have trained up to an epoch.
        rank: a configuration's rank by its epochs up to a rung, higher is better.

    Returns:
        Those of the lowest rung that some have not reached; none where all is done.

    >>> survivors("abcd", (1, 3), lambda c, rung: rung == 1, lambda c, rung: (ord(c),))
    (['c', 'd'], 3)
    """
    alive = [*configurations]
    for rung in rungs:
        pending = [c for c in alive if not has_reached(c, rung)]
        if pending:
            return pending, rung
        if rung != rungs[-1]:
            ranked = sorted(alive, key=lambda c: rank(c, rung), reverse=True)
            promoted = {id(c) for c in ranked[: math.ceil(len(alive) / ETA)]}
            alive = [c for c in alive if id(c) in promoted]
    return [], rungs[-1]
