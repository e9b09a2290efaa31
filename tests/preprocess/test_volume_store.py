from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import AS_STORED, ScanConventions, Subject
from mgmt_ray.data.bring_up_to_date import UnusableFiles
from mgmt_ray.data.prepare_stores import prepare_volumes
from mgmt_ray.preprocess import volume_store
from mgmt_ray.preprocess.axial_slices import slice_sources
from mgmt_ray.preprocess.recipe import RecipeConfig, SliceRecipe, versions
from mgmt_ray.preprocess.slice_store import wanted_slices
from mgmt_ray.preprocess.volume_store import VolumeStore, wanted_volumes
from mgmt_ray.preprocess.volumes import make_versions, make_volumes

MakeSubject = Callable[..., Subject]
Work = dict[tuple[str, str], tuple[str, ...]]
Prepare = Callable[..., Work]
BOTH = ("T1", "FLAIR")


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Prepares; returns the versions that were made from scans, by subject and modality."""
    work: Work = {}

    def listed(
        subject: Subject, wanted: Mapping[str, Sequence[str]], recipe: RecipeConfig
    ) -> object:
        work.update({(subject.id, modality): (*names,) for modality, names in wanted.items()})
        return make_volumes(subject, wanted, recipe)

    monkeypatch.setattr(volume_store, "make_volumes", listed)

    def run(folder: Path, cohort: Cohort, recipe: RecipeConfig) -> Work:
        work.clear()
        prepare_volumes(cohort, BOTH, recipe, folder, Resources("in-process"), lambda *_: None)
        return dict(work)

    return run


def assert_store_is_that_of(cohort: Cohort, folder: Path, recipe: RecipeConfig) -> None:
    names = versions(recipe)
    for modality in BOTH:
        store = VolumeStore(folder, modality)
        assert store.versions == names and store.volume_shape == recipe.shape
        assert store.ids == tuple(s.id for s in cohort.subjects if modality in s.scans)
        for subject in cohort.subjects:
            if modality in subject.scans:
                made, drawn = make_versions(subject, modality, recipe, names)
                np.testing.assert_array_equal(store.load([subject.id], names)[0], made)
                assert [store.parameters(subject.id, name) for name in names] == drawn
        num_files = len([*(folder / modality).iterdir()])
        assert num_files == len(store.ids)


def test_everything_is_made_once(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig, prepare: Prepare
) -> None:
    names = versions(recipe)
    assert prepare(tmp_path / "v", cohort, recipe) == {
        ("S1", "T1"): names,
        ("S1", "FLAIR"): names,
        ("S2", "T1"): names,
        ("S2", "FLAIR"): names,
        ("S3", "T1"): names,
    }
    assert_store_is_that_of(cohort, tmp_path / "v", recipe)
    assert prepare(tmp_path / "v", cohort, recipe) == {}


def test_volumes_come_in_the_order_asked_for(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig, prepare: Prepare
) -> None:
    prepare(tmp_path, cohort, recipe)
    store = VolumeStore(tmp_path, "T1")
    whole = store.load(store.ids, store.versions)
    assert whole.shape == (3, 5, 10, 12, 14) and whole.dtype == np.float16
    np.testing.assert_array_equal(
        store.load(["S3", "S1"], ["noise", "original"]), whole[[2, 0]][:, [3, 0]]
    )
    rows = np.empty((3, 10, 12, 14), np.float16)
    store.read([("S2", "deform"), ("S2", "flip"), ("S1", "original")], rows)
    np.testing.assert_array_equal(rows[2], whole[0, 0])
    np.testing.assert_array_equal(rows[:2], store.load(["S2"], ["deform", "flip"])[0])
    with pytest.raises(MgmtError, match=r"no subject S7, S9 among its 3 \(S1, S2, S3\)"):
        store.load(["S1", "S7", "S9"], ["original"])
    with pytest.raises(MgmtError, match="no version flip-2 among original, flip"):
        store.load(["S1"], ["original", "flip-2"])


def test_the_checksum_is_of_the_voxels_and_not_of_time_or_place(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig, prepare: Prepare
) -> None:
    prepare(tmp_path / "v", cohort, recipe)
    checksum = VolumeStore(tmp_path / "v", "T1").checksum
    copy = shutil.copytree(tmp_path / "v", tmp_path / "copy")
    for subject in cohort.subjects:
        os.utime(subject.required_mask, ns=(1, 1))
    prepare(copy, cohort, recipe)
    assert VolumeStore(copy, "T1").checksum == checksum
    prepare(copy, cohort, recipe.model_copy(update={"seed": 1}))
    assert VolumeStore(copy, "T1").checksum != checksum


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
    prepare: Prepare,
    change: dict[str, object],
    expected: set[str],
) -> None:
    changed = RecipeConfig(**{**recipe.model_dump(), **change})
    prepare(tmp_path / "anew", cohort, changed)
    prepare(tmp_path / "v", cohort, recipe)
    work = prepare(tmp_path / "v", cohort, changed)
    assert {name for names in work.values() for name in names} == expected
    assert len(work) == (5 if expected else 0)
    assert_store_is_that_of(cohort, tmp_path / "v", changed)
    for path in (tmp_path / "anew").rglob("*.*"):
        same = tmp_path / "v" / path.relative_to(tmp_path / "anew")
        assert same.read_bytes() == path.read_bytes()


def test_a_changed_scan_concerns_its_subject_and_modality_only(
    tmp_path: Path,
    cohort: Cohort,
    recipe: RecipeConfig,
    make_subject: MakeSubject,
    prepare: Prepare,
) -> None:
    prepare(tmp_path, cohort, recipe)
    scan = np.random.default_rng(5).integers(1, 99, (24, 32, 28)).astype(np.int16)
    subject = cohort.subjects[1]
    mask = subject.required_mask.stat()
    make_subject("S2", ("T1",), scan=scan)
    os.utime(subject.required_mask, ns=(mask.st_atime_ns, mask.st_mtime_ns))
    assert prepare(tmp_path, cohort, recipe) == {("S2", "T1"): versions(recipe)}
    assert_store_is_that_of(cohort, tmp_path, recipe)
    os.utime(subject.required_mask, ns=(1, 1))
    assert {*prepare(tmp_path, cohort, recipe)} == {("S2", "T1"), ("S2", "FLAIR")}


def test_a_tumour_that_was_allowed_to_be_clipped_is_not_kept_once_it_is_not(
    tmp_path: Path, recipe: RecipeConfig, make_subject: MakeSubject, prepare: Prepare
) -> None:
    mask = np.zeros((24, 32, 28))
    mask[10:14, 10:14, 24:28] = 1
    cohort = Cohort((make_subject("S1", BOTH), make_subject("S2", BOTH, mask=mask)))
    prepare(tmp_path, cohort, recipe.model_copy(update={"allow_clipping": True}))
    with pytest.raises(UnusableFiles, match=r"subject S2: .* outside the window") as error:
        prepare(tmp_path, cohort, recipe)
    assert {*error.value.faults} == {"S2"}


def test_a_damaged_volume_is_not_copied_into_a_new_artefact(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig, prepare: Prepare
) -> None:
    prepare(tmp_path, cohort, recipe)
    (path,) = (tmp_path / "T1").glob("S3-*")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(MgmtError, match=f"{path.name}: the data of S3 are not what was written"):
        VolumeStore(tmp_path, "T1").load(["S3"], ["rotate"])
    changed = recipe.model_copy(update={"noise_std": 0.3})
    with pytest.raises(UnusableFiles, match="the data of S3 are not what was written"):
        prepare(tmp_path, cohort, changed)
    path.unlink()
    assert prepare(tmp_path, cohort, changed) == {("S3", "T1"): versions(recipe)}
    assert_store_is_that_of(cohort, tmp_path, changed)


def test_missing_modalities_and_files_are_named(
    tmp_path: Path, cohort: Cohort, recipe: RecipeConfig, prepare: Prepare
) -> None:
    with pytest.raises(MgmtError, match="no subject has FLAIR"):
        prepare(tmp_path, Cohort(cohort.subjects[2:]), recipe)
    cohort.subjects[1].scans["FLAIR"].unlink()
    with pytest.raises(MgmtError, match=r"subject S2: FLAIR .*FLAIR.nii.gz cannot be read"):
        prepare(tmp_path, cohort, recipe)


def test_other_conventions_of_the_files_are_prepared_anew(
    cohort: Cohort, recipe: RecipeConfig, tmp_path: Path
) -> None:
    slices = SliceRecipe(shape=(18, 16))
    keys = set()
    for conventions in (AS_STORED, ScanConventions("qform"), ScanConventions(background=5.0)):
        other = Cohort(tuple(replace(s, conventions=conventions) for s in cohort.subjects))
        keys |= {w.key for w in wanted_volumes(tmp_path, other, "FLAIR", recipe)}
        keys |= {w.key for w in wanted_slices("FLAIR", slice_sources(other, "FLAIR"), slices)}
    assert len(keys) == 3 * 2 * 2
