from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.tumour_slices import (
    classifier_channels,
    slices_through_prediction,
    slices_through_tumour,
)

Areas = st.lists(st.integers(0, 30), min_size=1, max_size=40)


def squares(areas: list[int]) -> np.ndarray:
    """A slice of 5 × 6 for each number, with as many voxels of tumour."""
    masks = np.zeros((len(areas), 30), np.uint8)
    for mask, area in zip(masks, areas, strict=True):
        mask[:area] = 1
    return masks.reshape(-1, 5, 6)


def recipe_of(least: int, most: int | None = None) -> SliceRecipe:
    return SliceRecipe(least_tumour_voxels=least, most_slices=most)


@settings(deadline=None)
@given(areas=Areas, least=st.integers(1, 31), most=st.one_of(st.none(), st.integers(1, 12)))
def test_slices_have_enough_tumour_and_are_spread_over_it(
    areas: list[int], least: int, most: int | None
) -> None:
    enough = [row for row, area in enumerate(areas) if area >= least]
    rows = slices_through_tumour(squares(areas), recipe_of(least, most)).tolist()
    assert len(rows) == min(len(enough), most or 99)
    assert set(rows) <= set(enough) and rows == sorted(set(rows))
    if rows:
        places = [enough.index(row) for row in rows]
        gaps = np.diff([-1, *places, len(enough)])
        # evenly: no stretch of the tumour is left out that is longer than its share
        assert gaps.min() >= 1 and gaps.max() <= len(enough) / len(rows) + 1
        assert abs(gaps[0] - gaps[-1]) <= 1, "one end of the tumour is preferred"


@settings(deadline=None)
@given(areas=Areas, least=st.integers(1, 31), most=st.one_of(st.none(), st.integers(1, 12)))
def test_a_predicted_tumour_selects_like_a_given_one_and_always_at_least_one_slice(
    areas: list[int], least: int, most: int | None
) -> None:
    recipe = recipe_of(least, most)
    masks = squares(areas)
    probabilities = np.where(masks > 0, 0.5, 0.49).astype(np.float32)
    rows = slices_through_prediction(probabilities, recipe).tolist()
    wanted = slices_through_tumour(masks, recipe).tolist()
    assert rows == wanted if wanted else len(rows) == 1 and areas[rows[0]] == max(areas)


def test_without_any_predicted_tumour_the_likeliest_slice_is_taken() -> None:
    probabilities = np.full((4, 5, 6), 0.1, np.float32)
    probabilities[2] = 0.3
    probabilities[1, 0, 0] = 0.49
    assert slices_through_prediction(probabilities, recipe_of(3)).tolist() == [2]


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


def test_modalities_have_an_image_and_a_product_each_in_the_same_square() -> None:
    random = np.random.default_rng(0)
    images = random.normal(size=(2, 2, 8, 8)).astype(np.float32)
    probabilities = random.random((2, 8, 8)).astype(np.float32)
    made = classifier_channels(images, probabilities, 6)
    first, second = (classifier_channels(images[:, m], probabilities, 6) for m in (0, 1))
    expected = [first[:, 0], second[:, 0], first[:, 1], first[:, 2], second[:, 2]]
    np.testing.assert_array_equal(made, np.stack(expected, axis=1))


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
