from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mgmt_ray.base import CannotWrite, FolderLocked, folder_lock


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_held_lock_refuses_others_and_is_gone_afterwards(tmp_path: Path) -> None:
    lock = tmp_path / "preparing.lock"
    with folder_lock(lock):
        with pytest.raises(FolderLocked, match=f"process {os.getpid()} on {socket.gethostname()}"):
            folder_lock(lock).__enter__()
        assert lock.exists()
    assert not lock.exists()


def test_a_lock_is_released_when_its_holder_fails(tmp_path: Path) -> None:
    lock = tmp_path / "preparing.lock"
    with pytest.raises(ZeroDivisionError), folder_lock(lock):
        raise ZeroDivisionError
    assert not lock.exists()


def test_the_lock_of_a_dead_process_of_this_host_is_taken_over(tmp_path: Path) -> None:
    lock = tmp_path / "preparing.lock"
    lock.write_text(json.dumps({"host": socket.gethostname(), "pid": dead_pid()}))
    with folder_lock(lock):
        assert json.loads(lock.read_text(encoding="utf-8"))["pid"] == os.getpid()
        with pytest.raises(FolderLocked):
            folder_lock(lock).__enter__()
    assert not lock.exists()


@pytest.mark.parametrize("text", ['{"host": "another-host", "pid": 999999999}', "", "not JSON"])
def test_a_lock_that_may_be_alive_is_respected_and_its_removal_explained(
    tmp_path: Path, text: str
) -> None:
    lock = tmp_path / "preparing.lock"
    lock.write_text(text)
    with pytest.raises(FolderLocked, match=f"delete {lock}"):
        folder_lock(lock).__enter__()
    assert lock.read_text(encoding="utf-8") == text


def test_a_folder_that_cannot_be_written_is_told() -> None:
    with (
        pytest.raises(CannotWrite, match="/proc: cannot be written"),
        folder_lock(Path("/proc/study.lock")),
    ):
        pass
