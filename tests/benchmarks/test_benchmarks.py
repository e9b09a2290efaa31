"""Each benchmark runs, at its smallest size, and says that it computed the same thing twice.

What is left out, being no smaller: peak memory of ``step`` (two more processes that import torch),
operations at full size of ``routes``, and what needs a GPU or a checkout of the public code. The
ratios at these sizes mean nothing.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tyro

ROOT = Path(__file__).parents[2]

# On CPUs torch 2.13 leaves uninitialised memory in bfloat16 gradients of convolutions on volumes of
# depth 2; with 20 voxels the last stages have a depth of 3.
TINY = "--shape 20 20 20"

SIZES = {
    "step": f"--device cpu --width 4 {TINY} --batch 4 --rounds 1 --no-memory",
    "transfer": f"--epochs 2 --volumes 6 --subjects 4 --width 4 {TINY} --batch 3",
    "routes": f"--subjects 2 --draws 4 --width 4 {TINY} --rounds 1 --no-full-size",
    "draws": f"--depth 10 --networks 1 --subjects 2 --epochs 1 --training-subjects 12 "
    f"--source-steps 2 --width 2 {TINY} --replicates 20",
    "study": "--spottune-step-s .01 --random-step-s .005 --forward-s .0001 "
    "--spottune-validation-s .004 --plain-step-s .05",
    "precision": f"--seeds 2 --subjects 12 --epochs 1 --source-steps 2 {TINY}",
    "prepare": "--subjects 1 --grid 16 32 32",
    "artefact_store": "--subjects 3 --versions 2 --shape 4 5 6 --rounds 1 --entries 10",
    "slices": "--device cpu --width 8 --shape 32 32 --slices 6 --batch 4 --rounds 1",
}

CLAIMED_DIFFERENCES = {
    # float32 gradients through 50 layers, relative to their tensor's largest: 4e-6 is seen; a
    # dilation or a learning signal gone wrong gives 0.1 and more
    "step": 1e-4,
    "transfer": 0.0,
    "routes": 1e-6,
    # mean error of 20 sets of draws: 2e-5 is seen, and single draws are off by some 4e-3 here
    "draws": 1e-3,
    # an AUC of 6 against 6 subjects moves by 1/36 with each pair that changes places; networks
    # that have taken two steps tell nothing yet, and bfloat16 may reorder a few pairs
    "precision": 6 / 36,
    # probabilities; batches of another size pass through other kernels: 2e-6 is seen
    "slices": 1e-5,
    # half a step of float16 below 1
    "prepare": 2.5e-4,
    "artefact_store": 0.0,
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.ray if n == "prepare" else ()) for n in SIZES]
)
def test_a_benchmark_ends_with_json_and_a_difference_within_its_claim(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_as_typed if name in ("prepare", "study") else run_here
    found = run(name, SIZES[name].split(), capsys)
    assert found["name"] == name
    assert found["ratio"] > 0
    if name == "study":  # trains nothing
        assert found["difference"] is None
    else:
        assert 0 <= found["difference"] <= CLAIMED_DIFFERENCES[name]


def run_here(name: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The JSON of its last line; a process of its own would import torch for seconds."""
    benchmark = importlib.import_module(f"benchmarks.{name}")
    benchmark.main(tyro.cli(benchmark.Options, args=arguments))
    return last_line(capsys.readouterr().out)


def run_as_typed(name: str, arguments: list[str], _: object) -> dict[str, Any]:
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return last_line(done.stdout)


def last_line(printed: str) -> dict[str, Any]:
    found = json.loads(printed.splitlines()[-1], parse_constant=refuse)
    assert isinstance(found, dict)
    return found


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_what_runs_on_a_gpu_runs_dry_and_says_why_a_part_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "found.json"
    arguments = ["--dry-run", "--epochs", "1", "--output", str(output), "--only", "training"]
    found = run_here("on_a_gpu", arguments, capsys)
    assert json.loads(output.read_text()) == found
    trainings = found["parts"]["training"]["trainings"]
    assert [len(training["epoch_s"]) for training in trainings] == [1, 1]
    assert not any(trainings[1]["compilations"].values())
    late = run_here("on_a_gpu", ["--dry-run", "--seconds", "0"], capsys)
    assert all(part == {"skipped": "no time was left"} for part in late["parts"].values())
