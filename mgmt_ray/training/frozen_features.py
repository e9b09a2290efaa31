"""Running the frozen part of a network once for all epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mgmt_ray.nets.network import Network
from mgmt_ray.training.dataset import VolumeSet, even_batches
from mgmt_ray.training.evaluate import ROWS_PER_BATCH
from mgmt_ray.training.precision import CHANNELS_LAST, autocast
from mgmt_ray.training.task import parameter_dtype
from mgmt_ray.training.training_config import Precision

MAX_CACHED_BYTES = 8 * 2**30
"""Outputs of a frozen part are cached up to this size, and computed in every epoch beyond it.

A constant, not the free memory: a result must not depend on what else runs on the machine.
Pooled features of the paper's trainings take 5 MB; the input of ResNet-50's last two blocks 5.5 GB.
"""


def cache_frozen_features(
    network: Network,
    training: VolumeSet,
    validation: VolumeSet,
    batch_size: int,
    precision: Precision,
) -> tuple[Network, VolumeSet, VolumeSet]:
    """Replace a network by its trained part, and volumes by the outputs of its frozen part.

    Augmentations are fixed and a frozen part's BatchNorm is in evaluation mode, so its output for a
    volume is the same in every epoch. Training on the cached outputs equals training on the volumes
    to the bit wherever a convolution gives a row the same bits whichever rows are in its batch. On
    CPUs that holds among batches of 2 to 15 rows, and among larger ones; therefore the sizes here
    are those of training and of :func:`~mgmt_ray.training.evaluate.predict`.

    Returns:
        The trained part and both sets with outputs of the frozen part; network and sets unchanged
        if nothing is frozen or the outputs exceed :data:`MAX_CACHED_BYTES`.
    """
    parts = network.split_frozen()
    if parts is None:
        return network, training, validation
    frozen, trained = parts
    network.train()  # leaves the frozen part in evaluation mode
    dtype = parameter_dtype(network)
    first = _outputs(frozen, dtype, training.select(np.arange(1)), 1, precision)
    num_rows = len(training) + len(validation)
    if num_rows * first.numel() * first.element_size() > MAX_CACHED_BYTES:
        return network, training, validation
    return (
        trained,
        replace(training, volumes=_outputs(frozen, dtype, training, batch_size, precision)),
        replace(validation, volumes=_outputs(frozen, dtype, validation, ROWS_PER_BATCH, precision)),
    )


@torch.no_grad()
def _outputs(
    frozen: Callable[[Tensor], Tensor],
    dtype: torch.dtype,
    data: VolumeSet,
    batch_size: int,
    precision: Precision,
) -> Tensor:
    """Compute the frozen part's outputs [row, ...] for all rows."""
    outputs: Tensor | None = None
    index = torch.arange(len(data), device=data.volumes.device)
    for rows in even_batches(np.arange(len(data)), batch_size):
        part = index[rows[0] : rows[-1] + 1]
        with autocast(data.volumes.device, precision):
            output = frozen(data.select(rows, part).inputs(dtype))
        if outputs is None:
            # in the output's memory layout, as batch statistics are summed in the order of memory
            channels_last = output.dim() == 5 and output.is_contiguous(memory_format=CHANNELS_LAST)
            outputs = torch.empty(
                (len(data), *output.shape[1:]),
                dtype=output.dtype,
                device=output.device,
                memory_format=CHANNELS_LAST if channels_last else torch.contiguous_format,
            )
        outputs[part] = output
    assert outputs is not None
    return outputs
