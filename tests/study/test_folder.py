import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError, write_json
from mgmt_ray.study.folder import (
    StudyFolder,
    check_trial_tables,
    check_weights,
    read_trial_file,
    write_trial_file,
)
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


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    (tmp_path / "validation.csv").write_text("subject,probability\na,0.25\n")
    write_trial_file(tmp_path, {"status": "finished", "selection": {"epoch": 15, "m": 0.1}})
    return tmp_path


def test_a_trial_file_is_read_as_it_was_written(trial: Path) -> None:
    content = read_trial_file(trial)
    assert content["selection"] == {"epoch": 15, "m": 0.1}
    check_trial_tables(trial, read_trial_file(trial))
    write_json(trial / "trial.json", {"status": "finished"})  # of an earlier version
    assert read_trial_file(trial) == {"status": "finished"}
    check_trial_tables(trial, read_trial_file(trial))


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-40],
        lambda text: "",
        lambda text: text.replace("15", "14"),
        lambda text: text.replace("epoch", "epocj"),
        lambda text: "[]",
        lambda text: text.replace("{", "\0", 1),
    ],
)
def test_a_damaged_trial_file_is_named_in_one_line(
    trial: Path, damage: Callable[[str], str]
) -> None:
    path = trial / "trial.json"
    path.write_text(damage(path.read_text()))
    for read in (read_trial_file, check_weights):
        with pytest.raises(
            MgmtError, match=r"trial.json: is damaged .*Delete that trial"
        ) as caught:
            read(trial)
        assert "\n" not in str(caught.value)


def test_a_changed_or_lost_table_is_named(trial: Path) -> None:
    path = trial / "validation.csv"
    path.write_text(path.read_text().replace("0.25", "0.35"))
    with pytest.raises(
        MgmtError, match=r"validation.csv: its checksum is not the one in trial.json"
    ):
        check_trial_tables(trial, read_trial_file(trial))
    path.unlink()
    with pytest.raises(MgmtError, match=r"validation.csv: its checksum"):
        check_trial_tables(trial, read_trial_file(trial))
