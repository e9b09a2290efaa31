"""What Ray costs beyond training: ``python -m benchmarks.orchestration`` (see README.md).

CPU seconds are those of a command with all its descendants, also those that Ray detaches: this
process adopts the orphans (``PR_SET_CHILD_SUBREAPER``, Linux), waits for them, and reads ten times
a second what each has used (the kernel does not add up the children of Ray's raylet).
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Literal

import psutil
import tyro

from benchmarks.made_study import finished_study, scanned_study
from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.connection import connect_ray
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.nets.build import NetworkConfig
from mgmt_ray.pipeline.select_cohorts import select
from mgmt_ray.pipeline.stages import plan_study, prepare, train
from mgmt_ray.splits.draw import SplitConfig
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import load_study, write_study
from mgmt_ray.training.training_config import TrainingConfig
from mgmt_ray.trials.context import StudyContext

SLOTS = 2
SUBJECTS, FOLDS = 20, 2
PR_SET_CHILD_SUBREAPER = 36
ORPHANS_SECONDS = 60.0
WATCH_SECONDS = 0.1


@dataclass(frozen=True)
class Options:
    """Compare trainings on Ray with the same ones in one process, and time the light verbs.

    Attributes:
        trainings: trivial ones, spread over two slots
        finished: trainings that a study finds finished
        only: run this part alone, on a study file, as the benchmark's own commands do
        study: file of that study
        backend: of that part
    """

    trainings: int = 200
    finished: int = 5000
    only: Literal["train", "skip"] | None = None
    study: Path = Path()
    backend: Literal["ray", "in-process"] = "ray"


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds of a command with all its descendants, its wall seconds, and what it printed."""

    cpu_s: float
    wall_s: float
    printed: str


def main(options: Options) -> None:
    """Measure, and print the summary as one line of JSON."""
    if options.only == "train":
        train_study(options.study, options.backend)
        return
    if options.only == "skip":
        skip_finished(options.finished)
        return
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="mgmt-ray-benchmark-") as name:
        folder = Path(name)
        many = made_study(folder / "many", options.trainings)
        ray, alone = (cost_of_training(many, backend) for backend in ("ray", "in-process"))
        few = cost_of_training(made_study(folder / "few", 4), "ray")
        study = folder / "few" / "study.yaml"
        verbs = {
            verb: cost_of(["mgmt_ray.cli", verb, str(study), "--out", f"{folder}/{verb}"])
            for verb in ("cohort", "plan")
        }
        verbs["doctor"] = cost_of(["mgmt_ray.cli", "doctor"])
    skipped = cost_of(
        ["benchmarks.orchestration", "--only", "skip", "--finished", str(options.finished)]
    )
    print(
        json.dumps(
            {
                "name": "orchestration",
                "trainings": options.trainings,
                "cpu_s_per_training": round((ray.cpu_s - alone.cpu_s) / options.trainings, 3),
                "ray_cpu_s": ray.cpu_s,
                "ray_wall_s": ray.wall_s,
                "in_process_cpu_s": alone.cpu_s,
                "in_process_wall_s": alone.wall_s,
                "four_trainings_cpu_s": few.cpu_s,
                "four_trainings_wall_s": few.wall_s,
                "finished": options.finished,
                "skipped_cpu_s": json.loads(skipped.printed.splitlines()[-1])["cpu_s"],
                "verbs_cpu_s": {verb: cost.cpu_s for verb, cost in verbs.items()},
                "verbs_wall_s": {verb: cost.wall_s for verb, cost in verbs.items()},
            }
        )
    )


def adopt_orphans() -> None:
    """Become the parent of descendants whose parents end.

    Raises:
        MgmtError: this is not Linux.
    """
    if not sys.platform.startswith("linux"):
        raise MgmtError("benchmarks.orchestration: counts CPU seconds on Linux only.")
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def cost_of(module: list[str]) -> Cost:
    """Run ``python -m`` with all its descendants to their ends.

    Raises:
        MgmtError: it fails, or its descendants do not end.
    """
    started = time.perf_counter()
    with watched_cpu() as used:
        done = subprocess.run([sys.executable, "-m", *module], capture_output=True, text=True)
        wall = time.perf_counter() - started
        wait_for_orphans()
    if done.returncode != 0:
        raise MgmtError(f"{' '.join(module)}: ends with {done.returncode}: {done.stderr[-500:]}")
    return Cost(round(sum(used.values()), 2), round(wall, 2), done.stdout)


@contextmanager
def watched_cpu() -> Iterator[dict[tuple[int, float], float]]:
    """Yield the CPU seconds of each descendant, kept up to date during the ``with`` block."""
    used: dict[tuple[int, float], float] = {}
    ended = Event()

    def watch() -> None:
        while not ended.wait(WATCH_SECONDS):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    used[process.pid, process.create_time()] = times.user + times.system

    thread = Thread(target=watch, name="cpu", daemon=True)
    thread.start()
    try:
        yield used
    finally:
        ended.set()
        thread.join()


def wait_for_orphans() -> None:
    """Wait until no descendant is left.

    Raises:
        MgmtError: some are left after a minute.
    """
    deadline = time.monotonic() + ORPHANS_SECONDS
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.1)
        except ChildProcessError:
            return
    raise MgmtError("benchmarks.orchestration: processes of Ray are left after a minute.")


def made_study(folder: Path, num_trainings: int) -> Path:
    """Write a small cohort with its prepared volumes, and a study of trivial trainings."""
    folder.mkdir()
    context = scanned_study(folder, SUBJECTS)
    study = context.study.model_copy(
        update={
            "networks": {"scratch": NetworkConfig(kind="random", depth=10, width=4)},
            "training": TrainingConfig(epochs=1, batch_size=8),
            "split": SplitConfig(folds=FOLDS),
            "num_seeds": num_trainings // FOLDS,
        }
    )
    file = folder / "study.yaml"
    write_study(study, file)
    context = StudyContext(study, StudyFolder(folder / "ray"), Resources(backend="in-process"))
    prepare(context, select(context))
    return file


def cost_of_training(study: Path, backend: str) -> Cost:
    """Train all trainings of a study."""
    command = ["benchmarks.orchestration", "--only", "train", "--study", str(study)]
    return cost_of([*command, "--backend", backend])


def train_study(file: Path, backend: Literal["ray", "in-process"]) -> None:
    """Run the stages of a study up to its trainings, on two slots."""
    resources = Resources(backend=backend)
    context = StudyContext(load_study(file), StudyFolder(file.parent / backend), resources)
    with connect_ray("local" if backend == "ray" else None, cpus=SLOTS):
        selected = select(context)
        prepare(context, selected)
        inputs, trials = plan_study(context, selected)
        train(trials, inputs)


def skip_finished(number: int) -> None:
    """Print the seconds that finding all trainings of a study finished takes."""
    with tempfile.TemporaryDirectory(prefix="mgmt-ray-benchmark-") as folder:
        made = finished_study(Path(folder), number, 60, 1)
        started = time.process_time()
        inputs, trials = plan_study(made.context, made.selected)
        train(trials, inputs)
        seconds = round(time.process_time() - started, 2)
        print(json.dumps({"skipped": len(trials), "cpu_s": seconds}))


if __name__ == "__main__":
    main(tyro.cli(Options))
