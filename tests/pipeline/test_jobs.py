"""A job that is really submitted, to a head with its dashboard and a token."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))


@dataclass(frozen=True)
class Head:
    """A Ray head of its own."""

    dashboard: str
    environment: dict[str, str]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    gcs, dashboard = free_port(), free_port()
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    environment.pop("RAY_ADDRESS", None)
    # a short path: Ray puts sockets below it
    folder = Path("/tmp") / f"mgmt-{secrets.token_hex(3)}"
    command = [RAY, "start", "--head", "--block", f"--port={gcs}", "--num-cpus=2"]
    command += [f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"]
    command += ["--include-dashboard=true", f"--temp-dir={folder}", "--node-ip-address=127.0.0.1"]
    command += [f"--ray-client-server-port={free_port()}"]
    command += [f"--dashboard-agent-listen-port={free_port()}"]
    log = (tmp_path_factory.mktemp("head") / "log").open("w")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield Head(f"http://127.0.0.1:{dashboard}", environment)
    finally:
        started = psutil.Process(process.pid)
        family = [*started.children(recursive=True), started]
        for member in family:
            member.terminate()
        _, alive = psutil.wait_procs(family, timeout=15)
        for member in alive:
            member.kill()
        process.wait(15)
        subprocess.run(["rm", "-rf", str(folder)], check=True)


def submit(head: Head, *entrypoint: str, **changes: str) -> subprocess.CompletedProcess[str]:
    command = [RAY, "job", "submit", "--address", head.dashboard, "--working-dir", str(ROOT)]
    command += ["--runtime-env", str(ROOT / "jobs" / "runtime_env.yaml"), "--"]
    environment = head.environment | changes
    return subprocess.run(
        [*command, *entrypoint], env=environment, capture_output=True, text=True, timeout=480
    )


def wait_for_dashboard(head: Head) -> None:
    port = int(head.dashboard.rsplit(":", 1)[1])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise AssertionError("no dashboard within a minute")


@pytest.mark.ray
def test_a_study_is_submitted_as_a_job(head: Head, write_study, data, tmp_path: Path) -> None:
    networks = {"random": {"kind": "random", "depth": 10, "width": 4}}
    study = write_study(networks=networks)
    wait_for_dashboard(head)
    stranger = submit(head, "true", RAY_AUTH_TOKEN=secrets.token_hex(16))
    assert stranger.returncode != 0
    assert "401" in stranger.stdout + stranger.stderr or "nvalid" in stranger.stderr
    out = tmp_path / "out"
    done = submit(
        head,
        *("python", "jobs/run.py", str(study), "--data", str(data.root), "--out", str(out)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trials: 4 of 4" in done.stdout
    assert (out / "report.html").exists()
    assert (
        len((out / "ensembles" / "test_openings.jsonl").read_text(encoding="utf-8").splitlines())
        == 1
    )
