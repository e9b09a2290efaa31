from __future__ import annotations

import numpy as np

from mgmt_ray.preprocess.slice_channels import classifier_channels


def test_channels_are_image_probability_and_product_around_the_tumour() -> None:
    random = np.random.default_rng(0)
    image = random.normal(size=(1, 20, 24)).astype(np.float32)
    probability = np.zeros((1, 20, 24), np.float32)
    probability[0, 3:6, 15:20] = 0.9  # middle: row 4, column 17
    (square,) = classifier_channels(image, probability, 6)
    # rows 1 to 7 and columns 14 to 20 of the slice
    np.testing.assert_array_equal(square[0], image[0, 1:7, 14:20])
    np.testing.assert_array_equal(square[1], probability[0, 1:7, 14:20])
    np.testing.assert_array_equal(square[2], square[0] * square[1])


def test_what_lies_beyond_the_slice_is_zero() -> None:
    image = np.ones((1, 8, 8), np.float32)
    probability = np.zeros((1, 8, 8), np.float32)
    probability[0, 0, 0] = 1.0
    (square,) = classifier_channels(image, probability, 8)
    expected = np.zeros((8, 8))
    expected[4:, 4:] = 1
    np.testing.assert_array_equal(square[0], expected)


def test_a_slice_without_predicted_tumour_keeps_its_middle() -> None:
    image = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    (square,) = classifier_channels(image, np.full((1, 8, 8), 0.49, np.float32), 4)
    np.testing.assert_array_equal(square[0], image[0, 2:6, 2:6])
    (wide,) = classifier_channels(image, np.zeros((1, 8, 8), np.float32), 12)
    np.testing.assert_array_equal(wide[0, 2:10, 2:10], image[0])
    assert not wide[0, :2].any() and not wide[0, 10:].any()
