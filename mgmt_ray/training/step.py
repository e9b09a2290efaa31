"""One step of training."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.task import Noise, Task


def train_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: VolumeSet,
    task: Task,
    noise: Noise,
    *,
    num_rows: int,
    num_workers: int,
) -> Float[Tensor, "row value"]:
    """Change a network's parameters by one batch; the device is not waited for.

    Args:
        network: in training mode.
        optimizer: of its parameters.
        batch: on the network's device.
        task: whose loss falls.
        noise: of the batch's rows.
        num_rows: of the global batch.
        num_workers: that share it; they average their gradients.

    Returns:
        What the batch's scores follow from, before the change.
    """
    loss = task.loss(network, batch, noise)
    optimizer.zero_grad(set_to_none=True)
    mean = loss.total * num_workers / num_rows
    (mean if loss.once is None else mean + loss.once).backward()
    optimizer.step()
    return loss.seen
