from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mgmt_ray.audit.altered_data import darken_slabs, noise_like, write_changed_volumes
from mgmt_ray.audit.audited_study import Check, permute_labels
from mgmt_ray.audit.shortcut_check import strongest_voxels
from mgmt_ray.audit.training_checks import remedy_for_permuted
from mgmt_ray.base import stream
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.cohort.upenn import UpennConfig, read_upenn
from mgmt_ray.data.prepare_stores import prepare_volumes
from mgmt_ray.preprocess.artefact_store import ArtefactPart
from mgmt_ray.preprocess.recipe import RecipeConfig
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.statistics.leak_detection import associate_voxels
from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize


def test_labels_are_dealt_to_persons_and_their_numbers_stay() -> None:
    subjects = [
        Subject(f"S{i:02}", int(i < 8), {"PH": Path("x")}, Path("m"), score=i / 20)
        for i in range(20)
    ]
    subjects += [replace(subjects[0], id="S00_again", person="S00")]
    cohort = Cohort(tuple(subjects))
    permuted = permute_labels(cohort, stream(0, "audit", "permuted labels"))
    known = {s.id: (s.label, s.score) for s in permuted.subjects}
    assert known["S00"] == known["S00_again"]
    once = [known[f"S{i:02}"] for i in range(20)]
    assert Counter(once) == Counter((s.label, s.score) for s in subjects[:20])
    assert once != [(s.label, s.score) for s in subjects[:20]]
    again = permute_labels(cohort, stream(0, "audit", "permuted labels"))
    assert again == permuted != permute_labels(cohort, stream(1, "audit", "permuted labels"))


def test_slabs_darken_every_other_pair_of_planes_and_leave_the_background() -> None:
    volumes = np.full((2, 6, 3, 3), 0.8, np.float16)
    volumes[:, :, 0] = 0
    slabs = darken_slabs(volumes)
    assert slabs.dtype == np.float16
    assert not slabs[:, :, 0].any()
    assert (slabs[:, [0, 1, 4, 5]] == volumes[:, [0, 1, 4, 5]]).all()
    assert slabs[:, 2:4, 1:] == pytest.approx(0.2, abs=1e-3)  # float16's step at 0.2


def test_a_changed_copy_is_a_sound_store_and_its_source_stays(tmp_path: Path) -> None:
    config = SyntheticConfig(
        subjects=4, grid=(24, 28, 28), modalities=("FLAIR",), without_dti=0, without_dsc=0
    )
    synthesize(config, tmp_path / "cohort")
    reading = read_upenn(
        UpennConfig(reader="upenn", root=tmp_path / "cohort", modalities=("FLAIR",))
    )
    recipe = RecipeConfig(window=((2, 22), (2, 26), (2, 26)), shape=(10, 12, 12), rounds=0)
    folder, target = tmp_path / "volumes", tmp_path / "copy"
    cohort = Cohort(reading.subjects)
    resources = Resources("in-process")
    prepare_volumes(cohort, ("FLAIR",), recipe, folder, resources, lambda done, total: None)
    source = VolumeStore(folder, "FLAIR")
    chosen = source.ids[1]

    def change(subject: str, volumes: np.ndarray) -> np.ndarray:
        return noise_like(volumes, stream(0, subject)) if subject == chosen else volumes

    write_changed_volumes(folder, "FLAIR", target, change)
    copy = VolumeStore(target, "FLAIR")
    for store_folder in (folder, target):
        ArtefactPart(store_folder, "FLAIR").verify()
    assert copy.ids == source.ids and copy.checksum != source.checksum
    before, after = (store.load(source.ids, ["original"]) for store in (source, copy))
    same = [(b == a).all() for b, a in zip(before, after, strict=True)]
    assert same == [subject != chosen for subject in source.ids]
    assert after[1].min() > 0 and after[1].max() <= 1
    written = {path: path.stat().st_ino for path in target.rglob("*")}
    write_changed_volumes(folder, "FLAIR", target, change)
    assert {path: path.stat().st_ino for path in target.rglob("*")} == written


def test_the_maximum_by_chance_is_over_the_voxels_of_all_modalities() -> None:
    labels = (np.arange(25) % 5 < 2).astype(np.int64)
    random = np.random.default_rng(0)
    permuted = np.stack([random.permutation(labels) for _ in range(15)])
    volumes = {m: random.random((25, 2, 3, 4)).astype(np.float16) for m in ("PH", "FA")}
    associations = [(m, associate_voxels(of, labels, permuted, 5)) for m, of in volumes.items()]

    def distances(row: np.ndarray, of: np.ndarray) -> np.ndarray:
        areas = [roc_auc_score(row, voxel) for voxel in of.reshape(25, -1).T]
        return np.abs(np.array(areas) - 0.5)

    chance = [max(distances(row, of).max() for of in volumes.values()) for row in permuted]
    found = strongest_voxels(associations)
    assert [s.description.split()[0] for s in found] == ["PH", "FA"]
    for shortcut, of in zip(found, volumes.values(), strict=True):
        best = distances(labels, of).max()
        assert abs(shortcut.auc - 0.5) == pytest.approx(best)
        reached = sum(c >= best - 1e-6 for c in chance)
        assert shortcut.p == pytest.approx((1 + reached) / 16)
        assert 0.1 < shortcut.p < 1  # neither all nor none: one modality's maximum would differ
    alone = [strongest_voxels([association])[0].p for association in associations]
    assert alone != [s.p for s in found]


def test_labels_predicted_the_wrong_way_round_are_not_called_leakage() -> None:
    assert "test subjects are used in training" in remedy_for_permuted(0.8)
    below = remedy_for_permuted(0.2)
    assert "0.20, below it: no leakage" in below and "the wrong way round" in below
    assert "used in training" not in below


def test_a_passed_check_prints_only_what_was_found() -> None:
    check = Check("duplicate persons", "passed", "no person twice", "none")
    assert str(check) == "passed    duplicate persons: none."
    failed = replace(check, outcome="failed", found="two", remedy="Look at both.")
    assert str(failed) == (
        "failed    duplicate persons: two. Expected: no person twice. Look at both."
    )
