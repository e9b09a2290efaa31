from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmt_ray.base import stream
from mgmt_ray.cohort.problem import BadScan
from mgmt_ray.cohort.scan import Grid, Scan
from mgmt_ray.preprocess.spatial import (
    bounding_box,
    check_window,
    count_outside,
    crop,
    paste,
    resample,
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
    integers = np.full((2, 2, 2), 30_000, np.int16)  # whose sum overflows
    assert shrink_volume(integers, np.ones((2, 2, 2), bool), 2).item() == 30_000
    volume, mask = random_tumour((4, 4, 4))
    volume[~mask] = np.nan
    small = shrink_volume(volume, mask, 2)
    assert np.isfinite(small).all()
    assert (small[~shrink_mask(mask, 2)] == 0).all()


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
    np.testing.assert_array_equal(paste(small, (depth, height, width), whole.shape), whole)


MASK = Path("S7_mask.nii.gz")
WINDOW = ((1, 7), (0, 8), (0, 8))


def test_clipped_tumour_says_which_how_much_and_what_to_do() -> None:
    mask = np.zeros((8, 8, 8), bool)
    mask[0:4, 2, 3:5] = True
    with pytest.raises(BadScan) as error:
        check_window(mask, WINDOW, allow_clipping=False, path=MASK)
    message = str(error.value)
    for part in ("S7", "2 of its 8", "0:4, 2:3", "1:7", "recipe.window", "recipe.allow_clipping"):
        assert part in message
    assert "\n" not in message and error.value.kind == "clipped"
    assert check_window(mask, WINDOW, allow_clipping=True, path=MASK) == 2


@pytest.mark.parametrize(
    ("tumour", "size", "kind", "message"),
    [
        (slice(0, 1), 8, "clipped", "8 of its 8"),
        (slice(0, 0), 8, "empty_mask", "no tumour"),
        (slice(2, 3), 6, "small_scan", "reaches beyond the scan of 6×8×8"),
    ],
)
def test_a_window_that_keeps_nothing_or_reaches_too_far_is_never_accepted(
    tumour: slice, size: int, kind: str, message: str
) -> None:
    mask = np.zeros((size, 8, 8), bool)
    mask[tumour, 2] = True
    with pytest.raises(BadScan, match=message) as error:
        check_window(mask, WINDOW, allow_clipping=True, path=MASK)
    assert error.value.kind == kind and "allow_clipping" not in str(error.value)


def tilted(shape: tuple[int, int, int], at: tuple[float, float, float]) -> Grid:
    """A grid of 1.5 × 0.7 × 0.9 mm, tilted by 0.3 rad, begun at voxel ``at``."""
    c, s = np.cos(0.3), np.sin(0.3)
    affine = np.eye(4)
    affine[:3, :3] = [[0, -0.7 * s, 0.9 * c], [0, 0.7 * c, 0.9 * s], [1.5, 0, 0]]
    affine[:3, 3] = affine[:3, :3] @ at + [-120.0, 33.0, 7.0]
    return Grid(shape, affine)


def test_a_scan_shifted_by_whole_voxels_is_moved_exactly_and_is_zero_where_it_does_not_reach() -> (
    None
):
    shape = (6, 7, 8)
    scan = Scan(stream(0, "test scan").integers(1, 2000, shape, np.int16), tilted(shape, (0, 0, 0)))
    shift, window = (2, -1, 3), ((1, 6), (0, 7), (2, 8))
    moved = resample(scan, tilted(shape, shift), window)
    expected = np.zeros((5, 7, 6), np.float32)
    for voxel in np.ndindex(expected.shape):
        source = tuple(v + w[0] + s for v, w, s in zip(voxel, window, shift, strict=True))
        if all(0 <= i < n for i, n in zip(source, shape, strict=True)):
            expected[voxel] = scan.voxels[source]
    assert 0 < np.count_nonzero(expected) < expected.size
    # origins of 100 mm in float64, steps of up to 2000 per voxel: 1e-13 × 2000, then float32
    np.testing.assert_allclose(moved, expected, rtol=1e-6, atol=1e-9)
    assert ((moved == 0) == (expected == 0)).all()


def test_between_voxels_a_scan_is_interpolated_linearly() -> None:
    shape, finer = (6, 7, 8), Grid((9, 9, 9), np.diag([0.5, 0.6, 0.7, 1.0]))
    values = np.array([3.0, -5.0, 7.0])
    ramp = np.tensordot(values, np.indices(shape), 1).astype(np.float32)
    fine = resample(Scan(ramp, Grid(shape, np.eye(4))), finer, ((2, 9), (0, 9), (1, 8)))
    millimetres = np.indices((9, 9, 9))[:, 2:9, 0:9, 1:8] * np.reshape(
        [0.5, 0.6, 0.7], (3, 1, 1, 1)
    )
    # single precision of numbers up to 40
    np.testing.assert_allclose(fine, np.tensordot(values, millimetres, 1), atol=1e-5)


def test_a_scan_reaches_half_a_voxel_beyond_its_outermost_centres() -> None:
    scan = Scan(np.full((2, 2, 2), 5, np.int16), Grid((2, 2, 2), np.eye(4)))
    steps = Grid((2, 2, 10), np.diag([1.0, 1.0, 0.4, 1.0]))
    row = resample(scan, steps, ((0, 2), (0, 2), (0, 10)))[1, 1]
    # at 0, 0.4, 0.8, 1.2 inside; 1.6 and beyond is not
    np.testing.assert_array_equal(row, [5, 5, 5, 5, 0, 0, 0, 0, 0, 0])
    assert count_outside(scan.grid, steps, np.ones((2, 2, 10), bool)) == 6 * 4


def test_a_scan_on_the_same_grid_is_not_changed() -> None:
    scan = Scan(
        stream(0, "test scan").integers(0, 9, (3, 4, 5), np.int16), tilted((3, 4, 5), (0, 0, 0))
    )
    same = resample(scan, tilted((3, 4, 5), (0, 0, 0)), ((0, 3), (1, 3), (0, 5)))
    assert same.dtype == np.int16
    np.testing.assert_array_equal(same, scan.voxels[:, 1:3])
