"""Connect to Ray: start a local one by default, never join one that happens to be running."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgmt_ray.base import MgmtError, first_line

if TYPE_CHECKING:
    import ray

RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a report waits for the controller's next poll
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the study, not one stage
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_maximum_startup_concurrency": "4",  # besides drivers that only wait
}


MAX_SOCKET_BYTES = 107
SOCKET_EXAMPLE = f"ray/session_2026-01-01_00-00-00_000000_{10**7}/sockets/plasma_store"
SHORT_FOLDER = "/tmp"


_start: partial[None] | None = None
"""Connects to the Ray of :func:`connect_ray`; None outside of its ``with`` block."""


@contextmanager
def connect_ray(address: str | None, cpus: int | None = None) -> Iterator[None]:
    """Connect to Ray as soon as something runs there, and disconnect at the end.

    Args:
        address: "local" starts a Ray on this machine and stops it at the end; "auto" finds a
            running one; "10.0.0.1:6379" or "ray://head:10001" is a head's address; None does
            nothing, for work in this process.
        cpus: CPU cores of a local Ray; None for all.

    Raises:
        MgmtError: no cluster answers at the address.
    """
    global _start
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    if address is not None:
        _check_reachable(address)
    if address is None or _start is not None or _is_connected():
        yield
        return
    _start = partial(_init, address, cpus)
    try:
        yield
    finally:
        _start = None
        if _is_connected():
            sys.modules["ray"].shutdown()


def ensure_connected() -> None:
    """Connect to the Ray of :func:`connect_ray`, if that has not happened yet.

    Raises:
        MgmtError: there is no such Ray.
    """
    if _start is not None and not _is_connected():
        _start()


def awaits_local_ray() -> bool:
    """Return whether the Ray of :func:`connect_ray` is a local one that has not started yet."""
    return _start is not None and _start.args[0] == "local" and not _is_connected()


def cluster_resources() -> Mapping[str, float]:
    """Connect if needed, and return the cluster's resources: numbers of "CPU" and "GPU"."""
    ensure_connected()
    return dict(sys.modules["ray"].cluster_resources())


def _is_connected() -> bool:
    """Return whether Ray is connected; where it was not imported yet, it is not."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def _init(address: str, cpus: int | None) -> None:
    import ray

    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        settings |= {"num_cpus": cpus, "include_dashboard": False, "_temp_dir": _socket_folder()}
    try:
        ray.init(address=address, **settings)
    except Exception as error:  # a bare one where a node is slow to start
        if address == "local":
            raise MgmtError(
                f"Ray does not start on this machine ({first_line(error)}). Rerun the command, "
                "or use --backend in-process, which needs no Ray."
            ) from error
        raise MgmtError(
            f"--address {address}: cannot connect to a Ray cluster ({first_line(error)}). "
            "Start one with `ray start --head`, or omit --address to use this machine."
        ) from error


def _socket_folder() -> str | None:
    """Return where Ray may put its sockets; None where the folder that it takes itself will do.

    A socket's path has at most 107 bytes (unix(7)), and some schedulers set long temporary folders.
    """
    chosen = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or SHORT_FOLDER
    fits = len(os.fsencode(Path(chosen) / SOCKET_EXAMPLE)) <= MAX_SOCKET_BYTES
    return None if fits else str(Path(SHORT_FOLDER) / "ray")


def _check_reachable(address: str) -> None:
    """Try HOST:PORT with a short timeout: Ray itself would retry for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise MgmtError(
            f"--address {address}: no answer ({error.strerror or error}). Start Ray with "
            "`ray start --head`, correct the address, or omit it to use this machine."
        ) from error


def fetch(reference: ray.ObjectRef) -> Any:
    """Return a task's result; an MgmtError of the task is raised without Ray's traceback."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, MgmtError):
            raise error.cause from None
        raise


def check_local_ray() -> str:
    """Start a local Ray, run one task, and return its version and resources in one line.

    Raises:
        MgmtError: Ray cannot be started, or the task's result is wrong.
    """
    import ray

    with connect_ray("local"):
        ensure_connected()
        answer = fetch(ray.remote(_double).remote(21))
        if answer != 42:
            raise MgmtError("tasks return wrong results. Reinstall with `make setup`.")
        resources = ray.cluster_resources()
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    return f"{ray.__version__}, a local one starts and runs tasks ({cpus:g} CPU, {gpus:g} GPU)"


def _double(number: int) -> int:
    return 2 * number
