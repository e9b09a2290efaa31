"""The number format that a network computes in, and compiling it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mgmt_ray.base import MgmtError, first_line
from mgmt_ray.training.training_config import AnyTraining, Precision

CHANNELS_LAST = torch.channels_last_3d


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return a context in which convolutions compute in the given precision.

    With "bf16" weights stay in float32, as do BatchNorm's statistics, pooled features and logits.
    With "fp32" PyTorch's settings apply, which let convolutions on GPUs compute in TF32.

    >>> with autocast(torch.device("cpu"), "bf16"):
    ...     nn.Conv3d(1, 1, 3)(torch.zeros(1, 1, 4, 4, 4)).dtype
    torch.bfloat16
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def set_precision(network: nn.Module, precision: Precision) -> None:
    """Choose the memory layout of a network's weights for its device; values stay the same.

    For bfloat16 tensor cores need channels last, and cuDNN times its algorithms once for the shapes
    of a training, which never change. On a CPU channels last gained nothing, and gradients differed
    in their last bits from run to run.
    """
    if precision == "bf16" and next(network.parameters()).is_cuda:
        torch.backends.cudnn.benchmark = True
        is_3d = any(p.dim() == 5 for p in network.parameters())
        layout = CHANNELS_LAST if is_3d else torch.channels_last
        network.to(memory_format=layout)  # type: ignore[call-overload]


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

    Batches of a training have at most two sizes, and each is compiled separately: dynamic sizes
    would cost speed at every step. Code compiled for earlier trials is dropped from memory: it
    would count towards PyTorch's limit of versions, beyond which it silently falls back to
    uncompiled code. Its cache on disk serves later trials.

    Raises:
        MgmtError: no C or C++ compiler is installed.
    """
    if not config.compile:
        return network
    compilers = ("g++", "clang++") if device.type == "cpu" else ("gcc", "clang", "cc")
    if not any(map(shutil.which, compilers)):
        raise MgmtError(
            f"training.compile needs a compiler ({' or '.join(compilers)}), and none was found. "
            f"Install {compilers[0]}, or omit compile from the study's training."
        )
    torch.compiler.reset()
    return cast(nn.Module, torch.compile(network, dynamic=False))
