"""The losses of training on slices (Chen et al. 2020, sec. 2.3 and 2.4).

All values are per slice, at least in float32. The loss of a batch is their mean, so that a slice's
share depends neither on the rest of the batch nor on how workers share it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn.functional import cross_entropy

from mgmt_ray.nets.myronenko import Segmentation, Slices, at_least_float32

DICE_EPSILON = 1e-8
RECONSTRUCTION_WEIGHT = 0.1
KL_WEIGHT = 0.1
PENALTY_WEIGHT = 1e-3
"""Of the squares of the output layers' kernels."""


class SegmentationLoss(NamedTuple):
    """The parts of eq. 1 of Chen et al. 2020, per slice.

    Attributes:
        total: dice + 0.1·l2 + 0.1·kl; dice alone without a reconstruction.
        dice: one minus the soft Dice coefficient, in [0, 1].
        l2: mean squared error of the reconstruction; 0 without one.
        kl: divergence from the standard normal prior, per pixel; 0 without a reconstruction.
    """

    total: Float[Tensor, " batch"]
    dice: Float[Tensor, " batch"]
    l2: Float[Tensor, " batch"]
    kl: Float[Tensor, " batch"]


def segmentation_loss(
    segmentation: Segmentation,
    images: Slices,
    masks: Num[Tensor, "batch height width"],
) -> SegmentationLoss:
    """Return the three-term loss, eq. 1 of Chen et al. 2020, without :func:`weight_penalty`.

    Args:
        masks: 1 where there is tumour, else 0.

    >>> masks = torch.eye(8).expand(2, 8, 8)
    >>> segmentation = Segmentation(logits=100 * (masks - 0.5), reconstruction=None)
    >>> segmentation_loss(segmentation, masks, masks).total.tolist()
    [0.0, 0.0]
    """
    dice = soft_dice_loss(segmentation.logits, masks)
    rebuilt = segmentation.reconstruction
    if rebuilt is None:
        return SegmentationLoss(dice, dice, torch.zeros_like(dice), torch.zeros_like(dice))
    l2 = reconstruction_loss(rebuilt.images, images)
    kl = kl_divergence(rebuilt.mean, rebuilt.log_variance, num_pixels=masks[0].numel())
    return SegmentationLoss(dice + RECONSTRUCTION_WEIGHT * l2 + KL_WEIGHT * kl, dice, l2, kl)


def soft_dice_loss(
    logits: Float[Tensor, "batch height width"], masks: Num[Tensor, "batch height width"]
) -> Float[Tensor, " batch"]:
    """Return 1 − 2·Σ p·p̂ / (Σ p² + Σ p̂² + ε) over a slice's pixels, ε = 1e-8.

    Eq. 2 of Chen et al. 2020 with its sums where Myronenko 2018 has them: as printed, the sum is of
    the fraction. Per slice, so that slices with little tumour count as much as others. The loss of
    a slice without tumour is 1 whatever is predicted, and its gradient is 0.

    Args:
        logits: of the predicted probabilities p̂.
        masks: p, 1 where there is tumour, else 0.

    >>> soft_dice_loss(torch.zeros(1, 2, 2), torch.tensor([[[1, 0], [0, 0]]])).tolist()
    [0.5]
    """
    probability = torch.sigmoid(at_least_float32(logits))
    truth = masks.to(probability.dtype)
    shared = (truth * probability).sum(dim=(1, 2))
    sizes = truth.square().sum(dim=(1, 2)) + probability.square().sum(dim=(1, 2))
    return 1 - 2 * shared / (sizes + DICE_EPSILON)


def reconstruction_loss(rebuilt: Slices, images: Slices) -> Float[Tensor, " batch"]:
    """Return the mean squared error over a slice's pixels in all of its modalities.

    Myronenko 2018 prints the squared norm, a sum. Its weight of 0.1 relative to a Dice loss of at
    most 1 only fits the mean, which his published code (MONAI's ``SegResNetVAE``) uses too.

    >>> reconstruction_loss(torch.zeros(1, 4, 4), torch.full((1, 4, 4), 2.0)).tolist()
    [4.0]
    """
    squares = (at_least_float32(rebuilt) - at_least_float32(images)).square()
    return squares.mean(dim=tuple(range(1, squares.ndim)))


def kl_divergence(
    mean: Float[Tensor, "batch latent"],
    log_variance: Float[Tensor, "batch latent"],
    num_pixels: int,
) -> Float[Tensor, " batch"]:
    """Return 1/N·Σ (μ² + σ² − log σ² − 1) over the latent variables, N the pixels of a slice.

    Myronenko 2018, sec. 2.4: twice the divergence of N(μ, σ²) from N(0, 1), over N.

    Args:
        mean: μ.
        log_variance: log σ².
        num_pixels: N.

    >>> kl_divergence(torch.ones(1, 128), torch.zeros(1, 128), num_pixels=64).tolist()
    [2.0]
    """
    mean, log_variance = at_least_float32(mean), at_least_float32(log_variance)
    # expm1 because σ² − 1 would lose its digits near the prior, σ² = 1
    terms = mean.square() + torch.expm1(log_variance) - log_variance
    return terms.sum(dim=1) / num_pixels


def weight_penalty(kernels: Iterable[Tensor]) -> Float[Tensor, ""]:
    """Return 0.001 · Σ w², added once to the loss of a batch.

    Keras's ``l2``, which adds to the loss and leaves out biases. Chen et al. 2020, sec. 2.3, apply
    it to the 3×3 convolutions of both output layers and nowhere else
    (:meth:`mgmt_ray.nets.myronenko.SegmentationNetwork.penalised_kernels`). In Adam a
    ``weight_decay`` of twice this weight would have the same gradient, but need a separate
    parameter group, and would not appear in the recorded loss.

    >>> round(weight_penalty([torch.full((1, 1, 3, 3), 2.0)]).item(), 6)
    0.036
    """
    squares = [at_least_float32(kernel).square().sum() for kernel in kernels]
    return PENALTY_WEIGHT * torch.stack(squares).sum()


def slice_cross_entropy(
    logits: Float[Tensor, "batch class"],
    labels: Float[Tensor, " batch"],
    weights: Float[Tensor, "2"] | None = None,
) -> Float[Tensor, " batch"]:
    """Return the cross-entropy of the softmax over two classes, in nats.

    Args:
        labels: 1 methylated, 0 unmethylated.
        weights: per class, see :func:`mgmt_ray.training.volume_task.class_weights`; None counts
            every slice once.

    >>> slice_cross_entropy(torch.zeros(2, 2), torch.tensor([0.0, 1.0]))
    tensor([0.6931, 0.6931])
    """
    exact = at_least_float32(logits)
    weight = None if weights is None else weights.to(exact.dtype)
    return cross_entropy(exact, labels.long(), weight, reduction="none")
