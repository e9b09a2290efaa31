from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from mgmt_ray.base import stream
from mgmt_ray.synthetic.anatomy import Anatomy, phantom


def whole(anatomy: Anatomy) -> np.ndarray:
    """The brain on the whole grid."""
    grid = np.zeros(anatomy.grid, bool)
    grid[anatomy.box] = anatomy.brain
    return grid


@pytest.mark.parametrize("grid", [(16, 16, 16), (24, 28, 26), (44, 52, 52)])
def test_the_phantom_is_one_brain_that_fills_its_grid(grid: tuple[int, int, int]) -> None:
    anatomy = phantom(grid, stream(0, "phantom"))
    brain = whole(anatomy)
    assert ndimage.label(brain)[1] == 1
    extents = [box.stop - box.start for box in ndimage.find_objects(brain.astype(int))[0]]
    assert max(e / n for e, n in zip(extents, grid, strict=True)) > 0.85
    assert 0 <= anatomy.tissue.min() < 0.3
    assert 0.9 < anatomy.tissue.max() <= 1


def test_tumours_have_room_only_inside_the_brain_and_off_the_border() -> None:
    anatomy = phantom((24, 28, 26), stream(0, "phantom"))
    room = np.zeros(anatomy.grid, bool)
    room[anatomy.box] = anatomy.clearance_mm > 0
    assert room.any()
    assert not (room & ~whole(anatomy)).any()
    room[2:-2, 2:-2, 2:-2] = False
    assert not room.any()
