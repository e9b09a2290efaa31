"""One preparation at a time in a folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mgmt_ray.base import MgmtError


class Locked(MgmtError):
    """Another process prepares volumes in this folder."""

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(
            f"{path.parent}: {owner} is preparing volumes there. Wait for it, or choose another "
            f"folder with --out; if that process is gone, delete {path}."
        )


@contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Hold a lock file with this process's host and pid.

    It is made with O_EXCL, which also holds on network disks. A lock left by a dead process of the
    same host is taken over.

    Raises:
        Locked: another process holds it.
    """
    mine = json.dumps({"host": socket.gethostname(), "pid": os.getpid()})
    try:
        lock = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        _take_over(path, mine)
    else:
        with os.fdopen(lock, "w") as file:
            file.write(mine)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _take_over(path: Path, mine: str) -> None:
    try:
        file = path.open("r+")
    except FileNotFoundError:
        raise Locked(path, "a process that has just ended") from None
    with file:
        # two that find the same dead owner queue here; the second then finds the first, alive
        fcntl.flock(file, fcntl.LOCK_EX)
        text = file.read()
        try:
            owner = json.loads(text)
            host, pid = str(owner["host"]), int(owner["pid"])
        except (ValueError, KeyError, TypeError):
            raise Locked(path, "an unnamed process") from None
        replaced = not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat())
        if replaced or host != socket.gethostname() or _is_alive(pid):
            raise Locked(path, f"process {pid} on {host}")
        file.seek(0)
        file.truncate()
        file.write(mine)
        file.flush()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
