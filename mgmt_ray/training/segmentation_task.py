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
from mgmt_ray.training.evaluate import evaluation_batches
from mgmt_ray.training.mask_overlap import Overlap
from mgmt_ray.training.precision import autocast
from mgmt_ray.training.slice_objective import segmentation_loss, weight_penalty
from mgmt_ray.training.task import BatchLoss, Noise, epoch_generator, parameter_dtype
from mgmt_ray.training.training_config import Precision, SegmentationTraining

PIXELS_PER_BATCH = {"cpu": 4 * 128 * 128, "cuda": 32 * 128 * 128}
"""Per forward pass while a network is evaluated, by type of device.

On a CPU the activations of 4 slices stay in the cache: 32 took 1.5 times as long per slice.
"""


def slices_per_batch(shape: Sequence[int], device: torch.device) -> int:
    """Return the number of slices of a height and width per forward pass in evaluation.

    >>> slices_per_batch((256, 128), torch.device("cpu"))
    2
    """
    return max(1, PIXELS_PER_BATCH["cpu" if device.type == "cpu" else "cuda"] // math.prod(shape))


@dataclass(frozen=True, slots=True)
class SegmentationScores:
    """Scores of a set of slices.

    Attributes:
        loss: mean of the three-term loss and the weight penalty.
        dice: mean over slices of the Dice coefficient at a probability of 0.5.
    """

    loss: float
    dice: float


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationTask:
    """A :class:`~mgmt_ray.training.task.Task` whose rows are slices and whose labels are masks.

    Attributes:
        network: the one that is trained; its kernels are penalised.
    """

    network: SegmentationNetwork
    config: SegmentationTraining

    def noise(self, seed: int, epoch: int) -> Callable[[int], Noise]:
        """Draw the reconstruction's normal noise, and factors of the output layers' channels."""
        latent = epoch_generator(seed, "reconstruction", epoch)
        dropped = epoch_generator(seed, "dropout", epoch)

        def draw(num_rows: int) -> Noise:
            normal = torch.randn(num_rows, NUM_LATENT, generator=latent)
            return normal, dropout_mask(num_rows, self.network.num_keep, DROPOUT, dropped)

        return draw

    def loss(self, network: nn.Module, batch: VolumeSet, noise: Noise) -> BatchLoss:
        """Return the three-term loss; the penalty of the kernels is added once per batch."""
        normal, keep = noise
        assert normal is not None and keep is not None
        device = batch.volumes.device
        images = batch.inputs(parameter_dtype(network))
        with autocast(device, self.config.precision):
            segmentation = network(images, normal.to(device), keep.to(device))
        loss = segmentation_loss(segmentation, images, batch.labels).total
        penalty = weight_penalty(self.network.penalised_kernels())
        outputs = _values(loss.detach() + penalty.detach(), segmentation, batch)
        return BatchLoss(loss.sum(), outputs, penalty)

    def train_scores(self, outputs: Float[Tensor, "row value"]) -> SegmentationScores:
        """Score the slices by the outputs of their training batches."""
        return _scores(outputs.double().cpu().numpy())

    @torch.no_grad()
    def predict(self, network: nn.Module, data: VolumeSet, seed: int) -> Float[Tensor, "row value"]:
        """Return loss and pixels per slice; the slice is rebuilt from its distribution's mean."""
        parts = [torch.empty(0, 4, dtype=torch.float64)]
        device, penalty = data.volumes.device, weight_penalty(self.network.penalised_kernels())
        batch_size = slices_per_batch(data.volumes.shape[-2:], device)
        for part in evaluation_batches(network, data, batch_size):
            images = part.inputs(parameter_dtype(network))
            with autocast(device, self.config.precision):
                segmentation = network(images, torch.zeros(len(part), NUM_LATENT, device=device))
            loss = segmentation_loss(segmentation, images, part.labels).total + penalty
            parts.append(_values(loss, segmentation, part).double().cpu())
        return torch.cat(parts)

    def validation(
        self, values: Float[Tensor, "row value"], data: VolumeSet
    ) -> tuple[SegmentationScores, Overlap]:
        """Return scores, and pixels per slice."""
        columns = values.numpy()
        return _scores(columns), Overlap(*columns[:, 1:].T.copy())


@torch.inference_mode()
def predict_tumour(
    network: SegmentationNetwork, images: Tensor, precision: Precision
) -> Float[Tensor, "slice height width"]:
    """Return probabilities of tumour, on the network's device.

    Args:
        network: in evaluation mode; its reconstruction does not run.
        images: normalised slices [slice, height, width] on any device, or
            [slice, modality, height, width].

    >>> network = SegmentationNetwork(width=8).eval()
    >>> predict_tumour(network, torch.zeros(2, 32, 40), "fp32").shape
    torch.Size([2, 32, 40])
    """
    parameter = next(network.parameters())
    parts = [torch.empty(0, *images.shape[-2:], device=parameter.device)]
    batch_size = slices_per_batch(images.shape[-2:], parameter.device)
    for rows in even_batches(np.arange(len(images)), batch_size) if len(images) else ():
        part = images[rows[0] : rows[-1] + 1].to(parameter.device, parameter.dtype)
        with autocast(parameter.device, precision):
            logits = network(part).logits
        parts.append(torch.sigmoid(logits.float()))
    return torch.cat(parts)


def _values(loss: Tensor, segmentation: Segmentation, batch: VolumeSet) -> Float[Tensor, "row 4"]:
    """Return loss, and shared, predicted and true tumour pixels."""
    predicted, truth = segmentation.logits.detach() >= 0, batch.labels > 0
    pixels = [grid.sum(dim=(1, 2)) for grid in (predicted & truth, predicted, truth)]
    return torch.stack([loss, *(number.to(loss.dtype) for number in pixels)], dim=1)


def _scores(values: np.ndarray) -> SegmentationScores:
    overlap = Overlap(*values[:, 1:].T)
    return SegmentationScores(float(values[:, 0].mean()), float(overlap.dice.mean()))
