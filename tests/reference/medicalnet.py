"""MedicalNet's residual networks, plainly: sums over a kernel's offsets, in numpy and float64.

Written from the description (Chen, Ma & Zheng 2019, Med3D; He et al. 2016; strides, dilations and
shortcuts as ``docs/papers.md`` has them, under Networks), and independent of ``mgmt_ray.nets``: it
shares neither its modules nor torch's convolutions with it. Weights have the names of MedicalNet's
files. ResNet-18 and -34 have shortcuts without weights (type A: every other voxel, missing channels
0), the others a convolution with BatchNorm (type B).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
import torch

State = dict[str, np.ndarray]

BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
STAGES = ((1, 1), (2, 1), (1, 2), (1, 4))  # stride of the first block, dilation of every block
BATCHNORM_EPS = 1e-5


def bottlenecked(depth: int) -> bool:
    return depth >= 50


def has_projections(depth: int) -> bool:
    return depth not in (18, 34)


def block_names(depth: int) -> list[str]:
    return [f"layer{s}.{b}" for s, n in enumerate(BLOCKS[depth], start=1) for b in range(n)]


def random_state(depth: int, width: int, seed: int) -> State:
    """Weights and BatchNorm statistics that are all different from what a new network has."""
    draw = np.random.default_rng(seed)
    state: State = {}

    def convolution(name: str, outputs: int, inputs: int, size: int) -> None:
        deviation = (2 / (inputs * size**3)) ** 0.5
        kernel = draw.normal(0, deviation, (outputs, inputs, size, size, size))
        state[f"{name}.weight"] = kernel.astype(np.float32)

    def norm(name: str, channels: int) -> None:
        state[f"{name}.weight"] = draw.uniform(0.5, 1.5, channels).astype(np.float32)
        state[f"{name}.bias"] = draw.normal(0, 0.2, channels).astype(np.float32)
        state[f"{name}.running_mean"] = draw.normal(0, 0.2, channels).astype(np.float32)
        state[f"{name}.running_var"] = draw.uniform(0.5, 2.0, channels).astype(np.float32)

    convolution("conv1", width, 1, 7)
    norm("bn1", width)
    inputs = width
    for name in block_names(depth):
        stage, index = int(name[5]), int(name[7:])
        inner = width * 2 ** (stage - 1)
        outputs = 4 * inner if bottlenecked(depth) else inner
        sizes = ((inputs, inner, 1), (inner, inner, 3), (inner, outputs, 1))
        if not bottlenecked(depth):
            sizes = ((inputs, inner, 3), (inner, inner, 3))
        for number, (before, after, size) in enumerate(sizes, start=1):
            convolution(f"{name}.conv{number}", after, before, size)
            norm(f"{name}.bn{number}", after)
        changes_shape = inputs != outputs or (index == 0 and STAGES[stage - 1][0] > 1)
        if changes_shape and has_projections(depth):
            convolution(f"{name}.downsample.0", outputs, inputs, 1)
            norm(f"{name}.downsample.1", outputs)
        inputs = outputs
    convolution("conv_seg.0", 32, inputs, 2)
    norm("conv_seg.1", 32)
    return state


def write_checkpoint(state: Mapping[str, np.ndarray], path: Path) -> Path:
    """A file like the public ones: old pickle, ``module.`` names, no batch counters."""
    content = {f"module.{name}": torch.from_numpy(value.copy()) for name, value in state.items()}
    torch.save({"epoch": 1, "state_dict": content}, path, _use_new_zipfile_serialization=False)
    return path


def convolve(x: np.ndarray, kernel: np.ndarray, stride: int = 1, dilation: int = 1) -> np.ndarray:
    """[batch, channel, …] with [out, channel, …]; zeros around keep a stride of 1's size."""
    margin = dilation * (kernel.shape[-1] - 1) // 2
    padded = np.pad(x, ((0, 0), (0, 0), *[(margin, margin)] * 3))
    total = np.zeros(())
    for offset in product(range(kernel.shape[-1]), repeat=3):
        seen = tuple(
            slice(o * dilation, o * dilation + n, stride)
            for o, n in zip(offset, x.shape[2:], strict=True)
        )
        weights = kernel[(slice(None), slice(None), *offset)].astype(np.float64)
        total = total + np.einsum("oc,bcdhw->bodhw", weights, padded[:, :, *seen], optimize=True)
    return total


def normalise(state: State, name: str, x: np.ndarray) -> np.ndarray:
    """BatchNorm with its stored statistics."""
    weight, bias, mean, variance = (
        state[f"{name}.{part}"].astype(np.float64).reshape(-1, 1, 1, 1)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / np.sqrt(variance + BATCHNORM_EPS) * weight + bias


def largest_of_neighbours(x: np.ndarray) -> np.ndarray:
    """The maximum over 3³ voxels around every other voxel."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (1, 1)), constant_values=-np.inf)
    seen = [
        padded[:, :, *(slice(o, o + n, 2) for o, n in zip(offset, x.shape[2:], strict=True))]
        for offset in product(range(3), repeat=3)
    ]
    return np.max(seen, axis=0)


def stem(state: State, volumes: np.ndarray) -> np.ndarray:
    """From volumes [batch, 1, depth, height, width] to the first block's input."""
    x = normalise(state, "bn1", convolve(volumes, state["conv1.weight"], stride=2))
    return largest_of_neighbours(np.maximum(x, 0))


def block(state: State, depth: int, name: str, x: np.ndarray) -> np.ndarray:
    """One residual block."""
    stride, dilation = STAGES[int(name[5]) - 1]
    stride = stride if name.endswith(".0") else 1
    plan = {1: (1, 1), 2: (stride, dilation), 3: (1, 1)}
    if not bottlenecked(depth):
        plan = {1: (stride, dilation), 2: (1, dilation)}
    y = x
    for number, (step, spread) in plan.items():
        y = convolve(y, state[f"{name}.conv{number}.weight"], step, spread)
        y = normalise(state, f"{name}.bn{number}", y)
        y = np.maximum(y, 0) if number < len(plan) else y
    return np.maximum(y + shortcut(state, name, x, y.shape[1], stride), 0)


def shortcut(state: State, name: str, x: np.ndarray, outputs: int, stride: int) -> np.ndarray:
    """What a block adds to its convolutions' output."""
    projection = state.get(f"{name}.downsample.0.weight")
    if projection is not None:
        return normalise(state, f"{name}.downsample.1", convolve(x, projection, stride))
    thinned = x[:, :, ::stride, ::stride, ::stride]
    return np.pad(thinned, ((0, 0), (0, outputs - x.shape[1]), (0, 0), (0, 0), (0, 0)))


def outputs_by_part(state: State, depth: int, volumes: np.ndarray) -> dict[str, np.ndarray]:
    """What the stem and each block put out; the last is the segmentation head's input."""
    found = {"stem": stem(state, volumes.astype(np.float64))}
    x = found["stem"]
    for name in block_names(depth):
        x = found[name] = block(state, depth, name, x)
    return found
