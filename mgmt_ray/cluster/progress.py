"""Progress of long work: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

ProgressCallback = Callable[[int, int], None]
"""Is given what is done and how much there is."""

LINE_SECONDS = 10.0
"""Least time between two plain lines of one stage."""


def log(text: str) -> None:
    """Print one line as it is."""
    Console(soft_wrap=True, highlight=False, markup=False).print(text)


@contextmanager
def show_progress(name: str, console: Console | None = None) -> Iterator[ProgressCallback]:
    """Show the progress of one stage.

    Args:
        name: what the line begins with.
        console: where to; the standard output by default.
    """
    console = console or Console(soft_wrap=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield _plain_progress(name, console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task(name, total=None)

        def step(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield step


def _plain_progress(name: str, console: Console) -> ProgressCallback:
    started = time.monotonic()
    shown = float("-inf")
    last = -1

    def step(done: int, total: int) -> None:
        nonlocal shown, last
        now = time.monotonic()
        if done == last or (done < total and now - shown < LINE_SECONDS):
            return
        shown, last = now, done
        console.print(f"{name}: {done} of {total} ({now - started:.0f} s)")

    return step
