from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.preprocess.recipe import RecipeConfig, versions
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.preprocess.volume_store_plan import plan_store
from mgmt_ray.preprocess.volume_store_writer import StoreWriter
from mgmt_ray.preprocess.volumes import make_volumes


@pytest.fixture
def folder(tmp_path: Path, cohort: Cohort, recipe: RecipeConfig) -> Path:
    """A store of T1 for three subjects."""
    plan = plan_store(tmp_path / "volumes", cohort, ("T1",), recipe)
    with StoreWriter(plan) as writer:
        for task in plan.tasks:
            writer.put(task.subject.id, make_volumes(task.subject, task.wanted, recipe))
    return plan.folder


def test_load_gives_subjects_and_versions_in_the_order_asked_for(folder: Path) -> None:
    store = VolumeStore(folder, "T1")
    whole = np.load(folder / "T1.npy")
    assert whole.shape == (3, 5, 10, 12, 14) and whole.dtype == np.float16
    loaded = store.load(["S3", "S1"], ["noise", "original"])
    np.testing.assert_array_equal(loaded, whole[[2, 0]][:, [3, 0]])
    loaded[:] = 0  # a copy: the file is not touched
    store.verify()


def test_the_array_is_mapped_and_not_read_when_opened(folder: Path) -> None:
    store = VolumeStore(folder, "T1")
    assert isinstance(store._array, np.memmap)


def test_missing_subjects_and_versions_are_named(folder: Path) -> None:
    store = VolumeStore(folder, "T1")
    with pytest.raises(MgmtError, match=r"no subject S7, S9 among its 3 \(S1, S2, S3\)"):
        store.load(["S1", "S7", "S9"], ["original"])
    with pytest.raises(MgmtError, match="no version flip-2 among its 5"):
        store.load(["S1"], ["original", "flip-2"])


def test_the_error_for_a_missing_store_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(MgmtError, match=r"no volumes yet. Run `mgmt-ray prepare"):
        VolumeStore(tmp_path, "T1")


def test_the_checksum_is_of_the_voxels_and_not_of_time_or_place(
    folder: Path, tmp_path: Path, cohort: Cohort, recipe: RecipeConfig
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert VolumeStore(copy, "T1").checksum == VolumeStore(folder, "T1").checksum
    other = recipe.model_copy(update={"seed": 1})
    plan = plan_store(copy, cohort, ("T1",), other)
    with StoreWriter(plan) as writer:
        for task in plan.tasks:
            writer.put(task.subject.id, make_volumes(task.subject, task.wanted, other))
    assert VolumeStore(copy, "T1").checksum != VolumeStore(folder, "T1").checksum


def test_one_changed_bit_is_found_and_its_subject_named(folder: Path) -> None:
    with (folder / "T1.npy").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    store = VolumeStore(folder, "T1")
    with pytest.raises(MgmtError, match="the volumes of S3 are not what was written"):
        store.verify()


@pytest.mark.parametrize("change", [-2, 2])
def test_an_array_of_another_size_is_refused(folder: Path, change: int) -> None:
    data = (folder / "T1.npy").read_bytes()
    (folder / "T1.npy").write_bytes(data[:change] if change < 0 else data + b"00")
    with pytest.raises(MgmtError, match=f"{len(data) + change} bytes, but its index says"):
        VolumeStore(folder, "T1")


def test_an_array_of_another_shape_and_equal_size_is_refused(folder: Path) -> None:
    whole = np.load(folder / "T1.npy")
    np.save(folder / "T1.npy", whole.transpose(0, 1, 2, 4, 3).copy())
    with pytest.raises(MgmtError, match="cut or replaced"):
        VolumeStore(folder, "T1")


def test_a_file_that_is_not_an_index_is_refused(folder: Path) -> None:
    (folder / "T1.json").write_text("{")
    with pytest.raises(MgmtError, match=r"T1.json: not an index of volumes"):
        VolumeStore(folder, "T1")


def test_the_index_describes_the_array(folder: Path, recipe: RecipeConfig) -> None:
    index = json.loads((folder / "T1.json").read_text(encoding="utf-8"))
    assert index["axes"] == "subject, version, depth, height, width"
    assert index["shape"] == [3, 5, 10, 12, 14] and index["dtype"] == "float16"
    assert index["bytes"] == (folder / "T1.npy").stat().st_size
    assert RecipeConfig(**index["recipe"]) == recipe
    first = index["subjects"][0]
    assert first["id"] == "S1" and len(first["keys"]) == len(versions(recipe))
    assert first["image"]["name"] == "scans/S1/T1.nii.gz" and first["mask"]["size"] > 0
    assert -180 <= first["parameters"][2]["angle_degrees"] <= 180
