from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from mgmt_ray.cluster.connection import connect_ray, ensure_connected
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.pipeline.demo import synthesize_with_weights
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import load_study
from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize
from mgmt_ray.training.pretrain import SourceTaskConfig
from mgmt_ray.trials.context import StudyContext
from tests.run_stages import evaluated, trained
from tests.slice_studies import cohort_root, copied, finished

__all__ = ["cohort_root", "copied", "finished"]  # fixtures


@dataclass(frozen=True)
class Data:
    """A small synthetic cohort and its weights."""

    root: Path
    checkpoint: Path


@pytest.fixture(scope="session")
def data(made_once: Callable[..., Path]) -> Data:
    cohort = SyntheticConfig(
        subjects=30,
        grid=(24, 28, 28),
        modalities=("PH", "FLAIR"),
        signal={"PH": 3.0},
        without_dti=0.0,
        without_dsc=0.1,
    )
    weights = SourceTaskConfig(depth=10, width=4, steps=4, shape=(10, 12, 12))
    root = made_once("data", lambda root: synthesize_with_weights(cohort, weights, root))
    (checkpoint,) = root.glob("*.pth")
    return Data(root, checkpoint)


@pytest.fixture(scope="session")
def write_small_study() -> Callable[..., Path]:
    """Write a tiny study's YAML to a path; keywords replace whole sections."""

    def write(path: Path, **sections: object) -> Path:
        small = {"depth": 10, "width": 4, "agent_width": 2}
        content = {
            "name": "small",
            "cohort": {"reader": "upenn", "modalities": ["PH", "FLAIR"]},
            "recipe": {
                "window": [[2, 22], [2, 26], [2, 26]],
                "shape": [10, 12, 12],
                "deform_sigma_voxels": 0.5,
                "noise_std": 0.02,
            },
            "split": {"folds": 2},
            "networks": {
                "spottune": {"kind": "spottune", **small},
                "random": {"kind": "random", **small},
                "transfer": {"kind": "transfer", **small},
            },
            "training": {
                "epochs": 2,
                "batch_size": 12,
                "learning_rate": 0.005,
                "temperature": 1.0,
                "validation_draws": 4,
            },
            "evaluation": {"draws": 8},
        }
        path.write_text(yaml.safe_dump(content | sections))
        return path

    return write


@pytest.fixture
def write_study(write_small_study: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """The same, for one test."""
    return lambda **sections: write_small_study(tmp_path / "study.yaml", **sections)


@pytest.fixture
def make_job(
    data: Data, write_study: Callable[..., Path], tmp_path: Path
) -> Callable[..., StudyContext]:
    """A job on the small cohort; keywords replace sections of the study."""

    def make(backend: str = "in-process", out: str = "out", **sections: object) -> StudyContext:
        study = load_study(write_study(**sections), data.root, data.checkpoint)
        resources = Resources(backend=backend)
        return StudyContext(study, StudyFolder(tmp_path / out), resources)

    return make


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    with connect_ray("local", cpus=2):
        ensure_connected()  # else small work would stay in this process
        yield


MASKS = ("given", "predicted")


@dataclass(frozen=True)
class Outlined:
    """A small cohort with masks, and a finished slices study of it."""

    root: Path
    slices: Path


@pytest.fixture(scope="session")
def outlined(made_once: Callable[..., Path]) -> Outlined:
    """Two segmentations, one per fold, that find tumours roughly; a test subject has both."""
    folder = made_once("outlined", _run_segmentation_study)
    return Outlined(folder / "data", folder / "slices")


def _run_segmentation_study(folder: Path) -> None:
    nobody_else = {"follow_ups": 0, "indeterminate": 0, "not_available": 0, "without_scans": 0}
    cohort = SyntheticConfig(subjects=14, grid=(24, 48, 48), modalities=("FLAIR",), **nobody_else)
    synthesize(cohort, folder / "data")
    study = {
        "name": "slices",
        "cohort": {"reader": "upenn", "modalities": ["FLAIR"]},
        "slices": {
            "shape": [32, 32],
            "least_tumour_voxels": 4,
            "least_brain_voxels": 20,
            "most_slices": 4,
        },
        "split": {"test_fraction": 0.3, "folds": 2},
        "networks": {
            "chen": {
                "kind": "slices",
                "width": 8,
                "parts": 2,
                "segmentation": {"epochs": 4, "learning_rate": 0.001},
                "classification": {"epochs": 1, "stable_epochs": None},
            }
        },
    }
    (folder / "slices.yaml").write_text(yaml.safe_dump(study))
    context = StudyContext(
        load_study(folder / "slices.yaml", folder / "data"),
        StudyFolder(folder / "slices"),
        Resources(backend="in-process"),
    )
    trained(context)


@pytest.fixture(scope="session")
def joined_job(outlined: Outlined) -> Callable[..., StudyContext]:
    """A 3-D study on the same persons, with its folder; keywords replace keys of the cohort."""

    def make(
        out: Path, root: Path | None = None, slices: Path | None = None, **cohort: object
    ) -> StudyContext:
        study = {
            "name": "joined",
            "cohort": {"reader": "upenn", "modalities": ["FLAIR"], "mask": "predicted", **cohort},
            "mask_source": {"study": str(slices or outlined.slices)},
            "recipe": {
                "window": [[0, 24], [0, 48], [0, 48]],
                "shape": [12, 24, 24],
                "deform_sigma_voxels": 0.5,
            },
            "split": {"test_fraction": 0.5, "folds": 2},
            "networks": {"random": {"kind": "random", "depth": 10, "width": 4}},
            "training": {"epochs": 1, "learning_rate": 0.005},
        }
        path = out.with_suffix(".yaml")
        path.write_text(yaml.safe_dump(study))
        loaded = load_study(path, root or outlined.root)
        return StudyContext(loaded, StudyFolder(out), Resources(backend="in-process"))

    return make


@pytest.fixture
def make_joined_job(
    joined_job: Callable[..., StudyContext], tmp_path: Path
) -> Callable[..., StudyContext]:
    """The same with its folder in the test's own."""
    return lambda out="out", **more: joined_job(tmp_path / out, **more)


@pytest.fixture(scope="session")
def joined(
    joined_job: Callable[..., StudyContext], made_once: Callable[..., Path]
) -> dict[str, StudyContext]:
    """Finished 3-D studies on given and on predicted masks; who changes one takes a copy."""
    folder = made_once("joined", lambda folder: _run_joined_studies(joined_job, folder))
    return {m: joined_job(folder / m, mask=m) for m in MASKS}


def _run_joined_studies(joined_job: Callable[..., StudyContext], folder: Path) -> None:
    for mask in MASKS:
        context = joined_job(folder / mask, mask=mask)
        evaluated(context)
