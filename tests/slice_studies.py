"""A small two-stage study on a synthetic cohort, finished once for all tests of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mgmt_ray.cluster.resources import Resources
from mgmt_ray.pipeline.stages import bring_up_to_date
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import load_study
from mgmt_ray.synthetic.generate import SyntheticConfig
from mgmt_ray.trials.context import StudyContext
from tests.layouts.cohorts import write_cohort

STUDY = {
    "name": "slices",
    "cohort": {"reader": "tcga", "rule": "stp27", "modalities": ["FLAIR"]},
    "slices": {
        "shape": [32, 32],
        "least_tumour_voxels": 8,
        "least_brain_voxels": 40,
        "most_slices": 2,
    },
    "split": {"test_fraction": 0.2, "folds": 2},
    "networks": {
        "chen": {
            "kind": "slices",
            "width": 8,
            "parts": 2,
            "segmentation": {"epochs": 2, "learning_rate": 0.002},
            "classification": {"epochs": 3, "learning_rate": 0.001, "stable_epochs": None},
        }
    },
}


@pytest.fixture(scope="session")
def cohort_root(made_once: Callable[..., Path]) -> Path:
    structural = ("T2", "FLAIR", "T1", "T1GD")
    config = SyntheticConfig(subjects=20, grid=(24, 64, 64), modalities=structural)
    return made_once("tcga", lambda root: write_cohort("tcga", config, root))


def make_job(cohort_root: Path, out: Path, **chen: object) -> StudyContext:
    network = {**STUDY["networks"]["chen"], **chen}
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(STUDY | {"networks": {"chen": network}}))
    study = load_study(path, cohort_root)
    return StudyContext(study, StudyFolder(out), Resources(backend="in-process"))


@pytest.fixture(scope="session")
def finished(cohort_root: Path, made_once: Callable[..., Path]) -> StudyContext:
    """A whole study; tests that change it take a copy."""
    folder = made_once(
        "slice_study", lambda folder: bring_up_to_date(make_job(cohort_root, folder / "study"))
    )
    return make_job(cohort_root, folder / "study")


@pytest.fixture
def copied(finished: StudyContext, tmp_path: Path) -> StudyContext:
    shutil.copytree(finished.folder.root, tmp_path / "copy")
    return replace(finished, folder=StudyFolder(tmp_path / "copy"))
