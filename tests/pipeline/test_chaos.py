"""Killed studies: nothing is lost, nothing is done twice, nothing differs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mgmt_ray.trials.context import StudyContext
from tests.run_stages import evaluated

# Long enough to be hit in the middle, on a fast machine too.
SECTIONS = {
    "networks": {"spottune": {"kind": "spottune", "depth": 10, "width": 4, "agent_width": 2}},
    "training": {"epochs": 8, "batch_size": 12, "learning_rate": 0.005, "validation_draws": 4},
}
PATIENCE_S = 240


@contextmanager
def running(study: Path, data, out: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "mgmt_ray.cli", "run", str(study), "--data", str(data.root)]
    command += ["--checkpoint", str(data.checkpoint), "--out", str(out)]
    command += ["--backend", "in-process"]
    process = subprocess.Popen(
        command,
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


def finish(study: Path, data, out: Path) -> None:
    with running(study, data, out) as process:
        printed, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, printed


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        assert time.monotonic() < deadline
        time.sleep(0.05)


def finished(out: Path) -> list[Path]:
    return sorted((out / "trials").glob("*/trial.json"))


@pytest.mark.chaos
def test_a_study_killed_three_times_continues_to_the_same_tables(
    write_study: Callable[..., Path], make_job: Callable[..., StudyContext], data, tmp_path: Path
) -> None:
    undisturbed = make_job(out="undisturbed", **SECTIONS)
    evaluated(undisturbed)
    study = write_study(**SECTIONS)
    out = tmp_path / "killed"
    before: dict[Path, int] = {}
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with running(study, data, out) as process:
            wait_for(lambda: len(finished(out)) > len(before), process)  # noqa: B023
            process.send_signal(sign)
            process.communicate(timeout=PATIENCE_S)
        assert (out / "study.lock").exists() == (sign == signal.SIGKILL)
        after = {path: path.stat().st_mtime_ns for path in finished(out)}
        assert before.items() < after.items()
        before = after
    assert len(before) < 4
    assert not (out / "ensembles").exists()
    finish(study, data, out)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for name in ("metrics.csv", "predictions.csv", "comparisons.csv"):
        assert (out / "ensembles" / name).read_text(encoding="utf-8") == (
            undisturbed.folder.ensembles / name
        ).read_text(encoding="utf-8")
