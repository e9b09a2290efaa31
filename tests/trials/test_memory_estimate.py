from __future__ import annotations

from pathlib import Path

import pytest

from mgmt_ray.splits.split import Split
from mgmt_ray.study.plan import make_plan
from mgmt_ray.study.study_config import StudyConfig
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.memory_estimate import oom_hint

SPLIT = Split(test=("a",), folds=(("b",), ("c",)), left_out=(), seed=0, cohort="x")


@pytest.fixture
def trials() -> list[Trial]:
    content = {
        "name": "small",
        "cohort": {"reader": "tcga", "root": "data", "modalities": ["FLAIR"]},
        "networks": {"chen": {"kind": "slices", "cross_fitted": False}},
    }
    return make_plan(StudyConfig.model_validate(content), (SPLIT,))


def test_each_stage_of_slices_names_its_own_settings(trials: list[Trial]) -> None:
    segmentation, classifier = trials[:2]
    description, remedy = oom_hint(segmentation, Path(), "cpu", "trains")
    assert "(segmentation, width 32) on cpu, in batches of 8 slices of 128 × 128" in description
    assert "a smaller networks.chen.segmentation.batch_size" in remedy
    assert "networks.chen.segmentation.precision bf16" in remedy
    assert "a smaller width of networks.chen" in remedy
    description, remedy = oom_hint(classifier, Path(), "cuda", "trains")
    assert "(slice classifier) on cuda, in batches of 32 slices of 128 × 128" in description
    assert "a smaller networks.chen.classification.batch_size" in remedy
    assert "width" not in remedy


def test_the_batch_of_a_prediction_depends_on_the_device(trials: list[Trial]) -> None:
    for device, number in (("cpu", 4), ("cuda", 32)):
        description, remedy = oom_hint(trials[0], Path(), device, "predicts with")
        assert f"in batches of {number} slices of 128 × 128" in description
        assert "batch_size" not in remedy
