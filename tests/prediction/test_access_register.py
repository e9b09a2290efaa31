from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.prediction import access_register
from mgmt_ray.prediction.access_log import log_access
from mgmt_ray.prediction.access_register import AccessRegister
from mgmt_ray.study.folder import StudyFolder


def opened(
    root: Path, register: Path, subjects: str = "AB", data_set: str = "upenn"
) -> dict[str, Any]:
    """Access subjects in a study's folder; return the entry in its own log."""
    folder = StudyFolder(root)
    log_access(folder, "ensembles", {}, ["m"], AccessRegister(register, data_set, (*subjects,)))
    entry = json.loads(folder.test_openings.read_text().splitlines()[-1])
    assert isinstance(entry, dict)
    return entry


def test_accesses_of_other_folders_to_the_same_subjects_are_counted(tmp_path: Path) -> None:
    register = tmp_path / "register.jsonl"
    assert opened(tmp_path / "a", register)["registered_before"] == 0
    assert opened(tmp_path / "b", register, "BC")["registered_before"] == 1
    # neither other subjects, nor those of another data set
    assert opened(tmp_path / "c", register, "D")["registered_before"] == 0
    assert opened(tmp_path / "c", register, "AB", "ucsf")["registered_before"] == 0
    # its own log has the first, so that only b's counts
    assert opened(tmp_path / "a", register)["registered_before"] == 1
    lines = [json.loads(line) for line in register.read_text().splitlines()]
    assert [Path(line["folder"]).name for line in lines] == ["a", "b", "c", "c", "a"]
    assert lines[1]["subjects"] == ["B", "C"] and lines[1]["purpose"] == "ensembles"
    assert not (tmp_path / "register.jsonl.lock").exists()


def test_a_folder_that_was_deleted_and_made_again_is_known(tmp_path: Path) -> None:
    register = tmp_path / "register.jsonl"
    opened(tmp_path / "a", register)
    StudyFolder(tmp_path / "a").test_openings.unlink()
    assert opened(tmp_path / "a", register)["registered_before"] == 1


def test_a_line_that_was_cut_off_does_not_swallow_the_next(tmp_path: Path) -> None:
    register = tmp_path / "register.jsonl"
    opened(tmp_path / "a", register)
    register.write_text(register.read_text().rstrip("\n"))
    assert opened(tmp_path / "b", register)["registered_before"] == 1
    assert len(register.read_text().splitlines()) == 2


@pytest.mark.parametrize("line", ["{", "3", "[]", '{"time": "x"}', "\x00"])
def test_a_damaged_register_opens_nothing_and_stays(tmp_path: Path, line: str) -> None:
    register = tmp_path / "register.jsonl"
    opened(tmp_path / "a", register)
    damaged = register.read_text() + line + "\n"
    register.write_text(damaged)
    with pytest.raises(MgmtError, match=r"register.jsonl, line 2: is no access .*nothing was open"):
        opened(tmp_path / "b", register)
    assert register.read_text() == damaged
    assert not StudyFolder(tmp_path / "b").test_openings.exists()


def test_a_register_that_cannot_be_written_opens_nothing(tmp_path: Path) -> None:
    for register in (tmp_path / "missing" / "register.jsonl", tmp_path):
        with pytest.raises(MgmtError, match=r"cannot be written .*nothing was opened"):
            opened(tmp_path / "a", register)
    assert not StudyFolder(tmp_path / "a").test_openings.exists()


def test_another_process_that_holds_the_register_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_register, "WAIT_SECONDS", 0.2)
    register, lock = tmp_path / "register.jsonl", tmp_path / "register.jsonl.lock"
    lock.write_text('{"host": "elsewhere", "pid": 1}')
    with pytest.raises(MgmtError, match=r"another process has held .*delete that file"):
        opened(tmp_path / "a", register)
    monkeypatch.setattr(access_register, "WAIT_SECONDS", 30.0)
    remove = f"import time, os; time.sleep(0.2); os.unlink({str(lock)!r})"
    with subprocess.Popen([sys.executable, "-c", remove]):
        assert opened(tmp_path / "a", register)["registered_before"] == 0
