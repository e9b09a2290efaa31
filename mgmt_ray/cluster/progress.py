"""Show the progress of long work: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

ProgressCallback = Callable[[int, int], None]
"""Called with (items done, items in total)."""


class DetailedProgress(Protocol):
    """Called with (items done, items in total, what else is to be said)."""

    def __call__(self, done: int, total: int, detail: str = "") -> None:
        """Show it."""


LINE_SECONDS = 10.0
"""Minimum time between two plain lines of one progress."""


class _Output(Console):
    """The standard output; work goes on without it where its reader is gone."""

    def __init__(self) -> None:
        super().__init__(soft_wrap=True, highlight=False, markup=False)

    def on_broken_pipe(self) -> None:
        """Discard what is printed from now on: `mgmt-ray run STUDY | head` must not end a study."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def log(text: str) -> None:
    """Print a line to the standard output, without markup or wrapping."""
    _Output().print(text)


@contextmanager
def show_progress(name: str) -> Iterator[DetailedProgress]:
    """Show the progress of the work inside the ``with`` block.

    Examples:
        >>> with show_progress("volumes") as progress:
        ...     progress(3, 3)
        volumes: 3 of 3 (0 s)
    """
    console = _Output()
    if not console.is_terminal:
        yield _plain_progress(name, console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    last = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[detail]}"))
    with Progress(*columns, *last, console=console) as bar:
        task = bar.add_task(name, total=None, detail="")

        def update(done: int, total: int, detail: str = "") -> None:
            bar.update(task, completed=done, total=total, detail=detail)

        yield update


def _plain_progress(name: str, console: Console) -> DetailedProgress:
    started = time.monotonic()
    last_time = float("-inf")
    last_done = first_done = -1

    def update(done: int, total: int, detail: str = "") -> None:
        nonlocal last_time, last_done, first_done
        now = time.monotonic()
        if first_done < 0:  # what was done before takes no time
            first_done = done
        if done == last_done or (done < total and now - last_time < LINE_SECONDS):
            return
        last_time, last_done = now, done
        seconds, more = now - started, f"; {detail}" if detail else ""
        now_done, left = done - first_done, ""
        if now_done and done < total:
            left = f", about {seconds / now_done * (total - done):.0f} s left"
        console.print(f"{name}: {done} of {total} ({seconds:.0f} s{left}){more}")

    return update
