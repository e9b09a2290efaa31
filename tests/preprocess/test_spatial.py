from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmt_ray.base import stream
from mgmt_ray.preprocess.spatial import (
    ClippedTumour,
    bounding_box,
    count_clipped,
    crop,
    padding_before,
    place,
    shrink_mask,
    shrink_volume,
    tumour_window,
)


def random_tumour(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    draws = stream(0, "test tumour", *shape)
    return draws.normal(100.0, 50.0, shape).astype(np.float32), draws.random(shape) < 0.2


@pytest.mark.parametrize("shrink", [1, 2, 3])
def test_shrinking_averages_each_block_over_its_tumour_voxels(shrink: int) -> None:
    volume, mask = random_tumour((6, 12, 18))
    small = shrink_volume(volume, mask, shrink)
    small_mask = shrink_mask(mask, shrink)
    assert small.shape == tuple(n // shrink for n in volume.shape)
    for at in itertools.product(*map(range, small.shape)):
        values = []
        for step in itertools.product(range(shrink), repeat=3):
            voxel = tuple(a * shrink + s for a, s in zip(at, step, strict=True))
            if mask[voxel]:
                values.append(float(volume[voxel]))
        assert small_mask[at] == (len(values) > 0)
        # one rounding to float32 of a number near 100
        expected = sum(values) / len(values) if values else 0.0
        assert small[at] == pytest.approx(expected, abs=1e-5)


def test_background_is_exactly_zero_whatever_the_scan_holds_there() -> None:
    volume, mask = random_tumour((4, 4, 4))
    volume[~mask] = np.nan
    small = shrink_volume(volume, mask, 2)
    assert np.isfinite(small).all()
    assert (small[~shrink_mask(mask, 2)] == 0).all()


def test_integers_do_not_overflow_when_averaged() -> None:
    volume = np.full((2, 2, 2), 30_000, np.int16)
    assert shrink_volume(volume, np.ones((2, 2, 2), bool), 2).item() == 30_000


def test_bounding_box_holds_the_mask_and_nothing_more() -> None:
    mask = np.zeros((5, 6, 7), bool)
    assert bounding_box(mask) is None
    mask[1, 2, 3] = mask[3, 2, 6] = True
    assert bounding_box(mask) == ((1, 4), (2, 3), (3, 7))


@given(start=st.integers(0, 5), blocks=st.integers(1, 6), shrink=st.integers(1, 3), data=st.data())
def test_reading_only_the_tumours_part_changes_no_voxel(
    start: int, blocks: int, shrink: int, data: st.DataObject
) -> None:
    stop = start + blocks * shrink
    volume, _ = random_tumour((stop + 4, 6, 6))
    mask = np.zeros(volume.shape, bool)
    mask[data.draw(st.integers(start, stop - 1)), 4, 2] = True
    mask[data.draw(st.integers(0, stop + 3)), 1, 2] = True
    window = ((start, stop), (0, 6), (0, 6))
    box = bounding_box(mask)
    assert box is not None
    part = tumour_window(box, window, shrink)
    whole = shrink_volume(crop(volume, window), crop(mask, window), shrink)
    small = shrink_volume(crop(volume, part), crop(mask, part), shrink)
    assert small.shape[2] == 1
    depth, height, width = (
        (low - begin) // shrink for (low, _), (begin, _) in zip(part, window, strict=True)
    )
    np.testing.assert_array_equal(place(small, (depth, height, width), whole.shape), whole)


def test_clipped_voxels_are_those_outside_the_window() -> None:
    mask = np.zeros((8, 8, 8), bool)
    mask[0:4, 2, 3] = True
    assert count_clipped(mask, ((1, 7), (0, 8), (0, 8))) == 1
    assert count_clipped(mask, ((0, 8), (0, 8), (0, 3))) == 4


def test_clipped_tumour_says_who_how_much_and_what_to_do() -> None:
    error = ClippedTumour("S7", 3, 40, ((0, 9), (1, 5), (2, 6)), ((1, 7), (0, 8), (0, 8)))
    for part in ("S7", "3 of its 40", "0:9", "1:7", "recipe.window", "recipe.allow_clipping"):
        assert part in str(error)
    assert "\n" not in str(error)


def test_padding_is_shared_between_both_sides() -> None:
    assert padding_before((70, 86, 82), (70, 86, 86)) == (0, 0, 2)
    assert padding_before((3, 4, 5), (4, 4, 10)) == (0, 0, 2)
