from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from mgmt_ray.base import FolderLocked, MgmtError, folder_lock
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.scan import read_scan
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.preprocess.axial_slices import SliceSource, make_slices, slice_sources
from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.preprocess.slice_store_writer import SliceWriter, plan_slice_store
from tests.preprocess.conftest import ball, write_scan

MakeSubject = Callable[..., Subject]
RECIPE = SliceRecipe(shape=(18, 16), least_tumour_voxels=3, least_brain_voxels=20)
COARSE = RECIPE.model_copy(update={"shrink": 3})


class Interruption(Exception):
    pass


def both(cohort: Cohort) -> dict[str, Sequence[SliceSource]]:
    return {modality: slice_sources(cohort, modality) for modality in ("T1", "FLAIR")}


def prepare(
    folder: Path,
    sources: dict[str, Sequence[SliceSource]],
    recipe: SliceRecipe = RECIPE,
    stop_after: int = 99,
) -> list[str]:
    """Prepare, and return what was made; raise Interruption after ``stop_after`` puts."""
    plan = plan_slice_store(folder, sources, recipe)
    made = []
    with SliceWriter(plan) as writer:
        for task in plan.tasks:
            if len(made) == stop_after:
                raise Interruption
            writer.put(task, make_slices(task.source, recipe))
            made.append(f"{task.modality} {task.source.id}")
    return made


def assert_store_is_that_of(
    cohort: Cohort, folder: Path, modality: str, recipe: SliceRecipe = RECIPE
) -> None:
    store = SliceStore(folder, modality)
    store.verify()
    sources = slice_sources(cohort, modality)
    assert store.ids == tuple(source.id for source in sources)
    for loaded, source in zip(store.load(store.ids), sources, strict=True):
        made = make_slices(source, recipe)
        np.testing.assert_array_equal(loaded.images, made.images)
        np.testing.assert_array_equal(loaded.masks, made.masks)
        np.testing.assert_array_equal(loaded.depths, made.depths)
        np.testing.assert_array_equal(loaded.of_brain, made.of_brain)
        np.testing.assert_array_equal(loaded.scan_mask, read_scan(source.mask).voxels > 0)
        assert (loaded.id, loaded.frame, loaded.annotated) == (made.id, made.frame, made.annotated)
        assert loaded.masks.any()


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_is_prepared_is_read_back_and_not_made_again(tmp_path: Path, cohort: Cohort) -> None:
    made = prepare(tmp_path / "s", both(cohort))
    assert made == ["T1 S1", "T1 S2", "T1 S3", "FLAIR S1", "FLAIR S2"]
    assert_store_is_that_of(cohort, tmp_path / "s", "T1")
    assert_store_is_that_of(cohort, tmp_path / "s", "FLAIR")
    assert plan_slice_store(tmp_path / "s", both(cohort), RECIPE).modalities == ()
    assert prepare(tmp_path / "s", both(cohort)) == []
    assert len(files_in(tmp_path / "s")) == 5 + 2


def test_an_interrupted_preparation_continues_where_it_stopped(
    tmp_path: Path, cohort: Cohort
) -> None:
    with pytest.raises(Interruption):
        prepare(tmp_path / "s", both(cohort), stop_after=4)
    assert_store_is_that_of(cohort, tmp_path / "s", "T1")
    with pytest.raises(MgmtError, match="no slices yet"):
        SliceStore(tmp_path / "s", "FLAIR")
    assert prepare(tmp_path / "s", both(cohort)) == ["FLAIR S2"]
    assert_store_is_that_of(cohort, tmp_path / "s", "FLAIR")


def test_slices_in_place_stay_valid_until_the_new_ones_are_complete(
    tmp_path: Path, cohort: Cohort
) -> None:
    prepare(tmp_path / "s", both(cohort))
    before = files_in(tmp_path / "s")
    with pytest.raises(Interruption):
        prepare(tmp_path / "s", both(cohort), COARSE, stop_after=2)
    assert_store_is_that_of(cohort, tmp_path / "s", "T1")
    made = prepare(tmp_path / "s", both(cohort), COARSE)
    assert made == ["T1 S3", "FLAIR S1", "FLAIR S2"]
    assert_store_is_that_of(cohort, tmp_path / "s", "T1", COARSE)
    after = files_in(tmp_path / "s")
    assert len(after) == len(before) and set(after) & set(before) == {"T1.json", "FLAIR.json"}


def test_only_what_changed_is_made_again(
    tmp_path: Path, cohort: Cohort, make_subject: MakeSubject
) -> None:
    prepare(tmp_path / "s", both(cohort))
    checksum = SliceStore(tmp_path / "s", "T1").checksum
    write_scan(cohort.subjects[1].mask, ball((24, 32, 28), (9, 15, 12), 5).astype(np.uint8))
    assert prepare(tmp_path / "s", both(cohort)) == ["T1 S2", "FLAIR S2"]
    assert SliceStore(tmp_path / "s", "T1").checksum != checksum
    larger = Cohort((*cohort.subjects, make_subject("S1-2", ("T1",))))
    assert prepare(tmp_path / "s", both(larger)) == ["T1 S1-2"]
    assert_store_is_that_of(larger, tmp_path / "s", "T1")
    smaller = Cohort(cohort.subjects[:1])
    assert prepare(tmp_path / "s", both(smaller)) == []
    assert_store_is_that_of(smaller, tmp_path / "s", "T1")
    assert len(files_in(tmp_path / "s")) == 2 + 2


