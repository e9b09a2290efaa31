from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mgmt_ray.base import CannotWrite, FolderLocked, MgmtError, fingerprint, folder_lock, stream
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.data.bring_up_to_date import (
    Maker,
    UnusableFiles,
    Update,
    bring_up_to_date,
    each_alone,
)
from mgmt_ray.preprocess.artefact_store import Artefact, ArtefactPart, Wanted

SUBJECTS = tuple(f"S{number}" for number in range(6))
PARTS = ("T1", "FLAIR")
HERE = Resources(backend="in-process")
FORK = multiprocessing.get_context("forkserver")  # a copy of this process could lack its threads
FORK.set_forkserver_preload([__name__])


def make(task: Sequence[Wanted[int]], faulty: Sequence[str]) -> list[Artefact | MgmtError]:
    """Return random arrays; a fault of one item, or raise it where the task is one item."""
    faults = {item: MgmtError(f"{item.part} is bad") for item in task if item.subject in faulty}
    faults = {item: fault for item, fault in faults.items() if item.part == "FLAIR"}
    if len(task) == len(faults) == 1:
        raise faults[task[0]]
    return [
        faults.get(item)
        or Artefact(
            {"voxels": stream(item.source, item.part, item.subject).random(500)},
            {"recipe": item.source},
        )
        for item in task
    ]


def in_pairs(pending: Sequence[Wanted[int]]) -> list[list[Wanted[int]]]:
    return [[*pending[i : i + 2]] for i in range(0, len(pending), 2)]


def prepare(
    folder: Path,
    recipe: int = 0,
    subjects: Sequence[str] = SUBJECTS,
    faulty: Sequence[str] = (),
    after_task: Callable[[int, int], None] = lambda done, total: None,
    resources: Resources = HERE,
    **options: Any,
) -> Update:
    items = {
        part: [Wanted(part, s, fingerprint([part, s, recipe]), recipe) for s in subjects]
        for part in PARTS
    }
    maker = Maker(**{"make": make, "shared": faulty, **options})
    return bring_up_to_date(folder, items, maker, {"recipe": recipe}, resources, after_task)


def assert_part_is_sound(
    folder: Path, name: str, recipes: Sequence[int] = (0,), subjects: Sequence[str] = SUBJECTS
) -> None:
    """Compare a part with what one of the recipes gives."""
    part = ArtefactPart(folder, name)
    recipe = part.index["recipe"]
    assert recipe in recipes and list(part.subjects) == sorted(subjects)
    for subject in subjects:
        expected = stream(recipe, name, subject).random(500)
        np.testing.assert_array_equal(part.load(subject).arrays["voxels"], expected)


def files_in(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def run_until_killed(action: Callable[[], object], after_s: float = 60) -> int:
    """Run in a process of its own, which is killed after some seconds; return its exit code."""
    process = FORK.Process(target=action)
    process.start()
    process.join(after_s)
    process.kill()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def test_what_is_prepared_is_read_back_and_not_made_again(tmp_path: Path) -> None:
    update = prepare(tmp_path / "s")
    assert update.num_made == 12 and not update.faults
    for part in PARTS:
        assert_part_is_sound(tmp_path / "s", part)
    assert len(files_in(tmp_path / "s")) == 12 + 2
    before = {path: path.stat().st_ino for path in (tmp_path / "s").rglob("*")}
    again = prepare(tmp_path / "s")
    assert again.num_made == 0 and again.entries == update.entries
    assert {path: path.stat().st_ino for path in (tmp_path / "s").rglob("*")} == before


def slow_make(task: Sequence[Wanted[int]], _: Sequence[str]) -> Sequence[Artefact | MgmtError]:
    time.sleep(0.02)
    return make(task, ())


def test_a_preparation_killed_at_random_moments_ends_with_the_same_bytes(tmp_path: Path) -> None:
    prepare(tmp_path / "whole", recipe=1)
    whole, draws, num_killed = files_in(tmp_path / "whole"), stream(0, "test moments"), 0
    for number in range(10):
        folder = tmp_path / f"killed{number}"
        prepare(folder)
        code, moment = 1, float(draws.uniform(0, 0.15))
        while code:
            code = run_until_killed(partial(prepare, folder, 1, make=slow_make), moment)
            num_killed += code == -signal.SIGKILL
            moment += 0.1
        prepare(folder, recipe=1)
        assert files_in(folder) == whole
    assert num_killed > 5


def kill_at(name: str, number: int, folder: Path) -> None:
    """Prepare, and kill this process right before the call of an ``os`` function."""
    call, calls = getattr(os, name), iter(range(number + 1))

    def counted(*arguments: Any, **more: Any) -> Any:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **more)

    setattr(os, name, counted)
    prepare(folder, recipe=1)


