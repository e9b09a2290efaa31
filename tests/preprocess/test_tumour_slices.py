from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.tumour_slices import slices_through_prediction, slices_through_tumour

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