def test_the_same_slices_have_one_checksum_wherever_and_in_whatever_order_they_are_made(
    tmp_path: Path, cohort: Cohort
) -> None:
    prepare(tmp_path / "a", both(cohort))
    with pytest.raises(Interruption):
        prepare(tmp_path / "b", both(cohort), stop_after=1)
    prepare(tmp_path / "b", {"T1": tuple(reversed(slice_sources(cohort, "T1")))})
    stores = [SliceStore(tmp_path / where, "T1").checksum for where in "ab"]
    assert stores[0] == stores[1] != SliceStore(tmp_path / "a", "FLAIR").checksum


def test_subjects_without_masks_are_another_store(tmp_path: Path, cohort: Cohort) -> None:
    prepare(tmp_path / "s", both(cohort))
    bare = {"T1": slice_sources(cohort, "T1", masks=False)}
    assert len(prepare(tmp_path / "s", bare)) == 3
    store = SliceStore(tmp_path / "s", "T1")
    assert not any(row.annotated for row in store.rows.values())
    assert not any(slices.masks.any() for slices in store.load(store.ids))


def test_a_file_that_was_cut_is_made_again(tmp_path: Path, cohort: Cohort) -> None:
    prepare(tmp_path / "s", both(cohort))
    (file,) = (tmp_path / "s" / "T1").glob("S2-*.npz")
    os.truncate(file, file.stat().st_size // 2)
    assert prepare(tmp_path / "s", both(cohort)) == ["T1 S2"]
    assert_store_is_that_of(cohort, tmp_path / "s", "T1")


def test_missing_subjects_are_reported_if_there_is_no_other_error(
    tmp_path: Path, cohort: Cohort
) -> None:
    plan = plan_slice_store(tmp_path / "s", both(cohort), RECIPE)
    with pytest.raises(MgmtError, match="subjects are missing in T1, FLAIR"), SliceWriter(plan):
        pass


def test_a_plan_is_refused_when_files_changed_after_it(tmp_path: Path, cohort: Cohort) -> None:
    plan = plan_slice_store(tmp_path / "s", both(cohort), RECIPE)
    os.utime(cohort.subjects[0].mask, (1, 1))
    with pytest.raises(MgmtError, match="changed since"), SliceWriter(plan):
        pass


def test_two_preparations_do_not_meet(tmp_path: Path, cohort: Cohort) -> None:
    plan = plan_slice_store(tmp_path / "s", both(cohort), RECIPE)
    (tmp_path / "s").mkdir()
    with (
        folder_lock(tmp_path / "s" / "preparing.lock"),
        pytest.raises(FolderLocked),
        SliceWriter(plan),
    ):
        pass


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path, cohort: Cohort) -> None:
    (tmp_path / "file").write_text("")
    plan = plan_slice_store(tmp_path / "file" / "s", both(cohort), RECIPE)
    with pytest.raises(MgmtError, match="cannot be written"), SliceWriter(plan):
        pass


def test_a_modality_without_subjects_and_a_missing_scan_are_reported(
    tmp_path: Path, cohort: Cohort
) -> None:
    with pytest.raises(MgmtError, match="no subject has T2"):
        plan_slice_store(tmp_path / "s", {"T2": slice_sources(cohort, "T2")}, RECIPE)
    cohort.subjects[2].scans["T1"].unlink()
    with pytest.raises(MgmtError, match="subject S3: T1"):
        plan_slice_store(tmp_path / "s", both(cohort), RECIPE)


def test_a_preparation_that_is_killed_leaves_whole_files_and_the_next_one_finishes(
    tmp_path: Path, cohort: Cohort
) -> None:
    sources = slice_sources(cohort, "T1")
    files = [(s.id, str(s.image), str(s.mask)) for s in sources]
    script = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        import numpy as np
        from mgmt_ray.preprocess.slice_store_writer import plan_slice_store
        from mgmt_ray.preprocess.slice_store_writer import SliceWriter
        from mgmt_ray.preprocess.recipe import SliceRecipe
        from mgmt_ray.preprocess.axial_slices import SliceSource, make_slices

        recipe = SliceRecipe(**{RECIPE.model_dump()!r})
        sources = [SliceSource(i, Path(a), Path(b)) for i, a, b in {files!r}]
        plan = plan_slice_store(Path({str(tmp_path / "s")!r}), {{"T1": sources}}, recipe)
        with SliceWriter(plan) as writer:
            writer.put(plan.tasks[0], make_slices(plan.tasks[0].source, recipe))
            save = np.savez
            def half(file, **arrays):
                save(file, **arrays)
                file.truncate(1000)
                os.kill(os.getpid(), signal.SIGKILL)
            np.savez = half
            writer.put(plan.tasks[1], make_slices(plan.tasks[1].source, recipe))
    """)
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with pytest.raises(MgmtError, match="no slices yet"):
        SliceStore(tmp_path / "s", "T1")
    assert prepare(tmp_path / "s", {"T1": slice_sources(cohort, "T1")}) == ["T1 S2", "T1 S3"]
    assert_store_is_that_of(cohort, tmp_path / "s", "T1")
    assert len(files_in(tmp_path / "s")) == 3 + 1
