import numpy as np
import pytest
import torch
from monai.metrics import compute_dice

from mgmt_ray.training.mask_overlap import count_overlap, dice

RANDOM = np.random.default_rng(0)
TRUTH = RANDOM.random((7, 9, 8)) < 0.4
PREDICTED = TRUTH ^ (RANDOM.random((7, 9, 8)) < 0.2)


def test_slices_agree_with_monai() -> None:
    expected = compute_dice(torch.tensor(PREDICTED[:, None]), torch.tensor(TRUTH[:, None]))
    # MONAI divides in float32
    assert count_overlap(PREDICTED, TRUTH).dice == pytest.approx(expected[:, 0].numpy(), rel=1e-6)


def test_a_volumes_coefficient_counts_its_voxels_together() -> None:
    expected = 2 * (PREDICTED & TRUTH).sum() / (PREDICTED.sum() + TRUTH.sum())
    assert dice(PREDICTED, TRUTH) == expected
    assert dice(PREDICTED, TRUTH) != pytest.approx(count_overlap(PREDICTED, TRUTH).dice.mean())


def test_empty_masks_have_the_documented_values() -> None:
    nothing, something = np.zeros((1, 4, 4), dtype=bool), np.ones((1, 4, 4), dtype=bool)
    predicted = np.concatenate([nothing, nothing, something, something])
    truth = np.concatenate([nothing, something, nothing, something])
    assert count_overlap(predicted, truth).dice.tolist() == [1, 0, 0, 1]
