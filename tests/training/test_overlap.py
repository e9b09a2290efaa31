import numpy as np
import pytest
import torch
from monai.metrics import compute_dice

from mgmt_ray.training.overlap import dice, dice_per_patient, dice_per_slice

RANDOM = np.random.default_rng(0)
TRUTH = RANDOM.random((7, 9, 8)) < 0.4
PREDICTED = TRUTH ^ (RANDOM.random((7, 9, 8)) < 0.2)


def test_slices_agree_with_monai() -> None:
    expected = compute_dice(torch.tensor(PREDICTED[:, None]), torch.tensor(TRUTH[:, None]))
    # MONAI divides in float32
    assert dice_per_slice(PREDICTED, TRUTH) == pytest.approx(expected[:, 0].numpy(), rel=1e-6)


def test_a_volumes_coefficient_counts_its_voxels_together() -> None:
    expected = 2 * (PREDICTED & TRUTH).sum() / (PREDICTED.sum() + TRUTH.sum())
    assert dice(PREDICTED, TRUTH) == expected
    assert dice(PREDICTED, TRUTH) != pytest.approx(dice_per_slice(PREDICTED, TRUTH).mean())


def test_a_patients_coefficient_counts_its_slices_together_in_any_order() -> None:
    patients = ["b", "a", "b", "b", "a", "c", "a"]
    found = dice_per_patient(PREDICTED, TRUTH, patients)
    assert list(found) == ["a", "b", "c"]
    for name, value in found.items():
        own = np.array(patients) == name
        assert value == dice(PREDICTED[own], TRUTH[own])


def test_empty_masks_have_the_documented_values() -> None:
    nothing, something = np.zeros((1, 4, 4), dtype=bool), np.ones((1, 4, 4), dtype=bool)
    predicted = np.concatenate([nothing, nothing, something, something])
    truth = np.concatenate([nothing, something, nothing, something])
    assert dice_per_slice(predicted, truth).tolist() == [1, 0, 0, 1]
    assert dice_per_patient(predicted, truth, list("abcd")) == {"a": 1, "b": 0, "c": 0, "d": 1}


def test_a_name_too_few_is_refused() -> None:
    with pytest.raises(AssertionError, match="6 patients' names for 7 slices"):
        dice_per_patient(PREDICTED, TRUTH, list("aaabbb"))
