"""Running out of memory, told so that its reader knows what to make smaller."""

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
"""What libraries below torch say where they have no error of their own for it."""


class OutOfMemory(MgmtError):
    """A device, or the machine, has too little memory for a training."""


@contextmanager
def raise_oom_with_hint(what: str, remedy: str) -> Iterator[None]:
    """Turn a lack of memory inside the block into a line that can be acted on.

    Args:
        what: what runs, with the sizes that its memory follows from.
        remedy: what could be made smaller.

    Raises:
        OutOfMemory: something in the block could not be allocated.
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
    return any(word in text for word in OOM_MESSAGES)
