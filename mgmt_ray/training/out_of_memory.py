"""Errors of running out of memory, with a hint what to reduce."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mgmt_ray.base import MgmtError, first_line

OOM_MESSAGES = (
    "can't allocate memory",
    "out of memory",
    "not enough memory",
    "alloc_failed",
    "bad_alloc",
    "could not create a primitive",  # oneDNN, where its own scratch memory does not fit
)
"""Parts of messages of libraries below torch that have no error class for it."""


class OutOfMemory(MgmtError):
    """The device or the machine has too little memory."""


@contextmanager
def raise_oom_with_hint(what: str, remedy: str) -> Iterator[None]:
    """Turn an allocation error in the block into a message that says what to reduce.

    Args:
        what: what runs, with the sizes that decide its memory.
        remedy: a sentence that says what to reduce.

    Raises:
        OutOfMemory: an allocation in the block failed.

    >>> with raise_oom_with_hint("a batch of 12", "Use 6."):
    ...     raise MemoryError("bad_alloc")
    Traceback (most recent call last):
    mgmt_ray.training.out_of_memory.OutOfMemory: out of memory (bad_alloc): a batch of 12. Use 6.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise OutOfMemory(f"out of memory ({first_line(error)}): {what}. {remedy}") from error


def _is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(part in text for part in OOM_MESSAGES)
