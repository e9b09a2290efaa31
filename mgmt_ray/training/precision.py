"""The number format that a network computes in, and compiling it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mgmt_ray.base import MgmtError, first_line
from mgmt_ray.training.training_config import (
    AnyTraining,
    Precision,
    auto_keys,
)

CHANNELS_LAST = torch.channels_last_3d

COMPILERS = {"cpu": ("g++", "clang++"), "cuda": ("gcc", "clang", "cc")}
"""Of which PyTorch needs one, by device."""

MAX_GRAPHS = 64
"""Of one network class in a process: kinds of networks, shapes of volumes and their settings."""


def resolve_auto(config: AnyTraining, device: torch.device, num_workers: int = 1) -> AnyTraining:
    """Replace each ``auto`` by what the device is best at.

    On a CPU that is float32, not compiled; on a GPU bfloat16 if it has it, and compiled if there is
    a compiler and one worker, whose batch statistics no other worker shares.
    """
    on_gpu = device.type == "cuda"
    best: dict[str, object] = {
        "precision": "bf16"
        if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        else "fp32",
        "compile": on_gpu and num_workers == 1 and _can_compile(device),
    }
    return config.model_copy(update={name: best[name] for name in auto_keys(config)})


def _can_compile(device: torch.device) -> bool:
    """Return whether a compiler, and on a GPU Triton and a card that it supports, are there."""
    if not any(map(shutil.which, COMPILERS[device.type])):
        return False
    if device.type == "cpu":
        return True
    return find_spec("triton") is not None and torch.cuda.get_device_capability(device) >= (7, 0)


def cost_of_settings(config: AnyTraining, device: str) -> list[str]:
    """Return a sentence for each setting that costs time on a device, "cuda" or "cpu".

    What it costs is estimated for a ResNet-50 at full size, from operations and memory traffic.

    >>> from mgmt_ray.training.training_config import TrainingConfig
    >>> cost_of_settings(TrainingConfig(compile="auto"), "cuda")
    ['precision: fp32 takes an estimated 1.6 times as long as auto on a GPU that has bfloat16.']
    """
    costs = []
    if device == "cuda" and config.precision == "fp32":
        costs.append(
            "precision: fp32 takes an estimated 1.6 times as long as auto on a GPU that has "
            "bfloat16."
        )
    if device == "cuda" and config.compile is False and "compile" in type(config).model_fields:
        costs.append("compile: false about doubles what a step moves through a GPU's memory.")
    return costs


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return a context in which convolutions compute in the given precision.

    With "bf16" weights stay in float32, as do BatchNorm's statistics, pooled features and logits.
    With "fp32" PyTorch's settings apply, which let convolutions on GPUs compute in TF32.

    >>> with autocast(torch.device("cpu"), "bf16"):
    ...     nn.Conv3d(1, 1, 3)(torch.zeros(1, 1, 4, 4, 4)).dtype
    torch.bfloat16
    """
    assert precision != "auto", "resolve_auto comes first"
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def set_precision(network: nn.Module, precision: Precision) -> None:
    """Choose the memory layout of a network's weights for its device; values stay the same.

    For bfloat16 tensor cores need channels last. On a CPU channels last gained nothing, and
    gradients differed in their last bits from run to run.
    """
    if precision == "bf16" and next(network.parameters()).is_cuda:
        is_3d = any(p.dim() == 5 for p in network.parameters())
        layout = CHANNELS_LAST if is_3d else torch.channels_last
        network.to(memory_format=layout)  # type: ignore[call-overload]


@contextmanager
def search_kernels(device: torch.device, precision: Precision) -> Iterator[None]:
    """Let cuDNN time its algorithms for each new shape in the block, if it computes in bfloat16.

    For training steps, whose batches have two shapes. Validation has hundreds, as the draws that
    share a block's input change from epoch to epoch, and each would wait for a search.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or (device.type == "cuda" and precision == "bf16")
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def check_bf16_kernels(
    network: nn.Module, volumes: Float[Tensor, "row ..."], precision: Precision
) -> None:
    """Check that bfloat16 does not reach a case in which PyTorch's CPU kernels are wrong.

    For a 3³ convolution without dilation and with 16 or more channels, PyTorch 2.13 takes weight
    gradients from uninitialised memory if its input is 2 slices deep, which happens for volumes of
    up to 16 slices. Depths of 1, 3 and 4 were right; no such fault is known on GPUs.

    Raises:
        MgmtError: the network would be trained with these kernels.
    """
    if precision != "bf16" or volumes.is_cuda or volumes.dim() < 5 or volumes.shape[2] > 16:
        return
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d)]
    undilated = [c for c in convolutions if c.kernel_size == (3, 3, 3) and c.dilation == (1, 1, 1)]
    if any(c.in_channels >= 16 for c in undilated):
        raise MgmtError(
            f"training.precision: bf16 with volumes of {volumes.shape[2]} slices is wrong on CPUs "
            "(a fault of PyTorch's kernels). Use fp32, a GPU, or volumes of 17 slices or more "
            "(recipe.shape)."
        )


@contextmanager
def raise_compile_error_with_hint(config: AnyTraining) -> Iterator[None]:
    """Turn a compiler's failure in the block into a message that says what to do.

    Code is compiled when it is first used, not by :func:`compile_network`.

    Raises:
        MgmtError: compiling failed, for instance because an interrupted run left an incomplete
            file in the compiler's cache.
    """
    if not config.compile:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    try:
        yield
    except TorchDynamoException as error:
        raise MgmtError(
            f"training.compile: compiling failed ({first_line(error)}). Delete the compiler's "
            f"cache, {cache_dir()}, and rerun the command, or omit compile."
        ) from error


def compile_network(network: nn.Module, config: AnyTraining, device: torch.device) -> nn.Module:
    """Compile the network if the config says so.

    One graph serves every training of a kind of network in this process, whatever the number of
    rows in its batches, and PyTorch's cache on disk serves later processes.

    Raises:
        MgmtError: no C or C++ compiler is installed.
    """
    if not config.compile:
        return network
    compilers = COMPILERS[device.type]
    if not any(map(shutil.which, compilers)):
        raise MgmtError(
            f"training.compile needs a compiler ({' or '.join(compilers)}), and none was found. "
            f"Install {compilers[0]}, or omit compile from the study's training."
        )
    from torch._dynamo import config as tracing
    from torch._functorch import config as caching
    from torch._inductor import config as generation

    # Without these PyTorch does not look into its cache for a network that mixes branches or leaves
    # autocast for its last layer. Both are traced, so that the cache's key holds what they do.
    caching.autograd_cache_allow_custom_autograd_functions = True
    generation.unsafe_marked_cacheable_functions |= {
        f"torch.amp.autocast_mode.{name}": torch.__version__
        for name in ("_enter_autocast", "_exit_autocast")
    }
    # Backward runs outside autocast, as without compiling: the last layer's gradient stays float32.
    caching.backward_pass_autocast = "off"
    # More kinds of networks in one process than this are an error, not silently uncompiled code.
    tracing.recompile_limit = MAX_GRAPHS
    tracing.fail_on_recompile_limit_hit = True
    return CompiledNetwork(network)


class CompiledNetwork(nn.Module):
    """A compiled network for batches of any number of rows."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.compiled = torch.compile(network, dynamic=False)

    def forward(self, *inputs: Tensor | None) -> Any:
        """Call the network with inputs whose first axis is the batch."""
        from torch._dynamo import maybe_mark_dynamic

        for tensor in inputs:
            if tensor is not None:
                maybe_mark_dynamic(tensor, 0)
        return self.compiled(*inputs)
