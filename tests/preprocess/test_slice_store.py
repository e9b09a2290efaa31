from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.scan import read_scan
from mgmt_ray.data.bring_up_to_date import UnusableFiles
from mgmt_ray.data.prepare_stores import prepare_slices
from mgmt_ray.preprocess.axial_slices import make_slices, slice_sources
from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.study.folder import StudyFolder
from tests.preprocess.conftest import ball, write_scan

RECIPE = SliceRecipe(shape=(18, 16), least_tumour_voxels=3, least_brain_voxels=20)
COARSE = RECIPE.model_copy(update={"shrink": 3})


def prepare(
    folder: Path,
    cohort: Cohort,
    recipe: SliceRecipe = RECIPE,
    inputs: tuple[tuple[str, ...], ...] = (("T1",), ("FLAIR",)),
) -> int:
    """Prepare the slices of a study; return how many files are new."""
    study, resources = StudyFolder(folder), Resources("in-process")
    before = {*study.slices.rglob("*.safetensors")}
    prepare_slices("x", cohort, inputs, recipe, study, resources, verify=True)
    return len({*study.slices.rglob("*.safetensors")} - before)


def assert_store_is_that_of(
    cohort: Cohort, folder: Path, modality: str, recipe: SliceRecipe = RECIPE
) -> None:
    store = SliceStore(folder / "slices", modality)
    assert store.recipe == recipe
    sources = slice_sources(cohort, modality)
    assert store.ids == tuple(source.id for source in sources)
    for loaded, source in zip(store.load(store.ids), sources, strict=True):
        made = make_slices(source, recipe)
        np.testing.assert_array_equal(loaded.images, made.images)
        np.testing.assert_array_equal(loaded.masks, made.masks)
        np.testing.assert_array_equal(loaded.depths, made.depths)
        np.testing.assert_array_equal(loaded.of_brain, made.of_brain)
        assert source.mask is not None and loaded.scan_mask is not None
        np.testing.assert_array_equal(loaded.scan_mask, read_scan(source.mask).voxels > 0)
        assert (loaded.id, loaded.frame, loaded.annotated) == (made.id, made.frame, made.annotated)
        assert loaded.masks.any() and loaded.frame == store.rows[source.id].frame


def test_what_is_prepared_is_read_back_and_not_made_again(tmp_path: Path, cohort: Cohort) -> None:
    assert prepare(tmp_path, cohort) == 5
    assert_store_is_that_of(cohort, tmp_path, "T1")
    assert_store_is_that_of(cohort, tmp_path, "FLAIR")
    assert prepare(tmp_path, cohort) == 0
    assert prepare(tmp_path, cohort, COARSE) == 5
    assert_store_is_that_of(cohort, tmp_path, "T1", COARSE)


def test_modalities_together_are_a_part_of_their_own(tmp_path: Path, cohort: Cohort) -> None:
    both = ("T1", "FLAIR")
    assert prepare(tmp_path, cohort, inputs=(("T1",), both)) == 3 + 2
    store = SliceStore(tmp_path / "slices", "T1+FLAIR")
    for loaded, source in zip(store.load(store.ids), slice_sources(cohort, *both), strict=True):
        made = make_slices(source, RECIPE)
        np.testing.assert_array_equal(loaded.images, made.images)
        assert loaded.images.shape[1:] == (2, *RECIPE.shape)
    scan = cohort.subjects[0].scans["FLAIR"]
    write_scan(scan, 2 * read_scan(scan).voxels)
    assert prepare(tmp_path, cohort, inputs=(("T1",), both)) == 1


def test_subjects_come_in_the_order_asked_for(tmp_path: Path, cohort: Cohort) -> None:
    prepare(tmp_path, cohort)
    store = SliceStore(tmp_path / "slices", "T1")
    assert [slices.id for slices in store.load(["S3", "S1"])] == ["S3", "S1"]
    assert store.load([]) == ()
    with pytest.raises(MgmtError, match=r"no subject S9 among its 3 \(S1, S2, S3\)"):
        store.load(["S1", "S9"])


def test_only_what_changed_is_made_again(tmp_path: Path, cohort: Cohort) -> None:
    prepare(tmp_path, cohort)
    checksum = SliceStore(tmp_path / "slices", "T1").checksum
    mask = ball((24, 32, 28), (9, 15, 12), 5)
    write_scan(cohort.subjects[1].required_mask, mask.astype(np.uint8))
    assert prepare(tmp_path, cohort) == 2
    assert_store_is_that_of(cohort, tmp_path, "T1")
    assert SliceStore(tmp_path / "slices", "T1").checksum != checksum


def test_the_same_slices_have_one_checksum_wherever_they_are_made(
    tmp_path: Path, cohort: Cohort
) -> None:
    prepare(tmp_path / "a", cohort)
    prepare(tmp_path / "b", cohort, inputs=(("T1",),))
    stores = [SliceStore(tmp_path / where / "slices", "T1").checksum for where in "ab"]
    assert stores[0] == stores[1] != SliceStore(tmp_path / "a" / "slices", "FLAIR").checksum


def test_slices_without_given_masks_are_other_slices(tmp_path: Path, cohort: Cohort) -> None:
    prepare(tmp_path, cohort)
    bare = Cohort(tuple(replace(s, mask_kind="predicted") for s in cohort.subjects))
    assert prepare(tmp_path, bare) == 5
    store = SliceStore(tmp_path / "slices", "T1")
    assert not any(row.annotated for row in store.rows.values())
    assert not any(s.masks.any() or s.scan_mask is not None for s in store.load(store.ids))


def test_faulty_scans_are_named(tmp_path: Path, cohort: Cohort) -> None:
    scan = cohort.subjects[1].scans["FLAIR"]
    scan.write_bytes(scan.read_bytes()[:-50])
    with pytest.raises(UnusableFiles, match=r"^subject S2: .*FLAIR.nii.gz"):
        prepare(tmp_path, cohort)
    assert_store_is_that_of(cohort, tmp_path, "T1")
    scan.unlink()
    with pytest.raises(MgmtError, match=r"subject S2: FLAIR .* cannot be read"):
        prepare(tmp_path, cohort)
    with pytest.raises(MgmtError, match="no subject has T2"):
        prepare(tmp_path, cohort, inputs=(("T2",),))
