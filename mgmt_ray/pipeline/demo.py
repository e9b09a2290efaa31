"""The demo: a small synthetic cohort with a planted signal, and a whole study on it."""

from __future__ import annotations

from pathlib import Path

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.connection import connected
from mgmt_ray.cluster.resources import Placement
from mgmt_ray.pipeline.stages import bring_up_to_date
from mgmt_ray.pipeline.synthesis import synthesize_with_weights
from mgmt_ray.study.config import load_study
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.synthetic.generate import SyntheticConfig
from mgmt_ray.training.pretrain import SourceTaskConfig
from mgmt_ray.trials.context import Job

STUDY_FILE = Path(__file__).parents[2] / "jobs" / "studies" / "demo.yaml"

COHORT = SyntheticConfig(
    subjects=110,
    grid=(44, 52, 52),
    signal={"PH": 3.0},
    modalities=("PH", "FLAIR", "T1GD"),
    without_dti=0.0,
    without_dsc=0.1,
)
WEIGHTS = SourceTaskConfig(depth=10, width=8, steps=200)


def run_demo(out: Path) -> None:
    """Synthesize, run the demo study, and say where to look.

    Raises:
        MgmtError: the package is not in a checkout, or what the study's stages raise.
    """
    if not STUDY_FILE.is_file():
        raise MgmtError(
            f"{STUDY_FILE}: not there. The demo runs from a checkout of the project: "
            "clone it and type `make demo`."
        )
    folder = StudyFolder(out.absolute())
    checkpoint = synthesize_with_weights(COHORT, WEIGHTS, folder.root / "cohort")
    study = load_study(STUDY_FILE, folder.root / "cohort", checkpoint)
    job = Job(study, folder, Placement(trials_per_launch=5))
    with folder.lock(), connected("local"):
        bring_up_to_date(job)
