from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mgmt_ray.base import FolderLocked, MgmtError
from mgmt_ray.cohort.cohort import Cohort, write_cohort
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.preprocess.recipe import RecipeConfig, versions
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.preprocess.volume_store_plan import plan_store
from mgmt_ray.preprocess.volume_store_writer import StoreWriter
from mgmt_ray.preprocess.volumes import make_versions, make_volumes

MakeSubject = Callable[..., Subject]
BOTH = ("T1", "FLAIR")


class Interruption(Exception):
    pass


def prepare(folder: Path, cohort: Cohort, recipe: RecipeConfig, stop_after: int = 99) -> list[str]:
    """Prepare T1, and return the subjects; raise Interruption after ``stop_after`` puts."""
    plan = plan_store(folder, cohort, ("T1",), recipe)
    made = []
    with StoreWriter(plan) as writer:
        for task in plan.tasks:
            if len(made) == stop_after:
                raise Interruption
            writer.put(task.subject.id, make_volumes(task.subject, task.wanted, recipe))
            made.append(task.subject.id)
    return made


def assert_store_is_that_of(cohort: Cohort, folder: Path, recipe: RecipeConfig) -> None:
    store = VolumeStore(folder, "T1")
    store.verify()
    assert store.ids == tuple(subject.id for subject in cohort.subjects)
    for subject in cohort.subjects:
        made, _ = make_versions(subject, "T1", recipe, versions(recipe))
        np.testing.assert_array_equal(store.load([subject.id], versions(recipe))[0], made)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_interrupted_preparation_continues_where_it_stopped(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig
) -> None:
    with pytest.raises(Interruption):
        prepare(tmp_path / "v", cohort, recipe, stop_after=2)
    with pytest.raises(MgmtError, match="no volumes yet"):
        VolumeStore(tmp_path / "v", "T1")
    assert prepare(tmp_path / "v", cohort, recipe) == ["S3"]
    assert_store_is_that_of(cohort, tmp_path / "v", recipe)
    assert names_in(tmp_path / "v") == {"T1.npy", "T1.json"}


def test_the_store_in_place_stays_valid_until_the_new_one_is_complete(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig
) -> None:
    prepare(tmp_path / "v", cohort, recipe)
    old = VolumeStore(tmp_path / "v", "T1")
    changed = recipe.model_copy(update={"noise_std": 0.3})
    with pytest.raises(Interruption):
        prepare(tmp_path / "v", cohort, changed, stop_after=2)
    assert_store_is_that_of(cohort, tmp_path / "v", recipe)
    assert prepare(tmp_path / "v", cohort, changed) == ["S3"]
    assert_store_is_that_of(cohort, tmp_path / "v", changed)
    old.verify()  # a reader that had it open keeps the old array


def test_what_was_finished_survives_a_change_of_the_cohort(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig
) -> None:
    with pytest.raises(Interruption):
        prepare(tmp_path / "v", cohort, recipe, stop_after=2)
    fewer = Cohort(cohort.subjects[1:])
    assert prepare(tmp_path / "v", fewer, recipe) == ["S3"]
    assert_store_is_that_of(fewer, tmp_path / "v", recipe)
    assert names_in(tmp_path / "v") == {"T1.npy", "T1.json"}


def test_a_journal_line_that_was_cut_costs_its_row_only(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig
) -> None:
    with pytest.raises(Interruption):
        prepare(tmp_path / "v", cohort, recipe, stop_after=2)
    (journal,) = (tmp_path / "v").glob("*.jsonl")
    os.truncate(journal, journal.stat().st_size - 40)
    with pytest.raises(Interruption):
        prepare(tmp_path / "v", cohort, recipe, stop_after=1)
    assert prepare(tmp_path / "v", cohort, recipe) == ["S3"]
    assert_store_is_that_of(cohort, tmp_path / "v", recipe)


@pytest.mark.parametrize("renamed", [False, True])
def test_a_completion_cut_between_its_renames_is_never_mixed_up(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig, renamed: bool
) -> None:
    folder = tmp_path / "v"
    prepare(folder, cohort, recipe)
    old = {name: (folder / name).read_bytes() for name in ("T1.json", "T1.npy")}
    changed = recipe.model_copy(update={"noise_std": 0.3})
    prepare(folder, cohort, changed)
    target = json.loads((folder / "T1.json").read_text(encoding="utf-8"))["target"]
    # as a crash leaves it: the next index is written, the array renamed or not
    (folder / "T1.json").rename(folder / "T1.json.next")
    (folder / "T1.json").write_bytes(old["T1.json"])
    if not renamed:
        (folder / "T1.npy").rename(folder / f"T1-{target[:12]}.npy.partial")
        (folder / "T1.npy").write_bytes(old["T1.npy"])
    assert_store_is_that_of(cohort, folder, changed if renamed else recipe)
    third = recipe.model_copy(update={"deform_sigma_voxels": 0.5})
    with pytest.raises(Interruption):
        prepare(folder, cohort, third, stop_after=1)
    assert not (folder / "T1.json.next").exists()
    assert_store_is_that_of(cohort, folder, changed if renamed else recipe)
    prepare(folder, cohort, third)
    assert_store_is_that_of(cohort, folder, third)
    assert names_in(folder) == {"T1.npy", "T1.json"}


