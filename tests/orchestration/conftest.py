from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from mgmt_ray.cohort.synthetic import SyntheticConfig
from mgmt_ray.orchestration.connect import connected
from mgmt_ray.orchestration.placement import Placement
from mgmt_ray.orchestration.stages import Job
from mgmt_ray.orchestration.synthesis import synthesize_with_weights
from mgmt_ray.study.config import load_study
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.training.pretrain import SourceTaskConfig


@dataclass(frozen=True)
class Data:
    """A small synthetic cohort and its weights."""

    root: Path
    checkpoint: Path


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    root = tmp_path_factory.mktemp("cohort")
    cohort = SyntheticConfig(
        subjects=30,
        grid=(24, 28, 28),
        modalities=("PH", "FLAIR"),
        signal={"PH": 3.0},
        without_dti=0.0,
        without_dsc=0.1,
    )
    weights = SourceTaskConfig(depth=10, width=4, steps=4, shape=(10, 12, 12))
    return Data(root, synthesize_with_weights(cohort, weights, root))


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
                "noise_deviation": 0.02,
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
def make_job(data: Data, write_study: Callable[..., Path], tmp_path: Path) -> Callable[..., Job]:
    """A job on the small cohort; keywords replace sections of the study."""

    def make(launcher: str = "in-process", out: str = "out", **sections: object) -> Job:
        study = load_study(write_study(**sections), data.root, data.checkpoint)
        placement = Placement(launcher=launcher, trials_per_launch=4)
        return Job(study, StudyFolder(tmp_path / out), placement)

    return make


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    with connected("local", cpus=2):
        yield
