"""How far one whole step of ours is from a plain one: loss, gradients, change of the weights."""

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
    """Of one step.

    Attributes:
        loss: before it.
        gradient: by parameter.
        change: of each parameter.
    """

    loss: float
    gradient: dict[str, Tensor]
    change: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Difference:
    """Of two steps.

    Attributes:
        loss: absolute.
        gradient: largest, relative to the largest gradient of its tensor.
        gradient_norm: length of the difference of all gradients over the length of the plain ones.
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
    """One step of both from the same weights on the same batch with the same noise.

    Convolutions of the plain step, and of ours in float32, compute in float32 and not in TF32.

    Args:
        case: its config is what is measured.
        make_plain: gives a plain training with the weights of :func:`spottune`.
        data: on the device; its first batch is taken.

    Returns:
        By configuration, what :class:`Difference` says: "fp32" is not compiled; "bf16" (or
        "compiled_fp32") is the measured configuration; "plain_bf16" is the plain step under
        PyTorch's autocast, to tell what bfloat16 does from what we do.
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
    logits, labels = OurTraining(network, config, batch).learn(batch, (noise, None)).T
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
    """Largest difference of an element over the largest element of its tensor.

    A tuned branch that no subject of the batch chose has no gradient in either.
    """
    assert ours.keys() == plain.keys()
    smallest = torch.finfo(torch.float32).tiny
    return max(
        float((ours[name] - value).abs().max() / value.abs().max().clamp(min=smallest))
        for name, value in plain.items()
    )


def of_norms(ours: dict[str, Tensor], plain: dict[str, Tensor]) -> float:
    """Length of the difference of all elements over the length of the plain ones."""
    apart = sum(float((ours[n] - p).double().square().sum()) for n, p in plain.items())
    whole = sum(float(p.double().square().sum()) for p in plain.values())
    return (apart / whole) ** 0.5