def test_a_damaged_volume_is_not_copied_into_a_new_store(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig
) -> None:
    folder = tmp_path / "v"
    prepare(folder, cohort, recipe)
    with (folder / "T1.npy").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    changed = recipe.model_copy(update={"noise_std": 0.3})
    with pytest.raises(MgmtError, match=r"T1.npy: the volumes of S3 are not what was written"):
        prepare(folder, cohort, changed)
    (folder / "T1.npy").unlink()
    assert prepare(folder, cohort, changed) == ["S3"]  # the others were copied before
    assert_store_is_that_of(cohort, folder, changed)


def test_two_preparations_at_once_are_refused(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig
) -> None:
    plan = plan_store(tmp_path / "v", cohort, ("T1",), recipe)
    with StoreWriter(plan) as writer:
        with pytest.raises(FolderLocked):
            prepare(tmp_path / "v", cohort, recipe)
        for task in plan.tasks:
            writer.put(task.subject.id, make_volumes(task.subject, task.wanted, recipe))
    assert_store_is_that_of(cohort, tmp_path / "v", recipe)


def test_a_plan_that_is_out_of_date_is_refused(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig
) -> None:
    plan = plan_store(tmp_path / "v", cohort, ("T1",), recipe)
    prepare(tmp_path / "v", cohort, recipe)
    with pytest.raises(MgmtError, match="changed since the work was planned"):
        StoreWriter(plan).__enter__()
    assert names_in(tmp_path / "v") == {"T1.npy", "T1.json"}


def test_a_writer_left_without_all_subjects_says_so(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig
) -> None:
    plan = plan_store(tmp_path / "v", cohort, BOTH, recipe)
    writer = StoreWriter(plan).__enter__()
    for task in plan.tasks[:2]:
        writer.put(task.subject.id, make_volumes(task.subject, task.wanted, recipe))
    with pytest.raises(MgmtError, match="subjects are missing in T1"):
        writer.__exit__(None, None, None)
    VolumeStore(tmp_path / "v", "FLAIR").verify()  # only S1 and S2 have FLAIR


SCRIPT = """
import os, resource, signal, sys
from pathlib import Path
from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import read_cohort
from mgmt_ray.preprocess.recipe import RecipeConfig
from mgmt_ray.preprocess.volume_store_plan import plan_store
from mgmt_ray.preprocess.volume_store_writer import StoreWriter
from mgmt_ray.preprocess.volumes import make_volumes

cohort, folder = read_cohort(Path(sys.argv[1])), Path(sys.argv[2])
recipe = RecipeConfig.model_validate_json(sys.argv[3])
plan = plan_store(folder, cohort, ("T1",), recipe)
"""


def run(code: str, cohort: Cohort, folder: Path, recipe: RecipeConfig) -> subprocess.Popen[str]:
    write_cohort(cohort, folder.parent / "cohort")
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            SCRIPT + textwrap.dedent(code),
            str(folder.parent / "cohort"),
            str(folder),
            recipe.model_dump_json(),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_preparation_leaves_a_lock_and_rows_that_the_next_one_takes_over(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig
) -> None:
    code = """
    with StoreWriter(plan) as writer:
        task = plan.tasks[0]
        writer.put(task.subject.id, make_volumes(task.subject, task.wanted, recipe))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = run(code, cohort, tmp_path / "v", recipe)
    assert killed.wait(timeout=60) == -signal.SIGKILL
    assert (tmp_path / "v" / "preparing.lock").exists()
    assert prepare(tmp_path / "v", cohort, recipe) == ["S2", "S3"]
    assert_store_is_that_of(cohort, tmp_path / "v", recipe)


def test_a_full_disk_is_one_clear_line_and_spoils_nothing(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig
) -> None:
    folder = tmp_path / "v"
    prepare(folder, cohort, recipe)
    changed = recipe.model_copy(update={"noise_std": 0.3})
    # a limit on the size of files fails writes as a full disk does, at the reservation
    code = """
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        StoreWriter(plan).__enter__()
    except MgmtError as error:
        print(error)
    """
    limited = run(code, cohort, folder, changed)
    output, _ = limited.communicate(timeout=60)
    assert limited.returncode == 0
    assert output.count("\n") == 1
    assert "cannot be written" in output and "Free some space" in output
    assert names_in(folder) == {"T1.npy", "T1.json"}
    assert_store_is_that_of(cohort, folder, recipe)


def test_a_disk_that_fills_while_rows_are_put_keeps_the_rows_before(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig
) -> None:
    code = """
    try:
        with StoreWriter(plan) as writer:
            for task in plan.tasks:
                made = make_volumes(task.subject, task.wanted, recipe)
                if task.subject.id == "S3":
                    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
                writer.put(task.subject.id, made)
    except MgmtError as error:
        print(error)
    """
    limited = run(code, cohort, tmp_path / "v", recipe)
    output, errors = limited.communicate(timeout=60)
    assert errors == ""
    assert output.count("\n") == 1 and "Free some space" in output
    assert prepare(tmp_path / "v", cohort, recipe) == ["S3"]
    assert_store_is_that_of(cohort, tmp_path / "v", recipe)
