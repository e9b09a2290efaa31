from __future__ import annotations

from collections.abc import Callable

import elasticdeform
import numpy as np
import pytest
from scipy import ndimage

from mgmt_ray.base import stream
from mgmt_ray.preprocess import augment
from mgmt_ray.preprocess.augment import Augmented, Volumes
from mgmt_ray.preprocess.recipe import RecipeConfig
from tests.preprocess.conftest import ball

SHAPE = (10, 24, 24)
Move = Callable[[Volumes, np.ndarray, np.random.Generator], Augmented]


def tumour() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """An off-centre box with a random texture of at least 0.2, in two modalities."""
    mask = np.zeros(SHAPE, bool)
    mask[3:7, 9:14, 15:21] = True
    draws = stream(0, "test texture")
    volumes = {
        name: np.where(mask, draws.uniform(0.2, 1, SHAPE), 0).astype(np.float32)
        for name in ("T1", "T2")
    }
    return volumes, mask


def deform(volumes: Volumes, mask: np.ndarray, draws: np.random.Generator) -> Augmented:
    return augment.deform(volumes, mask, 2.0, 3, draws)


def flip(volumes: Volumes, mask: np.ndarray, draws: np.random.Generator) -> Augmented:
    return augment.flip(volumes, mask)


def centre(mask: np.ndarray) -> np.ndarray:
    """Centre of gravity relative to the grid's centre: depth, height, width."""
    return np.argwhere(mask).mean(axis=0) - (np.array(mask.shape) - 1) / 2


@pytest.mark.parametrize("move", [flip, augment.rotate, deform])
@pytest.mark.parametrize("seed", range(5))
def test_movements_keep_the_range_and_a_background_of_exactly_zero(move: Move, seed: int) -> None:
    volumes, mask = tumour()
    moved, moved_mask, _ = move(volumes, mask, np.random.default_rng(seed))
    assert moved_mask.any()
    assert not np.array_equal(moved_mask, mask)
    for name, volume in moved.items():
        assert volume.dtype == np.float32
        assert (volume[~moved_mask] == 0).all()
        # no value below the tumour's smallest: nothing was mixed with background, no halo
        assert volume[moved_mask].min() >= volumes[name][mask].min() - 1e-6
        assert volume[moved_mask].max() <= 1


@pytest.mark.parametrize("move", [augment.rotate, deform])
def test_the_rim_of_an_even_tumour_is_not_darkened(move: Move) -> None:
    _, mask = tumour()
    moved, moved_mask, _ = move({"T1": mask * np.float32(0.7)}, mask, stream(0, "test"))
    # two float32 interpolations and their quotient
    np.testing.assert_allclose(moved["T1"][moved_mask], 0.7, rtol=1e-6)


@pytest.mark.parametrize("move", [flip, augment.rotate, deform])
def test_all_modalities_make_the_same_movement(move: Move) -> None:
    volumes, mask = tumour()
    both, both_mask, both_drawn = move(volumes, mask, np.random.default_rng(1))
    for name, volume in volumes.items():
        alone, alone_mask, drawn = move({name: volume}, mask, np.random.default_rng(1))
        np.testing.assert_array_equal(alone[name], both[name])
        np.testing.assert_array_equal(alone_mask, both_mask)
        assert drawn == both_drawn


def test_flip_mirrors_left_and_right_only() -> None:
    volumes, mask = tumour()
    moved, moved_mask, drawn = augment.flip(volumes, mask)
    for depth, height, width in np.ndindex(SHAPE):
        mirrored = (depth, height, SHAPE[2] - 1 - width)
        assert moved["T1"][mirrored] == volumes["T1"][depth, height, width]
        assert moved_mask[mirrored] == mask[depth, height, width]
    assert drawn == {}


@pytest.mark.parametrize("seed", range(6))
def test_rotation_turns_the_tumour_by_the_recorded_angle_in_the_axial_plane(seed: int) -> None:
    volumes, mask = tumour()
    _, moved_mask, drawn = augment.rotate(volumes, mask, np.random.default_rng(seed))
    depth, height, width = centre(mask)
    angle = np.deg2rad(drawn["angle_degrees"])
    turned = [
        depth,
        np.cos(angle) * height - np.sin(angle) * width,
        np.sin(angle) * height + np.cos(angle) * width,
    ]
    # cutting the interpolated mask at 0.5 moves a border by half a voxel at most
    np.testing.assert_allclose(centre(moved_mask), turned, atol=0.5)


def test_rotation_angles_fill_the_whole_circle() -> None:
    volumes, mask = tumour()
    angles = [
        augment.rotate(volumes, mask, np.random.default_rng(seed))[2]["angle_degrees"]
        for seed in range(60)
    ]
    assert min(angles) < -120 and max(angles) > 120 and min(np.abs(angles)) < 20
    assert all(-180 <= angle <= 180 for angle in angles)