@pytest.mark.parametrize("name", ["fsync", "replace", "unlink"])
def test_a_preparation_killed_at_any_step_ends_with_the_same_bytes(
    name: str, tmp_path: Path
) -> None:
    prepare(tmp_path / "whole", recipe=1)
    whole, number = files_in(tmp_path / "whole"), 0
    while True:
        folder = tmp_path / f"killed{number}"
        prepare(folder)
        if run_until_killed(partial(kill_at, name, number, folder)) == 0:
            break
        for part in PARTS:
            assert_part_is_sound(folder, part, (0, 1))
        prepare(folder, recipe=1)
        assert files_in(folder) == whole, f"before call {number} of {name}"
        number += 1
    assert number >= 12


@pytest.mark.parametrize("batch", [each_alone, in_pairs])
def test_faults_of_some_subjects_do_not_stop_the_others(
    batch: Callable[..., Any], tmp_path: Path
) -> None:
    prepare(tmp_path)
    update = prepare(tmp_path, recipe=1, faulty=("S2",), batch=batch)
    assert {key: str(fault) for key, fault in update.faults.items()} == {
        ("FLAIR", "S2"): "FLAIR is bad"
    }
    with pytest.raises(UnusableFiles, match=r"^subject S2: FLAIR is bad$"):
        update.check_faults()
    assert len(update.entries) == 12 - 1
    assert_part_is_sound(tmp_path, "T1", (1,))
    assert_part_is_sound(tmp_path, "FLAIR", (0,))  # until the new one is complete
    assert prepare(tmp_path, recipe=1).num_made == 1
    assert_part_is_sound(tmp_path, "FLAIR", (1,))


def test_subjects_that_come_or_go_leave_the_others_untouched(tmp_path: Path) -> None:
    prepare(tmp_path)
    before = files_in(tmp_path)
    assert prepare(tmp_path, subjects=(*SUBJECTS, "S0-2")).num_made == 2
    assert_part_is_sound(tmp_path, "T1", subjects=(*SUBJECTS, "S0-2"))
    (tmp_path / "T1" / "notes.txt").write_text("of the user")
    assert prepare(tmp_path).num_made == 0
    assert files_in(tmp_path) == before | {"T1/notes.txt": b"of the user"}
    assert prepare(tmp_path, subjects=()).num_made == 0
    assert len(files_in(tmp_path)) == 2 + 1


def test_a_truncated_file_is_made_again(tmp_path: Path) -> None:
    prepare(tmp_path)
    before = files_in(tmp_path)
    file = tmp_path / "T1" / ArtefactPart(tmp_path, "T1").subjects["S3"]["file"]
    os.truncate(file, file.stat().st_size // 2)
    assert prepare(tmp_path).num_made == 1
    assert files_in(tmp_path) == before


def test_an_artefact_that_is_not_valid_any_more_is_made_again(tmp_path: Path) -> None:
    def is_valid(description: Mapping[str, Any]) -> bool:
        return bool(description["recipe"] == 1)

    prepare(tmp_path)
    assert prepare(tmp_path, is_valid=is_valid).num_made == 12


def test_two_preparations_do_not_meet(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "preparing.lock"), pytest.raises(FolderLocked):
        prepare(tmp_path)
    prepare(tmp_path)
    with folder_lock(tmp_path / "preparing.lock"), pytest.raises(FolderLocked):
        prepare(tmp_path)


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="cannot be written"):
        prepare(tmp_path / "file" / "s")


def prepare_on_full_disk(folder: Path, message: Path) -> None:
    """Prepare under a limit on the size of files, which fails writes as a full disk does."""

    def limit(done: int, total: int) -> None:
        if done == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    try:
        prepare(folder, after_task=limit)
    except CannotWrite as error:
        message.write_text(str(error))


def test_a_full_disk_is_one_line_and_what_was_written_stays(tmp_path: Path) -> None:
    action = partial(prepare_on_full_disk, tmp_path / "s", tmp_path / "message")
    assert run_until_killed(action) == 0
    message = (tmp_path / "message").read_text()
    assert "\n" not in message
    assert "cannot be written (File too large). Free some space" in message
    assert len(files_in(tmp_path / "s")) == 3
    with pytest.raises(MgmtError, match="not prepared yet"):
        ArtefactPart(tmp_path / "s", "T1")
    assert prepare(tmp_path / "s").num_made == 12 - 3


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_ray_writes_the_same_files(tmp_path: Path) -> None:
    prepare(tmp_path / "here")
    prepare(tmp_path / "ray", resources=Resources())
    assert files_in(tmp_path / "ray") == files_in(tmp_path / "here")
