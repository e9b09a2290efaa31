import subprocess
import sys
from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError, write_json
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.outcome import Outcome


def test_a_study_is_worked_on_by_one_process(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom mgmt_ray.study.folder import StudyFolder\n"
        "with StudyFolder(pathlib.Path(sys.argv[1])).lock():\n    print('in', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None and other.stdout.readline() == "in\n"
    with (
        pytest.raises(MgmtError, match=f"process {other.pid} on .*Wait for it"),
        StudyFolder(tmp_path).lock(),
    ):
        pass
    other.communicate()
    with StudyFolder(tmp_path).lock():
        pass


def test_a_trial_is_complete_before_it_is_failed_or_stopped(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert folder.outcome("a") == Outcome("to do")
    folder.partial_trial("a").mkdir(parents=True)
    assert folder.outcome("a") == Outcome("stopped")
    folder.record_failure("a", Outcome("lost", "its workers died."))
    assert folder.outcome("a") == Outcome("lost", "its workers died.")
    write_json(folder.trial("a") / "trial.json", {"status": "diverged", "message": "NaN."})
    assert folder.outcome("a") == Outcome("diverged", "NaN.")
    folder.forget_failure("b")


def test_a_folder_of_an_earlier_version_is_told_in_one_line(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    with folder.lock():
        folder.study_file.write_text("name: small\nbaselines: [prevalence]\n")
    with folder.lock():
        folder.study_file.write_text("name: small\ncomparisons: [prevalence]\n")
    with (
        pytest.raises(MgmtError, match="was written by an earlier version") as raised,
        folder.lock(),
    ):
        pass
    assert "\n" not in str(raised.value) and "--out" in str(raised.value)
