"""What the study's prediction makes of its seconds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.study import Options, Seconds, summary, trainings, wall_s
from benchmarks.study_seconds import Known, find_seconds, read_step
from mgmt_ray.base import MgmtError

SECONDS = Seconds(
    spottune_step=0.01,
    random_step=0.005,
    forward=0.0001,
    spottune_validation=0.004,
    head_step=0.001,
    start=20.0,
)

STEP = {
    "name": "step",
    "batch": 12,
    "precision": "bf16",
    "width": 64,
    "shape": [70, 86, 86],
    "device": "a GPU",
    "ours_steps_per_s": 50.0,
    "plain_steps_per_s": 4.0,
    "step_operations": 7.76e12,
}


def test_the_paper_has_165_trainings() -> None:
    assert len(trainings(Options(), SECONDS)) == 165


def test_without_a_plain_step_there_is_no_ratio() -> None:
    assert summary(Options(), SECONDS, {})["ratio"] is None
    assert summary(Options(), replace(SECONDS, plain_step=0.05), {})["ratio"] > 1


def test_the_slowdown_is_of_training_steps_alone() -> None:
    """Without steps' time nothing is slower; without validation's and forward's all of it is."""
    rest = replace(SECONDS, spottune_step=0.0, random_step=0.0)
    assert trainings(Options(), rest, slowdown=7.0) == trainings(Options(), rest)
    steps = replace(SECONDS, spottune_validation=0.0, forward=0.0, head_step=0.0)
    slow = trainings(Options(), steps, slowdown=7.0)
    assert slow == pytest.approx([7 * s for s in trainings(Options(), steps)])


def test_trials_that_share_a_busy_gpu_hide_only_each_others_start() -> None:
    alone = wall_s([100.0] * 4, Options(), 20.0, gpus=1, share=1)
    shared = wall_s([100.0] * 4, Options(), 20.0, gpus=1, share=2)
    assert (alone, shared) == (480.0, 440.0)


def test_steps_come_from_the_output_of_the_step_benchmark(tmp_path: Path) -> None:
    file = tmp_path / "step.log"
    file.write_text("0.1 s 0.2 s\n" + json.dumps(STEP) + "\n")
    found = read_step(file, 12, "bf16")
    assert found["spottune_step_s"] == Known(0.02, "step.log, a GPU")
    assert found["plain_step_s"].seconds == 0.25


def test_a_small_step_is_scaled_to_full_size_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "step.log"
    small = STEP | {"width": 32, "shape": [24, 32, 32], "step_operations": 7.76e10}
    file.write_text(json.dumps(small))
    found = read_step(file, 12, "bf16")["spottune_step_s"]
    # 7.761 TFLOP at full size, a hundred times the operations of this one
    assert found.seconds == pytest.approx(2.0, rel=1e-3)
    assert "scaled" in found.source


@pytest.mark.parametrize("content", ["", "no JSON", "[]", json.dumps(STEP | {"batch": 4})])
def test_another_file_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "step.log"
    file.write_text(content)
    with pytest.raises(MgmtError, match=r"step\.log.*benchmarks\.step"):
        read_step(file, 12, "bf16")


def test_what_is_guessed_is_called_so() -> None:
    given = {"spottune_step_s": 1.0, "random_step_s": 1.0, "forward_s": 1.0}
    given |= {"spottune_validation_s": 1.0, "start_s": None, "head_step_s": 0.002}
    found = find_seconds(given, None, "cpu", 12, "bf16")
    assert found["start_s"].source == "guessed"
    assert found["head_step_s"] == Known(0.002, "given")
