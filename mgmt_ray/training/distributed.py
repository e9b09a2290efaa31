"""Training with several workers that share each batch of one trial."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True, slots=True)
class World:
    """This worker's rank among the workers of a trial; by default it is the only one.

    With ``size`` above 1 the caller has set up ``torch.distributed``.
    """

    rank: int = 0
    size: int = 1

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return the network such that workers share gradients and batch statistics."""
        if self.size == 1:
            return network
        for module in network.modules():
            # Parameters stay the same objects, so that the optimiser's references stay valid.
            if isinstance(module, nn.BatchNorm3d):
                module.__class__ = SharedBatchNorm3d
            elif isinstance(module, nn.BatchNorm2d):
                module.__class__ = SharedBatchNorm2d
        parallel = nn.parallel.DistributedDataParallel(network)
        # Workers compute the same statistics. As an argument it is deprecated in torch 2.13, and
        # its new name does not exist in 2.11.
        parallel.broadcast_buffers = False
        return parallel

    def gather(self, rows: Tensor) -> Tensor:
        """Concatenate the rows of all workers by rank; workers may have different numbers."""
        if self.size == 1:
            return rows
        parts: list[Tensor | None] = [None] * self.size
        dist.all_gather_object(parts, rows.cpu())
        return torch.cat([part for part in parts if part is not None])


class _Sum(torch.autograd.Function):
    """The sum over workers, with a gradient: each worker's input affects every worker's loss.

    PyTorch's equivalent, ``torch.distributed.nn.functional.all_reduce``, is deprecated.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, local: Tensor) -> Tensor:
        total = local.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


class SharedBatchNorm(_BatchNorm):
    """BatchNorm over the workers' common batch; ``nn.SyncBatchNorm`` runs on GPUs only.

    Workers may hold different numbers of volumes or slices.
    """

    def forward(
        self, x: Float[Tensor, "batch channels *grid"]
    ) -> Float[Tensor, "batch channels *grid"]:
        """Normalise with the statistics of all workers while training."""
        if not self.training:
            return super().forward(x)
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        reduced_dims = (0, *range(2, x.dim()))
        local_variance, local_mean = torch.var_mean(exact, dim=reduced_dims, correction=0)
        number = torch.tensor(x.numel() / x.shape[1], dtype=torch.float64, device=x.device)
        mean, variance, count = self._merge_workers(
            local_mean.double(), local_variance.double(), number
        )
        self._update_running(mean.detach(), (variance * count / (count - 1)).detach())
        scale = (variance + self.eps).rsqrt() * self.weight
        shift = self.bias - mean * scale
        shape = (1, -1, *(1 for _ in x.shape[2:]))
        return (exact * scale.to(exact).view(shape) + shift.to(exact).view(shape)).to(x.dtype)

    def _merge_workers(
        self, mean: Tensor, variance: Tensor, number: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Merge the workers' mean, variance and number of values per channel (Chan et al. 1983).

        Each worker's variance is about that worker's mean: a difference of large moments would
        lose digits.
        """
        sums = torch.cat([mean * number, number.view(1)])
        total = _Sum.apply(sums)  # type: ignore[no-untyped-call]
        count = total[-1].detach()
        common = total[:-1] / count
        squares = number * (variance + (mean - common).square())
        return common, _Sum.apply(squares) / count, count  # type: ignore[no-untyped-call]

    def _update_running(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running averages towards a batch's statistics."""
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)


class SharedBatchNorm3d(SharedBatchNorm, nn.BatchNorm3d):
    """:class:`SharedBatchNorm` for volumes."""


class SharedBatchNorm2d(SharedBatchNorm, nn.BatchNorm2d):
    """:class:`SharedBatchNorm` for slices."""
