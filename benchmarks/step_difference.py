"""Differences of our training step from a plain one: loss, gradients, change of weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.device import without_tf32
from benchmarks.our_step import NUM_BLOCKS, Case, OurTraining, spottune
from benchmarks.plain_step import PlainTraining
from mgmt_ray.nets.policy import gumbel_noise
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.training_config import TrainingConfig


@dataclass(frozen=True, slots=True)
class Result:
    """Result of one step.

    Attributes:
        loss: before the step.
        gradient: by parameter.
        change: of each parameter.
    """

    loss: float
    gradient: dict[str, Tensor]
    change: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference of two steps.

    Attributes:
        loss: absolute.
        gradient: largest, relative to the largest gradient of its tensor.
        gradient_norm: norm of the difference of all gradients over the norm of the plain ones.
        change: largest, relative to the largest change of its tensor. Adam's first step moves a
            weight by its rate in the direction of its gradient's sign, however small that is: a
            gradient near 0 of another sign gives 2.
        change_norm: as ``gradient_norm``.
    """

    loss: float
    gradient: float
    gradient_norm: float
    change: float
    change_norm: float


def step_differences(
    case: Case, make_plain: Callable[[], PlainTraining], data: VolumeSet
) -> dict[str, dict[str, float]]:
    """Compare one step of both from the same weights on the same batch with the same noise.

    Convolutions of the plain step, and of ours in float32, compute in float32 and not in TF32.

    Args:
        case: has the measured configuration.
        make_plain: returns a plain training with the weights of :func:`spottune`.
        data: on the device; its first batch is used.

    Returns:
        Values of :class:`Difference` by configuration: "fp32" is not compiled; "bf16" (or
        "compiled_fp32") is the measured configuration; "plain_bf16" is the plain step under
        PyTorch's autocast, to separate the effect of bfloat16 from ours.
    """
    eager = case.config.model_copy(update={"precision": "fp32", "compile": False})
    measured = "bf16" if case.config.precision == "bf16" else "compiled_fp32"
    size = case.config.batch_size
    batch = data.select(np.arange(size))
    noise = gumbel_noise(size, NUM_BLOCKS, torch.Generator().manual_seed(2))
    with without_tf32():
        expected = plain_result(make_plain(), batch, noise)
        found = {"fp32": our_result(case, eager, batch, noise)}
        if case.config != eager:
            found[measured] = our_result(case, case.config, batch, noise)
        if measured == "bf16":
            rounded = make_plain()
            rounded.bf16 = True
            found["plain_bf16"] = plain_result(rounded, batch, noise)
    return {name: asdict(difference(result, expected)) for name, result in found.items()}


def plain_result(plain: PlainTraining, batch: VolumeSet, noise: Tensor) -> Result:
    parameters = plain.parameters()
    before = copies(parameters)
    volumes, labels = batch.volumes.float(), batch.labels
    logits = plain.learn(volumes, labels[:, None], noise.to(volumes.device, torch.float32))
    return make_result(logits.squeeze(1), labels, parameters, before)


def our_result(case: Case, config: TrainingConfig, batch: VolumeSet, noise: Tensor) -> Result:
    network = spottune(case)
    parameters = {n: p for n, p in network.named_parameters() if p.requires_grad}
    before = copies(parameters)
    logits, labels = OurTraining(network, config, batch).learn(batch, (noise, None, None)).T
    return make_result(logits, labels, parameters, before)


def copies(parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in parameters.items()}


def make_result(
    logits: Tensor, labels: Tensor, parameters: dict[str, nn.Parameter], before: dict[str, Tensor]
) -> Result:
    gradient = {}
    for name, parameter in parameters.items():
        assert parameter.grad is not None
        gradient[name] = parameter.grad.clone()
    change = {name: p.detach() - before[name] for name, p in parameters.items()}
    loss = binary_cross_entropy_with_logits(logits.double(), labels.double())
    return Result(float(loss), gradient, change)


def difference(ours: Result, plain: Result) -> Difference:
    return Difference(
        abs(ours.loss - plain.loss),
        largest(ours.gradient, plain.gradient),
        of_norms(ours.gradient, plain.gradient),
        largest(ours.change, plain.change),
        of_norms(ours.change, plain.change),
    )


def largest(ours: dict[str, Tensor], plain: dict[str, Tensor]) -> float:
    """Return the largest difference of an element over the largest element of its tensor.

    A tuned branch that no subject of the batch chose has no gradient in either.
    """
    assert ours.keys() == plain.keys()
    smallest = torch.finfo(torch.float32).tiny
    return max(
        float((ours[name] - value).abs().max() / value.abs().max().clamp(min=smallest))
        for name, value in plain.items()
    )


def of_norms(ours: dict[str, Tensor], plain: dict[str, Tensor]) -> float:
    """Return the norm of the difference of all elements over the norm of the plain ones."""
    apart = sum(float((ours[n] - p).double().square().sum()) for n, p in plain.items())
    whole = sum(float(p.double().square().sum()) for p in plain.values())
    return (apart / whole) ** 0.5
