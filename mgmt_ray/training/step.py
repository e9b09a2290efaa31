"""One step of training."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mgmt_ray.training.config import Precision
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.objective import cross_entropy_sum
from mgmt_ray.training.precision import autocast


def train_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: VolumeSet,
    noise: Float[Tensor, "batch block 2"],
    *,
    keep: Float[Tensor, "batch feature"] | None,
    weights: Float[Tensor, "2"] | None,
    num_rows: int,
    num_workers: int,
    precision: Precision,
) -> Float[Tensor, " batch"]:
    """Change a network's parameters by one batch; the device is not waited for.

    Args:
        network: in training mode.
        optimizer: of its parameters.
        batch: on the network's device.
        noise: of the policies.
        keep: see :func:`mgmt_ray.nets.head.dropout_mask`.
        weights: per class; None counts every row once.
        num_rows: of the global batch.
        num_workers: that share it; they average their gradients.
        precision: of the convolutions.

    Returns:
        Logits before the change, without gradient.
    """
    dtype = next(network.parameters()).dtype
    device = batch.volumes.device
    with autocast(device, precision):
        logits = network(batch.inputs(dtype), noise.to(device), keep, batch.covariates)
    loss = cross_entropy_sum(logits, batch.labels, weights)
    optimizer.zero_grad(set_to_none=True)
    (loss * num_workers / num_rows).backward()
    optimizer.step()
    return logits.detach()
