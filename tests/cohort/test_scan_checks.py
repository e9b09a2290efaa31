from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mgmt_ray.cohort.problem import BadScan
from mgmt_ray.cohort.scan import Grid, Scan, check_grid, check_mask, check_values

SCAN, MASK = Path("scan.nii.gz"), Path("mask.nii.gz")
AFFINE = np.array([[0.0, 0, 1, 0], [0, 1, 0, -239], [1, 0, 0, 0], [0, 0, 0, 1]])


def noise(affine: np.ndarray = AFFINE, shape: tuple[int, int, int] = (10, 12, 14)) -> Scan:
    values = np.random.default_rng(0).normal(100, 10, shape).astype(np.float32)
    return Scan(values, Grid(shape, affine))


def a_mask(*labels: int) -> Scan:
    voxels = np.zeros((10, 12, 14), np.uint8)
    for number, label in enumerate(labels):
        voxels[4:6, 5:8, 5 + number] = label
    return Scan(voxels, Grid((10, 12, 14), AFFINE))


def test_an_image_and_its_mask_pass() -> None:
    check_grid(noise(), a_mask(2), SCAN, MASK)
    check_values(noise(), SCAN)
    check_mask(a_mask(1, 2, 4), MASK, (1, 2, 4))


def test_a_constant_image_is_rejected() -> None:
    with pytest.raises(BadScan, match=r"^scan.nii.gz: every voxel is 7\."):
        check_values(Scan(np.full((2, 2, 2), 7), Grid((2, 2, 2), AFFINE)), SCAN)


def test_an_empty_mask_is_rejected() -> None:
    with pytest.raises(BadScan, match=r"^mask.nii.gz: the mask marks no tumour"):
        check_mask(a_mask(), MASK, (1, 2, 4))


def test_unknown_labels_of_a_mask_are_named() -> None:
    with pytest.raises(BadScan, match="the mask has labels 3, 9; known are 0, 1, 2, 4"):
        check_mask(a_mask(1, 3, 9), MASK, (1, 2, 4))
    check_mask(a_mask(1, 3, 9), MASK, (1, 3, 9))
    negative = Scan(-a_mask(1).voxels.astype(np.int16), Grid((10, 12, 14), AFFINE))
    with pytest.raises(BadScan, match=r"labels -1; known .*what is below 0 to 0"):
        check_mask(negative, MASK, (1, 2, 4))


def test_a_mask_of_fractions_is_rejected() -> None:
    blurred = Scan(a_mask(1).voxels * 0.5, Grid((10, 12, 14), AFFINE))
    with pytest.raises(BadScan, match=r"labels 0\.5; known .*nearest neighbour"):
        check_mask(blurred, MASK, (1, 2, 4))
    close = Scan(np.where(blurred.voxels, 3.9999998, 0.0), blurred.grid)
    with pytest.raises(BadScan, match=r"labels 3\.9999998; known"):
        check_mask(close, MASK, (1, 2, 4))


def moved(*changes: tuple[int, int, float]) -> np.ndarray:
    affine = AFFINE.copy()
    for row, column, value in changes:
        affine[row, column] = value
    return affine


SINE, COSINE = np.sin(np.deg2rad(1)), np.cos(np.deg2rad(1))
TURNED = moved((0, 1, SINE), (0, 2, COSINE), (1, 1, COSINE), (1, 2, -SINE))


@pytest.mark.parametrize(
    ("scan", "says"),
    [
        (noise(shape=(10, 12, 13)), "size 10×12×13 against 10×12×14 voxels"),
        (noise(moved((2, 0, 1.001))), "spacing (mm) 1.001 1 1 against 1 1 1"),
        (noise(moved((1, 3, -238.8))), "origin (mm) 0 -238.8 0 against 0 -239 0"),
        (noise(TURNED), "direction 0 0 1 0.0174524 0.999848 0"),
    ],
    ids=["size", "spacing", "origin", "direction"],
)
def test_another_grid_is_rejected(scan: Scan, says: str) -> None:
    with pytest.raises(BadScan) as error:
        check_grid(scan, a_mask(2), SCAN, MASK)
    assert error.value.kind == "other_grid"
    assert f"is not on the grid of its mask mask.nii.gz: {says}" in str(error.value)
    assert "recipe.resample" in str(error.value)


def test_the_rounding_of_a_header_is_forgiven() -> None:
    # float32 keeps 239 to 1.5e-5; a quaternion's fourth component loses up to 3e-4.
    moved = AFFINE + np.array([[0, 3e-4, 0, 0], [0, 0, -3e-4, 2e-5], [1e-7, 0, 0, 0], [0, 0, 0, 0]])
    check_grid(noise(moved), a_mask(2), SCAN, MASK)
