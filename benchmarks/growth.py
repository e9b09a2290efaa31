"""How the work of a study grows with its size: ``python -m benchmarks.growth`` (see README.md)."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import tyro

from benchmarks.device import Timing, timed
from benchmarks.made_study import MadeStudy, finished_study, scanned_study
from mgmt_ray.base import MgmtError
from mgmt_ray.data.prepare_stores import prepare_volumes
from mgmt_ray.pipeline.select_cohorts import select
from mgmt_ray.pipeline.stages import check_networks, plan_study, train
from mgmt_ray.prediction.evaluation import select_members
from mgmt_ray.prediction.protocol import make_protocol
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.report.html import write_report
from mgmt_ray.statistics.result_tables import evaluate_ensembles
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.trial import Trial
from mgmt_ray.tracking.mlflow_tracker import Tracker
from mgmt_ray.trials.context import StudyContext

LEAST_S = 0.5
"""Seconds for which a call is repeated; the quickest counts."""

Parts: TypeAlias = Mapping[str, Callable[[], object]]
"""What is timed, by name and in this order; each can be repeated."""


@dataclass(frozen=True)
class Options:
    """Time the parts of a study at 1, 10 and 100 times its size.

    Attributes:
        quick: at 1, 3 and 10 times its size
        only: what grows; none: everything
        epochs: of each training
    """

    quick: bool = False
    only: tuple[str, ...] = ()
    epochs: int = 10


@dataclass(frozen=True, slots=True)
class Axis:
    """What grows.

    Attributes:
        start: 1 × of it.
        make: prepares a study of some size in a folder, and returns what is timed of it.
    """

    start: int
    make: Callable[[Path, int], Parts]


def main(options: Options) -> None:
    """Measure, and print the summary as one line of JSON.

    Raises:
        MgmtError: there is no such thing that grows.
    """
    axes = growing(options)
    if unknown := {*options.only} - {*axes}:
        raise MgmtError(f"--only {', '.join(sorted(unknown))}: not one of {', '.join(axes)}.")
    parts: dict[str, dict[str, object]] = {}
    for name in options.only or axes:
        for part, of_part in measure(axes[name], options.quick).items():
            parts[f"{name}: {part}"] = of_part
            print(f"{name}: {part}", of_part, flush=True)
    steepest = max(parts, key=lambda part: float(str(parts[part]["exponent"])))
    print(json.dumps({"name": "growth", **parts[steepest], "steepest": steepest, "parts": parts}))


def growing(options: Options) -> dict[str, Axis]:
    """Return what can grow, by name."""
    return {
        "files": Axis(20, lambda folder, size: file_parts(scanned_study(folder, size))),
        "subjects": Axis(60, lambda folder, size: study_parts(finished_study(folder, 50, size, 2))),
        "trainings": Axis(
            50, lambda folder, size: study_parts(finished_study(folder, size, 60, options.epochs))
        ),
        "mlflow": Axis(
            5,
            lambda folder, size: tracking_parts(
                finished_study(folder, size, 60, options.epochs), size
            ),
        ),
    }


def measure(axis: Axis, quick: bool) -> dict[str, dict[str, object]]:
    """Return CPU and wall seconds at each size, and the exponent, by part."""
    sizes = [axis.start * factor for factor in ((1, 3, 10) if quick else (1, 10, 100))]
    timings: dict[str, list[Timing]] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="mgmt-ray-benchmark-") as folder:
            for part, call in axis.make(Path(folder), size).items():
                timings.setdefault(part, []).append(quickest(call))
    return {
        part: {
            "exponent": exponent(sizes, [timing.process_s for timing in of_part]),
            "sizes": sizes,
            "cpu_s": [round(timing.process_s, 3) for timing in of_part],
            "wall_s": [round(timing.wall_s, 3) for timing in of_part],
        }
        for part, of_part in timings.items()
    }


def quickest(call: Callable[[], object]) -> Timing:
    """Time a call, and repeat it while it is short: the first time includes imports."""
    timings = [timed(call, "cpu")[1]]
    while sum(timing.wall_s for timing in timings) < LEAST_S or len(timings) == 1:
        timings.append(timed(call, "cpu")[1])
        if timings[0].wall_s > 20 * LEAST_S:
            break
    return min(timings, key=lambda timing: timing.process_s)


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the power of the size with which seconds grow.

    The larger one of the least-squares fit to all sizes and of the last two sizes alone, where
    what is constant counts least.

    >>> exponent([1, 10, 100], [2, 20, 200]), exponent([1, 10, 100], [1, 1, 100])
    (1.0, 2.0)
    """
    x, y = np.log(sizes), np.log(seconds)
    slopes = (np.polyfit(x[first:], y[first:], 1)[0] for first in (0, -2))
    return round(float(max(slopes)), 2)


def file_parts(context: StudyContext) -> Parts:
    """Return the check of a cohort's files, and what the store of its volumes does."""
    study = context.study
    cohort = select(context).cohort
    volumes = context.folder.volumes

    def prepare() -> None:
        prepare_volumes(
            cohort, study.modalities, study.recipe, volumes, context.resources, no_progress
        )

    def check_anew() -> None:
        shutil.rmtree(context.folder.inspections)
        select(context)

    def prepare_anew() -> None:
        shutil.rmtree(volumes, ignore_errors=True)
        prepare()

    def look_up() -> None:
        store = VolumeStore(volumes, study.modalities[0])
        for subject in store.ids:
            store.load([subject], store.versions)

    return {
        "cohort check": check_anew,
        "cohort check, files unchanged": partial(select, context),
        "preparation": prepare_anew,
        "preparation, up to date": prepare,
        "store look-ups": look_up,
    }


def no_progress(done: int, total: int) -> None:
    pass


def study_parts(made: MadeStudy) -> Parts:
    """Return what follows when all trainings of a study are finished."""
    inputs, trials = made.inputs, made.trials

    def check_trainings() -> None:
        check_networks(trials, inputs)
        train(trials, inputs)

    return {
        "plan": lambda: plan_study(made.context, made.selected),
        "checks of trainings": check_trainings,
        "members and ensembles": lambda: make_protocol(
            trials, select_members(trials, inputs), inputs
        ),
        "statistics": partial(evaluate_ensembles, inputs.folder.root),
        "report": partial(write_report, inputs.folder.root),
    }


def tracking_parts(made: MadeStudy, number: int) -> Parts:
    """Return the copy of some trainings to an MLflow database, whose tables exist."""
    folder = made.inputs.folder

    def copy(root: Path, trials: list[Trial]) -> None:
        tracker = Tracker(made.context.study, StudyFolder(root), trials, None, print)
        tracker.start()
        tracker.close("FINISHED")

    def copy_anew() -> None:
        root = Path(tempfile.mkdtemp(dir=folder.root.parent))
        (root / "trials").symlink_to(folder.trials)
        shutil.copy(folder.root / "mlflow.db", root)
        copy(root, made.trials[:number])

    copy(folder.root, [])
    return {"copy": copy_anew}


if __name__ == "__main__":
    main(tyro.cli(Options))
