"""Several workers that share each batch of one trial."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class World:
    """This worker's place among the workers of a trial; alone by default.

    The caller has set up ``torch.distributed`` when ``size`` is above 1.
    """

    rank: int = 0
    size: int = 1

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network as its workers train it together: gradients averaged."""
        if self.size == 1:
            return network
        return nn.parallel.DistributedDataParallel(network)

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all workers, in the order of their ranks; workers may differ in number."""
        if self.size == 1:
            return rows
        parts: list[Tensor | None] = [None] * self.size
        dist.all_gather_object(parts, rows.cpu())
        return torch.cat([part for part in parts if part is not None])
