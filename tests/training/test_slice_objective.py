import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mgmt_ray.nets.myronenko import Reconstruction, Segmentation
from mgmt_ray.training.slice_objective import (
    kl_divergence,
    reconstruction_loss,
    segmentation_loss,
    slice_cross_entropy,
    soft_dice_loss,
    weight_penalty,
)
from mgmt_ray.training.volume_task import class_weights


def random_tensor(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LOGITS = random_tensor(0, 3, 6, 5)
IMAGES = random_tensor(1, 3, 6, 5)
REBUILT = random_tensor(2, 3, 6, 5)
MASKS = (random_tensor(3, 3, 6, 5) > 0.3).double()
MEAN = random_tensor(4, 3, 4)
LOG_VARIANCE = random_tensor(5, 3, 4)
MADE = Segmentation(LOGITS, Reconstruction(REBUILT, MEAN, LOG_VARIANCE))


def plain_dice(logits: np.ndarray, masks: np.ndarray) -> list[float]:
    losses = []
    for z, p in zip(logits, masks, strict=True):
        predicted = 1 / (1 + np.exp(-z))
        losses.append(1 - 2 * np.sum(p * predicted) / (np.sum(p**2) + np.sum(predicted**2) + 1e-8))
    return losses


def plain_l2(rebuilt: np.ndarray, images: np.ndarray) -> list[float]:
    return [float(np.mean((a - b) ** 2)) for a, b in zip(rebuilt, images, strict=True)]


def plain_kl(mean: np.ndarray, log_variance: np.ndarray, num_pixels: int) -> list[float]:
    variance = np.exp(log_variance)
    return list((mean**2 + variance - np.log(variance) - 1).sum(axis=1) / num_pixels)


def test_the_terms_are_their_definitions() -> None:
    loss = segmentation_loss(MADE, IMAGES, MASKS)
    dice = plain_dice(LOGITS.numpy(), MASKS.numpy())
    l2 = plain_l2(REBUILT.numpy(), IMAGES.numpy())
    kl = plain_kl(MEAN.numpy(), LOG_VARIANCE.numpy(), 30)
    assert loss.dice.tolist() == pytest.approx(dice, rel=1e-12)
    assert loss.l2.tolist() == pytest.approx(l2, rel=1e-12)
    assert loss.kl.tolist() == pytest.approx(kl, rel=1e-12)
    total = [a + 0.1 * b + 0.1 * c for a, b, c in zip(dice, l2, kl, strict=True)]
    assert loss.total.tolist() == pytest.approx(total, rel=1e-12)


def test_without_a_reconstruction_the_dice_part_remains() -> None:
    loss = segmentation_loss(Segmentation(LOGITS, None), IMAGES, MASKS)
    assert torch.equal(loss.total, loss.dice)
    assert not loss.l2.any() and not loss.kl.any()


def test_the_gradients_are_those_of_finite_differences() -> None:
    def total(logits: Tensor, rebuilt: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
        made = Segmentation(logits, Reconstruction(rebuilt, mean, log_variance))
        return segmentation_loss(made, IMAGES, MASKS).total

    inputs = [x.clone().requires_grad_() for x in (LOGITS, REBUILT, MEAN, LOG_VARIANCE)]
    assert torch.autograd.gradcheck(total, inputs)
    kernels = [random_tensor(6, 2, 2, 3, 3).requires_grad_()]
    assert torch.autograd.gradcheck(lambda kernel: weight_penalty([kernel]), kernels)
    logits = random_tensor(7, 4, 2).requires_grad_()
    labels = torch.tensor([0.0, 1.0, 1.0, 0.0])
    assert torch.autograd.gradcheck(lambda z: slice_cross_entropy(z, labels), [logits])


def test_a_perfect_prediction_has_no_dice_loss_and_an_opposite_one_has_all() -> None:
    logits = 60 * (2 * MASKS - 1)
    # sigmoid(-60) = 9e-27
    assert soft_dice_loss(logits, MASKS).tolist() == pytest.approx([0, 0, 0], abs=1e-9)
    assert soft_dice_loss(-logits, MASKS).tolist() == pytest.approx([1, 1, 1], abs=1e-9)


@pytest.mark.parametrize("level", [-200.0, 0.0, 200.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_slice_without_tumour_costs_one_and_teaches_nothing(
    level: float, dtype: torch.dtype
) -> None:
    logits = torch.full((1, 8, 8), level, dtype=dtype, requires_grad=True)
    loss = soft_dice_loss(logits, torch.zeros(1, 8, 8))
    loss.sum().backward()
    assert loss.item() == 1
    assert not logits.grad.any()


def test_a_slices_loss_does_not_depend_on_its_neighbours() -> None:
    together = segmentation_loss(MADE, IMAGES, MASKS).total
    single = Segmentation(LOGITS[1:2], Reconstruction(REBUILT[1:2], MEAN[1:2], LOG_VARIANCE[1:2]))
    assert torch.equal(segmentation_loss(single, IMAGES[1:2], MASKS[1:2]).total, together[1:2])


def test_half_precision_is_summed_in_float32() -> None:
    logits = torch.full((1, 128, 128), -3.0, dtype=torch.bfloat16)
    masks = torch.zeros(1, 128, 128, dtype=torch.uint8)
    masks[:, :64] = 1
    loss = soft_dice_loss(logits, masks)
    assert loss.dtype == torch.float32
    expected = plain_dice(np.full((1, 128, 128), -3.0), masks.double().numpy())
    # float32 rounds at 6e-8; bfloat16 would at 4e-3
    assert loss.tolist() == pytest.approx(expected, rel=1e-6)
    half = random_tensor(8, 1, 8, 8).bfloat16()
    assert reconstruction_loss(half, half + 1).dtype == torch.float32


def test_the_prior_itself_has_no_divergence_and_near_it_digits_are_kept() -> None:
    zeros = torch.zeros(1, 128)
    assert kl_divergence(zeros, zeros, 256).item() == 0
    near = torch.full((1, 128), 1e-2)
    # eˣ − x − 1 = x²/2 + x³/6 + …; by subtraction from σ² float32 would keep three digits
    expected = 128 * (1e-4 / 2 + 1e-6 / 6 + 1e-8 / 24) / 256
    assert kl_divergence(zeros, near, 256).item() == pytest.approx(expected, rel=1e-4)


def test_the_divergence_is_twice_kullback_and_leiblers_per_pixel() -> None:
    posterior = torch.distributions.Normal(MEAN, torch.exp(0.5 * LOG_VARIANCE))
    prior = torch.distributions.Normal(torch.zeros_like(MEAN), torch.ones_like(MEAN))
    expected = 2 * torch.distributions.kl_divergence(posterior, prior).sum(dim=1) / 30
    torch.testing.assert_close(kl_divergence(MEAN, LOG_VARIANCE, 30), expected)


def test_the_penalty_moves_weights_as_adam_with_twice_its_weight_decay() -> None:
    start = random_tensor(9, 4, 4, 3, 3)
    moved = []
    for decay in (0.0, 2e-3):
        kernel = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([kernel], lr=0.1, weight_decay=decay)
        for _ in range(5):
            optimizer.zero_grad()
            loss = kernel.sin().sum() + (0 if decay else weight_penalty([kernel]))
            loss.backward()
            optimizer.step()
        moved.append(kernel.detach())
    torch.testing.assert_close(moved[0], moved[1])
    assert weight_penalty([start]).item() == pytest.approx(1e-3 * (start.numpy() ** 2).sum())


def test_the_cross_entropy_is_minus_the_logarithm_of_the_softmax() -> None:
    logits = random_tensor(10, 5, 2)
    labels = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0]).double()
    powers = np.exp(logits.numpy())
    chosen = powers[np.arange(5), labels.numpy().astype(int)] / powers.sum(axis=1)
    assert slice_cross_entropy(logits, labels).tolist() == pytest.approx(list(-np.log(chosen)))
    weights = class_weights(labels)
    weighted = slice_cross_entropy(logits, labels, weights)
    expected = [-w * math.log(c) for w, c in zip((5 / 4, 5 / 6, 5 / 6, 5 / 6, 5 / 4), chosen)]  # noqa: B905
    assert weighted.tolist() == pytest.approx(expected)
