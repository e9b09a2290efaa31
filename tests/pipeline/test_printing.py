from __future__ import annotations

from pathlib import Path

import pytest

from mgmt_ray.base import write_json, write_text
from mgmt_ray.pipeline.printing import show_diverged, show_results
from mgmt_ray.selection.predictions import write_table
from mgmt_ray.splits.split import Split
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.plan import make_plan
from mgmt_ray.study.study_config import StudyConfig
from mgmt_ray.study.trial import Trial
from tests.report.test_terminal import metrics

SPLIT = Split(test=("a",), folds=(("b",), ("c",)), left_out=(), seed=0, cohort="x")
CONTENT = {
    "name": "small",
    "cohort": {"reader": "tcga", "root": "data", "modalities": ["FLAIR"]},
    "networks": {"chen": {"kind": "slices", "cross_fitted": False}},
}


def finish(folder: StudyFolder, trial: Trial, dice: tuple[float, ...]) -> None:
    write_json(folder.trial(trial.id) / "trial.json", {"status": "finished"})
    rows = "\n".join(map(str, ("dice", *dice)))
    write_text(folder.trial(trial.id) / "slice_validation.csv", rows + "\n")


def test_a_segmentation_that_finds_no_tumour_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = StudyFolder(tmp_path)
    plan = make_plan(StudyConfig.model_validate(CONTENT), (SPLIT,))
    blind, classifier, sound, other_classifier = plan
    finish(folder, blind, (0.0, 0.0))
    finish(folder, sound, (0.0, 0.7))
    # what a classifier did with empty masks is no segmentation of its own
    finish(folder, classifier, (0.0, 0.0))
    assert not folder.is_finished(other_classifier.id)
    show_diverged(folder, plan)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"trial {blind.id} finds no tumour in any validation slice")


def test_a_row_that_is_no_copy_keeps_its_star_in_the_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = StudyFolder(tmp_path)
    write_table(metrics(auc_low=0.6, auc_p_holm=0.01), folder.ensembles / "metrics.csv")
    show_results(StudyConfig.model_validate(CONTENT), folder)
    assert "1 of 1 distinct stars" in capsys.readouterr().out
