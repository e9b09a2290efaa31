"""Durations of a study's parts: given, measured by ``benchmarks.step``, or measured here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.device import FULL_SHAPE, FULL_WIDTH, step_operations, timed
from benchmarks.our_step import NUM_BATCHES, Case, OurTraining, spottune
from benchmarks.step import Options as StepOptions
from benchmarks.step import resolve
from benchmarks.volumes import random_volumes, resident
from mgmt_ray.base import MgmtError
from mgmt_ray.nets.resnet3d import ResNet3d
from mgmt_ray.nets.single_path import PlainNetwork
from mgmt_ray.training.evaluate import predict
from mgmt_ray.training.training_config import Precision

VALIDATION_DRAWS = 32
GUESSED_HEAD_STEP_S, GUESSED_START_S = 0.001, 20.0


@dataclass(frozen=True, slots=True)
class Known:
    """A duration and its source."""

    seconds: float
    source: str


MEASURED = (
    "spottune_step_s",
    "random_step_s",
    "forward_s",
    "spottune_validation_s",
)
"""Durations that :func:`measure` measures; see :class:`benchmarks.study.Options`."""


def find_seconds(
    given: dict[str, float | None],
    step_json: Path | None,
    device: str | None,
    batch: int,
    precision: Precision,
) -> dict[str, Known]:
    """Return all durations by name; ``plain_step_s`` only if it is given or in the JSON.

    Args:
        given: by name, as flags; None where not.
        step_json: output of ``benchmarks.step``; flags count more.
        device: to measure the rest on; None: a GPU if there is one.
        batch: volumes per step.
        precision: of ours.

    Raises:
        MgmtError: the JSON is not of ``benchmarks.step``, or of another batch or precision.
    """
    known = {name: Known(s, "given") for name, s in given.items() if s is not None}
    if step_json is not None:
        known = read_step(step_json, batch, precision) | known
    if any(name not in known for name in MEASURED):
        known = measure(device, batch, precision) | known
    known.setdefault("head_step_s", Known(GUESSED_HEAD_STEP_S, "guessed"))
    known.setdefault("start_s", Known(GUESSED_START_S, "guessed"))
    return known


def read_step(path: Path, batch: int, precision: Precision) -> dict[str, Known]:
    """Read the two steps measured by ``benchmarks.step``; its JSON is the last line."""
    found = last_json(path)
    for name, wanted in (("name", "step"), ("batch", batch), ("precision", precision)):
        if found.get(name) != wanted:
            raise MgmtError(
                f"{path}: its {name} is {found.get(name)}, not {wanted}. Use the output of "
                f"`python -m benchmarks.step --batch {batch} --precision {precision}`."
            )
    source, scale = f"{path.name}, {found['device']}", 1.0
    if (found["width"], tuple(found["shape"])) != (FULL_WIDTH, FULL_SHAPE):
        case = resolve(StepOptions(device="cpu", batch=batch))
        scale = full_operations(case, spottune) / found["step_operations"]
        source += ", scaled by operations"
    return {
        "spottune_step_s": Known(scale / found["ours_steps_per_s"], source),
        "plain_step_s": Known(scale / found["plain_steps_per_s"], source),
    }


def last_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text().splitlines()[-1])
    except (OSError, IndexError, ValueError) as error:
        raise MgmtError(
            f"{path}: its last line is not JSON ({error}). Write the output of "
            "`python -m benchmarks.step` to a file and use that."
        ) from error
    return found if isinstance(found, dict) else {}


def measure(device: str | None, batch: int, precision: Precision) -> dict[str, Known]:
    """Measure at full size on a GPU; on a CPU at a small size, roughly scaled by operations."""
    torch.set_num_threads(1)
    case = resolve(StepOptions(device=device, batch=batch, precision=precision))
    data = resident(*random_volumes(NUM_BATCHES * batch, case.shape), case.device)
    rows = data.select(np.arange(batch))
    evaluate = partial(predict, data=rows, kind="sobol", seed=0, precision=precision)
    network, plain = spottune(case), from_scratch(case, case.device)
    draws_s = call_s(lambda: evaluate(network, num_draws=VALIDATION_DRAWS), case.device)
    forward_s = call_s(lambda: evaluate(plain, num_draws=1), case.device)
    spottune_s = call_s(OurTraining(network, case.config, data).step, case.device)
    random_s = call_s(OurTraining(plain, case.config, data).step, case.device)
    routed_scale, plain_scale = (
        full_operations(case, make) / operations(case, make) for make in (spottune, from_scratch)
    )
    source = "measured" if routed_scale == 1 else "measured small, scaled by operations"
    found = (
        spottune_s * routed_scale,
        random_s * plain_scale,
        forward_s / batch * plain_scale,
        draws_s / batch * routed_scale,
    )
    return {name: Known(s, source) for name, s in zip(MEASURED, found, strict=True)}


def from_scratch(case: Case, device: str) -> PlainNetwork:
    with torch.device(device):
        return PlainNetwork(ResNet3d(50, case.width, 1, 1), None).train()


def full_operations(case: Case, make: Callable[[Case, str], nn.Module]) -> float:
    return operations(replace(case, width=FULL_WIDTH, shape=FULL_SHAPE), make)


def operations(case: Case, make: Callable[[Case, str], nn.Module]) -> float:
    """Count the operations of a training step of the network that ``make`` returns."""
    return step_operations(make(case, "meta"), case.config.batch_size, case.shape)


def call_s(run: Callable[[], object], device: str) -> float:
    """Return the median seconds of three calls, after two that warm up and compile."""
    return median([timed(run, device)[1].wall_s for _ in range(5)][2:])
