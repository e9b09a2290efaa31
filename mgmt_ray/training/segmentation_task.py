"""Learning to segment slices (Chen et al. 2020, sec. 2.3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mgmt_ray.nets.head import dropout_mask
from mgmt_ray.nets.myronenko import DROPOUT, NUM_LATENT, Segmentation, SegmentationNetwork
from mgmt_ray.training.dataset import VolumeSet, even_batches
from mgmt_ray.training.mask_overlap import Overlap
from mgmt_ray.training.precision import autocast
from mgmt_ray.training.slice_objective import segmentation_loss, weight_penalty
from mgmt_ray.training.task import BatchLoss, Noise, dtype_of, generator
from mgmt_ray.training.training_config import Precision, SegmentationTraining

PIXELS_PER_BATCH = {"cpu": 4 * 128 * 128, "cuda": 32 * 128 * 128}
"""Of slices that pass a network together while it is evaluated.

On a CPU the activations of 4 slices stay in the cache: 32 took half as long again per slice.
"""


def slices_per_batch(shape: Sequence[int], device: torch.device) -> int:
    """How many slices of this height and width pass a network together; memory follows from it."""
    return max(1, PIXELS_PER_BATCH["cpu" if device.type == "cpu" else "cuda"] // math.prod(shape))


@dataclass(frozen=True, slots=True)
class SegmentationScores:
    """Of one set of slices.

    Attributes:
        loss: mean of the three-term loss and the weight penalty.
        dice: mean over slices of the Dice coefficient of pixels that are called tumour.
    """

    loss: float
    dice: float


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationTask:
    """A :class:`~mgmt_ray.training.task.Task`; rows are slices, labels are their masks.

    Attributes:
        network: whose kernels are penalised.
        config: of the training.
    """

    network: SegmentationNetwork
    config: SegmentationTraining

    def noise(self, seed: int, epoch: int) -> Callable[[int], Noise]:
        """Of the reconstruction's sample, and which channels of the output layers are kept."""
        sample = generator(seed, "reconstruction", epoch)
        dropped = generator(seed, "dropout", epoch)

        def draw(num_rows: int) -> Noise:
            normal = torch.randn(num_rows, NUM_LATENT, generator=sample)
            return normal, dropout_mask(num_rows, self.network.num_keep, DROPOUT, dropped)

        return draw

    def loss(self, network: nn.Module, batch: VolumeSet, noise: Noise) -> BatchLoss:
        """The three-term loss; the penalty of the kernels is added once."""
        normal, keep = noise
        assert normal is not None and keep is not None
        device = batch.volumes.device
        images = batch.inputs(dtype_of(network))
        with autocast(device, self.config.precision):
            said = network(images, normal.to(device), keep.to(device))
        loss = segmentation_loss(said, images, batch.labels).total
        once = weight_penalty(self.network.penalised_kernels())
        return BatchLoss(loss.sum(), _values(loss.detach() + once.detach(), said, batch), once)

    def train_scores(self, seen: Float[Tensor, "row value"]) -> SegmentationScores:
        """Scores of the slices as they passed."""
        return _scores(seen.double().cpu().numpy())

    @torch.no_grad()
    def predict(self, network: nn.Module, data: VolumeSet, seed: int) -> Float[Tensor, "row value"]:
        """Loss, with the mean of each slice's distribution for a sample, and pixels."""
        was_training = network.training
        network.eval()
        parts = [torch.empty(0, 4, dtype=torch.float64)]
        device, penalty = data.volumes.device, weight_penalty(self.network.penalised_kernels())
        at_once = slices_per_batch(data.volumes.shape[1:], device)
        for rows in even_batches(np.arange(len(data)), at_once) if len(data) else ():
            part = data.select(rows)
            images = part.inputs(dtype_of(network))
            with autocast(device, self.config.precision):
                said = network(images, torch.zeros(len(part), NUM_LATENT, device=device))
            loss = segmentation_loss(said, images, part.labels).total + penalty
            parts.append(_values(loss, said, part).double().cpu())
        network.train(was_training)
        return torch.cat(parts)

    def validation(
        self, values: Float[Tensor, "row value"], data: VolumeSet
    ) -> tuple[SegmentationScores, Overlap]:
        """Scores, and pixels per slice."""
        columns = values.numpy()
        return _scores(columns), Overlap(*columns[:, 1:].T.copy())


@torch.inference_mode()
def predict_tumour(
    network: SegmentationNetwork, images: Tensor, precision: Precision
) -> Float[Tensor, "slice height width"]:
    """Probabilities of tumour, on the network's device, without the reconstruction.

    Args:
        network: in evaluation mode.
        images: normalised slices [slice, height, width] on any device.
        precision: as the network was trained.
    """
    parameter = next(network.parameters())
    found = [torch.empty(0, *images.shape[1:], device=parameter.device)]
    at_once = slices_per_batch(images.shape[1:], parameter.device)
    for rows in even_batches(np.arange(len(images)), at_once) if len(images) else ():
        part = images[rows[0] : rows[-1] + 1].to(parameter.device, parameter.dtype)
        with autocast(parameter.device, precision):
            logits = network(part).logits
        found.append(torch.sigmoid(logits.float()))
    return torch.cat(found)


def _values(loss: Tensor, said: Segmentation, batch: VolumeSet) -> Float[Tensor, "row 4"]:
    predicted, truth = said.logits.detach() >= 0, batch.labels > 0
    pixels = [grid.sum(dim=(1, 2)) for grid in (predicted & truth, predicted, truth)]
    return torch.stack([loss, *(number.to(loss.dtype) for number in pixels)], dim=1)


def _scores(values: np.ndarray) -> SegmentationScores:
    overlap = Overlap(*values[:, 1:].T)
    return SegmentationScores(float(values[:, 0].mean()), float(overlap.dice.mean()))
