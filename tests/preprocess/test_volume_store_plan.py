from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.preprocess.recipe import RecipeConfig, versions
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.preprocess.volume_store_plan import StorePlan, plan_store
from mgmt_ray.preprocess.volume_store_writer import StoreWriter
from mgmt_ray.preprocess.volumes import make_versions, make_volumes

MakeSubject = Callable[..., Subject]
BOTH = ("T1", "FLAIR")


def prepare(folder: Path, cohort: Cohort, recipe: RecipeConfig) -> None:
    plan = plan_store(folder, cohort, BOTH, recipe)
    with StoreWriter(plan) as writer:
        for task in plan.tasks:
            writer.put(task.subject.id, make_volumes(task.subject, task.wanted, recipe))


def work(plan: StorePlan) -> dict[tuple[str, str], tuple[str, ...]]:
    """(subject, modality) to the versions that must be made."""
    return {
        (task.subject.id, modality): names
        for task in plan.tasks
        for modality, names in task.wanted.items()
    }


def assert_store_is_that_of(cohort: Cohort, folder: Path, recipe: RecipeConfig) -> None:
    names = versions(recipe)
    for modality in BOTH:
        store = VolumeStore(folder, modality)
        store.verify()
        assert store.versions == names
        assert store.ids == tuple(s.id for s in cohort.subjects if modality in s.scans)
        for subject in cohort.subjects:
            if modality in subject.scans:
                made, drawn = make_versions(subject, modality, recipe, names)
                np.testing.assert_array_equal(store.load([subject.id], names)[0], made)
                assert [store.parameters(subject.id, name) for name in names] == drawn


def test_an_empty_folder_needs_everything(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig
) -> None:
    names = versions(recipe)
    plan = plan_store(tmp_path / "volumes", cohort, BOTH, recipe)
    assert work(plan) == {
        ("S1", "T1"): names,
        ("S1", "FLAIR"): names,
        ("S2", "T1"): names,
        ("S2", "FLAIR"): names,
        ("S3", "T1"): names,
    }
    assert not (tmp_path / "volumes").exists()


def test_a_second_preparation_has_nothing_to_do_and_touches_nothing(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig
) -> None:
    prepare(tmp_path, cohort, recipe)
    assert_store_is_that_of(cohort, tmp_path, recipe)
    before = {path: path.stat() for path in tmp_path.glob("*.*")}
    assert {path.name for path in before} == {"T1.npy", "T1.json", "FLAIR.npy", "FLAIR.json"}
    plan = plan_store(tmp_path, cohort, BOTH, recipe)
    assert plan.arrays == () and plan.tasks == ()
    prepare(tmp_path, cohort, recipe)
    after = {path: path.stat() for path in tmp_path.glob("*.*")}
    assert {p: s.st_ino for p, s in after.items()} == {p: s.st_ino for p, s in before.items()}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"noise_std": 0.3}, {"noise"}),
        ({"deform_sigma_voxels": 0.5}, {"deform"}),
        ({"rounds": 2}, {"rotate-2", "noise-2", "deform-2"}),
        ({"rounds": 0}, set()),
        ({"allow_clipping": True}, set()),
        ({"window": ((2, 22), (4, 28), (0, 24))}, {*versions(RecipeConfig())}),
    ],
)
def test_a_changed_recipe_makes_only_what_depends_on_the_change(
    tmp_path: Path,
    cohort: Cohort,
    recipe: RecipeConfig,
    change: dict[str, object],
    expected: set[str],
) -> None:
    prepare(tmp_path, cohort, recipe)
    changed = RecipeConfig(**{**recipe.model_dump(), **change})
    plan = plan_store(tmp_path, cohort, BOTH, changed)
    assert {name for names in work(plan).values() for name in names} == expected
    assert len(work(plan)) == (5 if expected else 0)
    prepare(tmp_path, cohort, changed)
    assert_store_is_that_of(cohort, tmp_path, changed)


def test_a_changed_scan_concerns_its_subject_and_modality_only(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig, make_subject: MakeSubject
) -> None:
    prepare(tmp_path, cohort, recipe)
    checksum = VolumeStore(tmp_path, "FLAIR").checksum
    scan = np.random.default_rng(5).integers(1, 99, (24, 32, 28)).astype(np.int16)
    make_subject("S2", ("T1",), scan=scan)
    os.utime(cohort.subjects[1].mask, ns=(1, 1))
    prepare(tmp_path, cohort, recipe)
    os.utime(cohort.subjects[1].scans["T1"], ns=(2, 2))
    assert work(plan_store(tmp_path, cohort, BOTH, recipe)) == {("S2", "T1"): versions(recipe)}
    prepare(tmp_path, cohort, recipe)
    assert_store_is_that_of(cohort, tmp_path, recipe)
    assert VolumeStore(tmp_path, "FLAIR").checksum == checksum


def test_a_changed_mask_concerns_all_modalities_of_its_subject(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig
) -> None:
    prepare(tmp_path, cohort, recipe)
    os.utime(cohort.subjects[0].mask, ns=(1, 1))
    work_now = work(plan_store(tmp_path, cohort, BOTH, recipe))
    assert set(work_now) == {("S1", "T1"), ("S1", "FLAIR")}


def test_subjects_that_come_or_go_leave_the_others_untouched(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig, make_subject: MakeSubject
) -> None:
    prepare(tmp_path, cohort, recipe)
    others = Cohort((*cohort.subjects[1:], make_subject("S0", ("T1",))))
    plan = plan_store(tmp_path, others, BOTH, recipe)
    assert set(work(plan)) == {("S0", "T1")}
    prepare(tmp_path, others, recipe)
    assert_store_is_that_of(others, tmp_path, recipe)


def test_a_tumour_that_was_allowed_to_be_clipped_is_not_kept_once_it_is_not(
    tmp_path: Path, recipe: RecipeConfig, make_subject: MakeSubject
) -> None:
    mask = np.zeros((24, 32, 28))
    mask[10:14, 10:14, 24:28] = 1
    cohort = Cohort((make_subject("S1", BOTH), make_subject("S2", BOTH, mask=mask)))
    prepare(tmp_path, cohort, recipe.model_copy(update={"allow_clipping": True}))
    assert {subject for subject, _ in work(plan_store(tmp_path, cohort, BOTH, recipe))} == {"S2"}


def test_a_truncated_array_is_made_again(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig
) -> None:
    prepare(tmp_path, cohort, recipe)
    os.truncate(tmp_path / "T1.npy", 1000)
    assert {m for _, m in work(plan_store(tmp_path, cohort, BOTH, recipe))} == {"T1"}
    prepare(tmp_path, cohort, recipe)
    assert_store_is_that_of(cohort, tmp_path, recipe)


def test_missing_modalities_and_files_are_named(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig
) -> None:
    with pytest.raises(MgmtError, match="no subject has T2"):
        plan_store(tmp_path, cohort, ("T2",), recipe)
    cohort.subjects[1].scans["FLAIR"].unlink()
    with pytest.raises(MgmtError, match=r"subject S2: FLAIR .*FLAIR.nii.gz cannot be read"):
        plan_store(tmp_path, cohort, BOTH, recipe)
