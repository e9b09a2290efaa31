"""Killed studies, workers and drivers: nothing is lost, nothing is done twice, nothing differs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

# Long enough to be hit in the middle, on a fast machine too.
SECTIONS = {
    "networks": {"spottune": {"kind": "spottune", "depth": 10, "width": 4, "agent_width": 2}},
    "training": {"epochs": 8, "batch_size": 12, "learning_rate": 0.005, "validation_draws": 4},
}
PATIENCE_S = 240


@contextmanager
def running(
    study: Path, data, out: Path, backend: str, *flags: str
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "mgmt_ray.cli", "run", str(study), "--data", str(data.root)]
    command += ["--checkpoint", str(data.checkpoint), "--out", str(out), "--backend", backend]
    process = subprocess.Popen(
        [*command, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # a shell's background jobs ignore SIGINT, and so would their children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finish(study: Path, data, out: Path, backend: str, *flags: str) -> str:
    with running(study, data, out, backend, *flags) as process:
        printed, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, printed
    return printed


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        assert time.monotonic() < deadline
        time.sleep(0.05)


def finished(out: Path) -> list[Path]:
    return sorted((out / "trials").glob("*/trial.json"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data, write_small_study) -> Path:
    """The tables of the same study when nothing happens to it."""
    out = tmp_path_factory.mktemp("undisturbed")
    finish(write_small_study(out / "study.yaml", **SECTIONS), data, out, "in-process")
    return out / "ensembles"


@pytest.mark.chaos
def test_a_study_killed_three_times_continues_to_the_same_tables(
    write_study: Callable[..., Path], data, tmp_path: Path, undisturbed: Path
) -> None:
    study = write_study(**SECTIONS)
    out = tmp_path / "killed"
    before: dict[Path, int] = {}
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with running(study, data, out, "in-process") as process:
            wait_for(lambda: len(finished(out)) > len(before), process)  # noqa: B023
            process.send_signal(sign)
            process.communicate(timeout=PATIENCE_S)
        assert (out / "study.lock").exists() == (sign == signal.SIGKILL)
        after = {path: path.stat().st_mtime_ns for path in finished(out)}
        assert before.items() < after.items()
        before = after
    assert len(before) < 4
    assert not (out / "ensembles").exists()
    finish(study, data, out, "in-process")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for name in ("metrics.csv", "predictions.csv", "comparisons.csv"):
        assert (out / "ensembles" / name).read_text(encoding="utf-8") == (
            undisturbed / name
        ).read_text(encoding="utf-8")


@pytest.mark.chaos
@pytest.mark.ray
def test_a_killed_worker_is_replaced_and_the_tables_are_the_same(
    write_study: Callable[..., Path], data, tmp_path: Path, undisturbed: Path
) -> None:
    study = write_study(**SECTIONS)
    out = tmp_path / "killed"
    with running(study, data, out, "ray", "--trials-per-batch", "4") as process:
        wait_for(lambda: len(finished(out)) >= 1, process)
        workers = [p for p in psutil.process_iter(["cmdline"]) if is_worker_of(p, process.pid)]
        assert workers
        os.kill(workers[0].pid, signal.SIGKILL)
        printed, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, printed
    whole = (undisturbed / "metrics.csv").read_text(encoding="utf-8")
    assert (out / "ensembles" / "metrics.csv").read_text(encoding="utf-8") == whole


def is_worker_of(process: psutil.Process, ancestor: int) -> bool:
    """Whether a process is a Ray Train worker that another one's local Ray has started."""
    try:
        is_worker = "RayTrainWorker" in " ".join(process.cmdline())
        return is_worker and ancestor in {p.pid for p in process.parents()}
    except psutil.Error:
        return False
