"""The frozen part of a network, run once for all epochs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mgmt_ray.nets.build import AnyNetwork
from mgmt_ray.nets.single_path import PlainNetwork, TrainedTail
from mgmt_ray.training.dataset import VolumeSet, even_batches
from mgmt_ray.training.evaluate import ROWS_PER_BATCH
from mgmt_ray.training.precision import CHANNELS_LAST, autocast
from mgmt_ray.training.training_config import Precision

MAX_CACHED_BYTES = 8 * 2**30
"""Outputs of a frozen part are kept up to this size, and computed in every epoch beyond it.

A constant, not what happens to be free: a result must not depend on who else uses the machine.
Pooled features of the paper's trainings take 5 MB; the input of ResNet-50's last two blocks 5.5 GB.
"""


def cache_frozen_features(
    network: AnyNetwork,
    training: VolumeSet,
    validation: VolumeSet,
    batch_size: int,
    precision: Precision,
) -> tuple[AnyNetwork | TrainedTail, VolumeSet, VolumeSet]:
    """What is left to train, and its inputs.

    Augmentations are fixed and a frozen part's BatchNorm is in evaluation mode, so what it gives
    for a volume is the same in every epoch. Training on the kept outputs equals training on the
    volumes to the bit wherever a convolution gives a row the same bits whichever rows pass with it.
    On CPUs that holds for batches of 2 to 15 rows, and for larger ones; therefore the sizes here
    are those of training and of :func:`~mgmt_ray.training.evaluate.predict`.

    Args:
        network: nothing happens unless it is a plain one with a frozen part.
        training: volumes.
        validation: volumes.
        batch_size: of training.
        precision: of training.

    Returns:
        The network behind its frozen part, and both sets with the frozen part's outputs in the
        place of volumes; all as they were if nothing is frozen or the outputs are too large.
    """
    if not isinstance(network, PlainNetwork) or not network.frozen:
        return network, training, validation
    network.train()  # which puts the frozen part, as it was built, into evaluation mode
    first = _outputs(network, training.select(np.arange(1)), 1, precision)
    num_rows = len(training) + len(validation)
    if num_rows * first.numel() * first.element_size() > MAX_CACHED_BYTES:
        return network, training, validation
    return (
        TrainedTail(network),
        replace(training, volumes=_outputs(network, training, batch_size, precision)),
        replace(validation, volumes=_outputs(network, validation, ROWS_PER_BATCH, precision)),
    )


@torch.no_grad()
def _outputs(
    network: PlainNetwork, data: VolumeSet, rows_at_once: int, precision: Precision
) -> Tensor:
    """The frozen part's outputs [row, ...] for all rows."""
    dtype = next(network.parameters()).dtype
    kept: Tensor | None = None
    for rows in even_batches(np.arange(len(data)), rows_at_once):
        with autocast(data.volumes.device, precision):
            output = network.frozen_features(data.select(rows).inputs(dtype))
        if kept is None:
            # in the output's own layout, since batch statistics are summed in the order of memory
            last = output.dim() == 5 and output.is_contiguous(memory_format=CHANNELS_LAST)
            kept = torch.empty(
                (len(data), *output.shape[1:]),
                dtype=output.dtype,
                device=output.device,
                memory_format=CHANNELS_LAST if last else torch.contiguous_format,
            )
        kept[torch.as_tensor(rows, device=kept.device)] = output
    assert kept is not None
    return kept