def test_rotation_takes_values_by_linear_interpolation_inside_the_tumour() -> None:
    volumes, mask = tumour()
    moved, _, drawn = augment.rotate(volumes, mask, np.random.default_rng(2))
    plain = ndimage.rotate(
        volumes["T1"], drawn["angle_degrees"], axes=(1, 2), reshape=False, order=1
    )
    weight = ndimage.rotate(
        mask.astype(np.float32), drawn["angle_degrees"], axes=(1, 2), reshape=False, order=1
    )
    core = weight > 0.9999
    assert core.sum() > 20
    # the weight's distance from 1, and float32
    np.testing.assert_allclose(moved["T1"][core], plain[core], atol=2e-4)


def test_noise_is_inside_the_tumour_has_its_standard_deviation_and_stays_in_range() -> None:
    mask = np.zeros((20, 40, 40), bool)
    mask[5:15, 10:30, 10:30] = True
    volume = np.where(mask, np.float32(0.5), np.float32(0))
    noisy, drawn = augment.add_noise(volume, mask, 0.05, stream(0, "test noise"))
    assert (noisy[~mask] == 0).all()
    # 4 standard errors at n = 4000: 0.05 / sqrt(2 n) and 0.05 / sqrt(n)
    assert noisy[mask].std() == pytest.approx(0.05, abs=0.0023)
    assert noisy[mask].mean() == pytest.approx(0.5, abs=0.0032)
    assert drawn == {"noise_std": 0.05}
    loud, _ = augment.add_noise(volume, mask, 1.0, stream(0, "test noise"))
    assert loud[mask].min() == 0 and loud[mask].max() == 1


@pytest.mark.parametrize(("shape", "points"), [((12, 14, 16), 2), ((10, 20, 14), 3), (SHAPE, 5)])
def test_deformation_is_that_of_elasticdeform(shape: tuple[int, int, int], points: int) -> None:
    mask = np.zeros(shape, bool)
    mask[3:8, 4:11, 5:12] = True
    draws = stream(0, "test texture", points)
    volume = np.where(mask, draws.uniform(0.2, 1, shape), 0).astype(np.float32)
    moved, moved_mask, drawn = augment.deform(
        {"T1": volume}, mask, 2.0, points, np.random.default_rng(3)
    )
    grid = np.random.default_rng(3).normal(0, 2.0, (3, points, points, points))
    bent, weight = elasticdeform.deform_grid([volume, mask.astype(np.float32)], grid, order=1)
    inside = weight >= 0.5
    np.testing.assert_array_equal(moved_mask, inside)
    # float32 rounding of coordinates that are summed in another order
    np.testing.assert_allclose(
        moved["T1"][inside], (bent / np.maximum(weight, 0.5))[inside], atol=1e-6
    )
    lengths = np.linalg.norm(grid, axis=0)
    assert drawn["largest_displacement_voxels"] == pytest.approx(lengths.max())
    assert drawn["mean_displacement_voxels"] == pytest.approx(lengths.mean())


def test_a_deformation_of_sigma_zero_changes_nothing() -> None:
    volumes, mask = tumour()
    moved, moved_mask, _ = augment.deform(volumes, mask, 0.0, 3, stream(0, "test"))
    np.testing.assert_array_equal(moved_mask, mask)
    np.testing.assert_array_equal(moved["T1"], volumes["T1"])


@pytest.mark.parametrize("seed", range(10))
def test_a_tumour_of_one_voxel_survives_a_rotation(seed: int) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[4, 14, 13] = True
    moved, moved_mask, _ = augment.rotate(
        {"T1": mask.astype(np.float32)}, mask, np.random.default_rng(seed)
    )
    assert moved_mask.any()
    np.testing.assert_allclose(moved["T1"][moved_mask], 1.0, rtol=1e-6)


def test_the_default_deformation_keeps_tumours_of_a_small_volume_together() -> None:
    mask = ball((18, 22, 22), (9, 11, 11), 6)
    volumes = {"T1": mask.astype(np.float32)}
    recipe = RecipeConfig(window=((0, 36), (0, 44), (0, 44)), shape=(18, 22, 22))

    def largest_change(sigma: float) -> float:
        changes = []
        for seed in range(20):
            _, deformed, _ = augment.deform(volumes, mask, sigma, 3, np.random.default_rng(seed))
            changes.append(abs(int(deformed.sum()) - int(mask.sum())) / int(mask.sum()))
        return max(changes)

    assert largest_change(recipe.deform_sigma_voxels) < 0.5
    assert largest_change(5.0) > 0.5
