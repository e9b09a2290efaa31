"""The demo: a small synthetic cohort with a planted signal, and a complete study on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch

from mgmt_ray.base import MgmtError, write_json
from mgmt_ray.cluster.connection import connect_ray
from mgmt_ray.cluster.progress import log, show_progress
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.pipeline.stages import bring_up_to_date
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import load_study
from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize
from mgmt_ray.synthetic.table_layout import synthesize_as_table
from mgmt_ray.training.pretrain import SourceTaskConfig, write_source_task_checkpoint
from mgmt_ray.trials.context import StudyContext

STUDY_FILE = Path(__file__).parents[2] / "jobs" / "studies" / "demo.yaml"

COHORT = SyntheticConfig(
    subjects=110,
    grid=(44, 52, 52),
    signal={"PH": 4.0},
    modalities=("PH", "FLAIR", "T1GD"),
    without_dti=0.0,
    without_dsc=0.1,
)
WEIGHTS = SourceTaskConfig(depth=10, width=8, steps=200)


def synthesize_with_weights(
    cohort: SyntheticConfig,
    weights: SourceTaskConfig,
    folder: Path,
    layout: Literal["upenn", "table"] = "upenn",
) -> Path:
    """Write a synthetic cohort and pretrained weights unless they exist; return the checkpoint.

    Raises:
        MgmtError: the folder holds a cohort with other settings.
    """
    checkpoint = folder / f"resnet_{weights.depth}_width_{weights.width}_synthetic.pth"
    settings = {
        "layout": layout,
        "cohort": cohort.model_dump(mode="json"),
        "weights": weights.model_dump(mode="json"),
    }
    mark = folder / "synthesis.json"
    if mark.is_file():
        if json.loads(mark.read_text(encoding="utf-8")) == settings and checkpoint.is_file():
            log(f"synthesize: {folder} is up to date")
            return checkpoint
        raise MgmtError(
            f"{folder}: holds a synthetic cohort with other settings (synthesis.json). "
            "Use another folder, or delete this one."
        )
    write = synthesize if layout == "upenn" else synthesize_as_table
    with show_progress("synthesize scans") as progress:
        write(cohort, folder, progress)
    torch.set_num_threads(1)  # small layers: more threads are slower, and round differently
    with show_progress("pretrain") as progress:
        error = write_source_task_checkpoint(weights, checkpoint, progress)
    write_json(mark, settings)
    log(f"synthesize: {cohort.subjects} subjects in {folder}, weights in {checkpoint.name}")
    if weights.steps:
        log(f"pretraining: error {error:.2f} of the variance (1 is chance)")
    return checkpoint


def run_demo(out: Path) -> None:
    """Synthesize a cohort and run the demo study on it, in one folder.

    Raises:
        MgmtError: the package is not in a checkout, or a stage of the study fails.
    """
    if not STUDY_FILE.is_file():
        raise MgmtError(
            f"{STUDY_FILE}: does not exist. The demo runs from a checkout of the project: "
            "clone it and run `make demo`."
        )
    folder = StudyFolder(out.absolute())
    checkpoint = synthesize_with_weights(COHORT, WEIGHTS, folder.root / "cohort")
    study = load_study(STUDY_FILE, folder.root / "cohort", checkpoint)
    context = StudyContext(study, folder, Resources())
    with folder.lock(), connect_ray("local"):
        bring_up_to_date(context)
    given = f"{STUDY_FILE} --out {out} --data {folder.root / 'cohort'} --checkpoint {checkpoint}"
    log("What the report does not have yet, and then the report again:")
    for verb in ("audit", "explain", "report"):
        log(f"  mgmt-ray {verb} {given}")
