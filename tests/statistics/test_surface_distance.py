import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance
from scipy.ndimage import gaussian_filter

from mgmt_ray.statistics.surface_distance import hd95


def blobs(seed: int, *shape: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(shape)
    return gaussian_filter(noise, 2.0) > 0.05


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("shape", "spacing_mm"), [((24, 30), (1.0, 1.0)), ((12, 20, 24), (3.0, 1.0, 0.5))]
)
def test_distances_agree_with_monai(
    seed: int, shape: tuple[int, ...], spacing_mm: tuple[float, ...]
) -> None:
    predicted, truth = blobs(seed, *shape), blobs(seed + 100, *shape)
    expected = compute_hausdorff_distance(
        torch.tensor(predicted[None, None]),
        torch.tensor(truth[None, None]),
        percentile=95,
        spacing=spacing_mm,
    ).item()
    # MONAI's distances are float32
    assert hd95(predicted, truth, spacing_mm) == pytest.approx(expected, rel=1e-6)


def test_a_shift_is_measured_along_its_axis_in_mm() -> None:
    truth = np.zeros((20, 20), dtype=bool)
    truth[5:12, 5:12] = True
    assert hd95(np.roll(truth, 3, axis=0), truth, (2.0, 1.0)) == 6
    assert hd95(np.roll(truth, 3, axis=1), truth, (2.0, 1.0)) == 3
    assert hd95(truth, truth, (2.0, 1.0)) == 0


def test_the_larger_of_the_two_directions_counts() -> None:
    truth = np.zeros((40, 40), dtype=bool)
    truth[5:10, 5:10] = True
    predicted = truth.copy()
    predicted[5:10, 30:35] = True  # half of the predicted surface is 21 to 25 pixels away
    assert 21 <= hd95(predicted, truth, (1.0, 1.0)) <= 25
    assert hd95(truth, predicted, (1.0, 1.0)) == hd95(predicted, truth, (1.0, 1.0))


def test_five_percent_of_the_surface_may_stray() -> None:
    truth = np.zeros((100, 100), dtype=bool)
    truth[20:60, 20:60] = True  # 156 pixels of surface
    predicted = truth.copy()
    predicted[90, 90:96] = True  # 6 of 162
    assert hd95(predicted, truth, (1.0, 1.0)) == 0
    predicted[92, 90:96] = True  # 12 of 168
    assert hd95(predicted, truth, (1.0, 1.0)) > 40


def test_empty_masks_have_the_documented_values() -> None:
    nothing = np.zeros((30, 40), dtype=bool)
    something = nothing.copy()
    something[3, 3] = True
    pairs = [(nothing, nothing), (nothing, something), (something, nothing)]
    assert [hd95(*pair, (1.0, 1.0)) for pair in pairs] == [0, 50, 50]
    volume = np.zeros((240, 240, 155), dtype=bool)
    other = volume.copy()
    other[0, 0, 0] = True
    assert hd95(volume, other, (1.0, 1.0, 1.0)) == pytest.approx(373.13, abs=0.005)
