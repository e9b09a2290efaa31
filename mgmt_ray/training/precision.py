"""In which numbers a network computes, and whether it is compiled."""

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
    """A context in which convolutions compute in the study's precision.

    With "bf16" weights stay in float32, as do BatchNorm's statistics, pooled features and logits.
    With "fp32" PyTorch's settings hold, by which convolutions on GPUs may compute in TF32.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def set_precision(network: nn.Module, precision: Precision) -> None:
    """Lay a network's weights out as its device wants them; values and parameters stay the same.

    Tensor cores want bfloat16 with channels last, and cuDNN then times its algorithms once for the
    shapes of a training, which never change. On a CPU that gained nothing, and gradients differed
    in their last bits from run to run.
    """
    if precision == "bf16" and next(network.parameters()).is_cuda:
        torch.backends.cudnn.benchmark = True
        in_space = any(p.dim() == 5 for p in network.parameters())
        layout = CHANNELS_LAST if in_space else torch.channels_last
        network.to(memory_format=layout)  # type: ignore[call-overload]


def check_bf16_kernels(
    network: nn.Module, volumes: Float[Tensor, "row ..."], precision: Precision
) -> None:
    """Refuse bfloat16 where PyTorch's CPU kernels are wrong.

    Of a 3³ convolution without dilation of 16 channels or more, PyTorch 2.13 gives weight gradients
    of uninitialised memory where its input has 2 slices: for volumes of up to 16 slices. Depths of
    1, 3 and 4 were right, as were GPUs by what is known.

    Raises:
        MgmtError: a network would be trained so.
    """
    if precision != "bf16" or volumes.is_cuda or volumes.dim() < 5 or volumes.shape[2] > 16:
        return
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d)]
    undilated = [c for c in convolutions if c.kernel_size == (3, 3, 3) and c.dilation == (1, 1, 1)]
    if any(c.in_channels >= 16 for c in undilated):
        raise MgmtError(
            f"training.precision: bf16 of volumes of {volumes.shape[2]} slices is wrong on CPUs "
            "(a fault of PyTorch's kernels). Take fp32, a GPU, or volumes of 17 slices or more "
            "(recipe.shape)."
        )


@contextmanager
def raise_compile_error_with_hint(config: AnyTraining) -> Iterator[None]:
    """Turn a compiler's failure in the block into a line that can be acted on.

    Code is compiled when it is first used, not by :func:`compile_network`.

    Raises:
        MgmtError: compiling failed, for instance as an interrupted run left a file half written.
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
            f"cache, {cache_dir()}, and repeat the command, or leave compile out."
        ) from error


def compile_network(network: nn.Module, config: AnyTraining, device: torch.device) -> nn.Module:
    """The network compiled if the config says so.

    Batches of a training have at most two sizes, and each gets code of its own: sizes unknown to
    the compiler would cost speed at every step. What earlier trials compiled is forgotten; their
    modules would count against the number of versions that PyTorch keeps, and beyond that number
    it falls back to uncompiled code without a word. Its cache on disk serves later trials.

    Raises:
        MgmtError: there is no compiler.
    """
    if not config.compile:
        return network
    wanted = ("g++", "clang++") if device.type == "cpu" else ("gcc", "clang", "cc")
    if not any(map(shutil.which, wanted)):
        raise MgmtError(
            f"training.compile needs a compiler ({' or '.join(wanted)}), and there is none. "
            f"Install {wanted[0]}, or leave compile out of the study's training."
        )
    torch.compiler.reset()
    return cast(nn.Module, torch.compile(network, dynamic=False))
