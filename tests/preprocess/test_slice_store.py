from __future__ import annotations

import json
from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError, fingerprint, stream
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.preprocess.axial_slices import make_slices, slice_sources
from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.slice_index import (
    SliceIndex,
    read_slice_index,
    slice_index_path,
    slice_path,
)
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.preprocess.slice_store_writer import SliceWriter, plan_slice_store

RECIPE = SliceRecipe(shape=(18, 16), least_tumour_voxels=3, least_brain_voxels=20)


@pytest.fixture
def store(tmp_path: Path, cohort: Cohort) -> SliceStore:
    plan = plan_slice_store(tmp_path / "s", {"T1": slice_sources(cohort, "T1")}, RECIPE)
    with SliceWriter(plan) as writer:
        for task in plan.tasks:
            writer.put(task, make_slices(task.source, RECIPE))
    return SliceStore(tmp_path / "s", "T1")


def file_of(store: SliceStore, folder: Path, subject: str) -> Path:
    return slice_path(folder, "T1", subject, store.rows[subject].key)


def test_subjects_come_in_the_order_asked_for(store: SliceStore) -> None:
    assert [slices.id for slices in store.load(["S3", "S1"])] == ["S3", "S1"]
    assert store.load([]) == ()


def test_a_missing_subject_is_reported_with_those_in_the_store(store: SliceStore) -> None:
    with pytest.raises(MgmtError, match=r"no subject S9 among its 3 \(S1, S2, S3\)"):
        store.load(["S1", "S9"])


def test_the_index_holds_the_recipe_and_the_number_of_slices(
    store: SliceStore, tmp_path: Path
) -> None:
    content = json.loads(slice_index_path(tmp_path / "s", "T1").read_text())
    assert content["num_slices"] == sum(len(slices.images) for slices in store.load(store.ids)) > 0
    assert content["recipe"] == RECIPE.model_dump(mode="json")
    assert content["recipe_fingerprint"] == fingerprint(RECIPE.model_dump(mode="json"))
    assert content["checksum"] == store.checksum
    index = read_slice_index(tmp_path / "s", "T1")
    assert index is not None and SliceIndex.from_json(index.to_json()) == index


def test_no_changed_byte_goes_unnoticed(store: SliceStore, tmp_path: Path) -> None:
    file = file_of(store, tmp_path / "s", "S2")
    whole = file.read_bytes()
    images = store.load(["S2"])[0].images.tobytes()
    draws = stream(0, "test damage")
    places = [*range(256), *range(len(whole) - 256, len(whole))]
    places += draws.integers(0, len(whole), 200).tolist()
    noticed = []
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(draws.integers(8))
        file.write_bytes(damaged)
        try:
            # a bit of a time stamp changes nothing that is read
            assert store.load(["S2"])[0].images.tobytes() == images
        except MgmtError as error:
            noticed.append(str(error))
    assert len(noticed) > 0.6 * len(places)
    assert all("slices of S2 are not what was written" in message for message in noticed)


def test_damaged_voxels_are_reported_with_their_subject(store: SliceStore, tmp_path: Path) -> None:
    file = file_of(store, tmp_path / "s", "S2")
    content = bytearray(file.read_bytes())
    content[3000] ^= 1
    file.write_bytes(content)
    with pytest.raises(MgmtError, match="S2"):
        store.verify()
    with pytest.raises(MgmtError, match="prepare"):
        store.load(["S1", "S2"])
    assert store.load(["S1", "S3"])


def test_a_subjects_file_in_the_place_of_anothers_is_noticed(
    store: SliceStore, tmp_path: Path
) -> None:
    first, second = (file_of(store, tmp_path / "s", subject) for subject in ("S1", "S2"))
    second.write_bytes(first.read_bytes())
    with pytest.raises(MgmtError, match="S2"):
        store.load(["S2"])


def test_a_missing_file_is_reported(store: SliceStore, tmp_path: Path) -> None:
    file_of(store, tmp_path / "s", "S2").unlink()
    with pytest.raises(MgmtError, match="S2"):
        store.load(["S2"])


def test_a_file_that_is_not_an_index_is_reported(store: SliceStore, tmp_path: Path) -> None:
    path = slice_index_path(tmp_path / "s", "T1")
    path.write_text("[]")
    with pytest.raises(MgmtError, match="not an index of slices"):
        SliceStore(tmp_path / "s", "T1")
    path.unlink()
    with pytest.raises(MgmtError, match="prepare"):
        SliceStore(tmp_path / "s", "T1")
