from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from mgmt_ray.base import stream
from mgmt_ray.preprocess.slice_rotation import (
    ANGLES_DEGREES,
    rotate_images,
    rotate_masks,
)

SHAPE = (70, 20, 25)
"""More slices than one block, neither square nor even."""

angles = st.floats(-180, 180)


def random_images() -> np.ndarray:
    return stream(0, "test rotate").standard_normal(SHAPE, dtype=np.float32)


def random_masks() -> np.ndarray:
    return stream(0, "test rotate masks").integers(0, 2, SHAPE, dtype=np.uint8)


def test_the_nine_angles_are_those_of_the_paper() -> None:
    assert ANGLES_DEGREES == (-20, -15, -10, -5, 0, 5, 10, 15, 20)


@pytest.mark.parametrize("angle", [*ANGLES_DEGREES, 77.7, 133.7])
def test_images_and_masks_are_rotated_as_by_scipy(angle: float) -> None:
    images, masks = random_images(), random_masks()
    turned, turned_masks = rotate_images(images, angle), rotate_masks(masks, angle)
    assert turned.dtype == np.float32 and turned_masks.dtype == np.uint8
    for i in range(0, len(images), 7):
        expected = ndimage.rotate(images[i], angle, reshape=False, order=1, mode="grid-constant")
        # four products in float32 of numbers up to 5
        np.testing.assert_allclose(turned[i], expected, atol=3e-6)
        nearest = ndimage.rotate(masks[i], angle, reshape=False, order=0, mode="grid-constant")
        np.testing.assert_array_equal(turned_masks[i], nearest)


def test_modalities_are_rotated_alike() -> None:
    images = stream(0, "test modalities").normal(size=(3, 2, 12, 10)).astype(np.float32)
    rotated = rotate_images(images, 15.0)
    for channel in (0, 1):
        alone = rotate_images(images[:, channel], 15.0)
        np.testing.assert_array_equal(rotated[:, channel], alone)


def test_rotation_by_zero_is_a_copy_equal_to_the_bit() -> None:
    images, masks = random_images(), random_masks()
    images[0, 0, 0] = -0.0
    still, still_masks = rotate_images(images, 0.0), rotate_masks(masks, 0.0)
    assert still.tobytes() == images.tobytes() and still_masks.tobytes() == masks.tobytes()
    still[:], still_masks[:] = 9, 9
    assert not (images == 9).any() and not (masks == 9).any()


@given(angle=angles, part=st.integers(1, SHAPE[0]))
def test_a_slice_is_rotated_independently_of_the_others(angle: float, part: int) -> None:
    together = rotate_images(random_images(), angle)
    alone = rotate_images(random_images()[part - 1 : part], angle)
    np.testing.assert_array_equal(alone[0], together[part - 1])


@given(angle=angles)
def test_rotation_makes_no_new_label_and_no_larger_value(angle: float) -> None:
    assert set(np.unique(rotate_masks(random_masks(), angle))) <= {0, 1}
    images = np.abs(random_images())
    turned = rotate_images(images, angle)
    assert turned.min() >= 0
    # weights sum to 1 but for float32
    assert turned.max() <= images.max() * (1 + 1e-6)
