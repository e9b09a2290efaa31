from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from scipy import ndimage

from mgmt_ray.base import MgmtError, stream
from mgmt_ray.synthetic.anatomy import Anatomy, anatomy_from_scan, phantom


def whole(anatomy: Anatomy) -> np.ndarray:
    """The brain on the whole grid."""
    grid = np.zeros(anatomy.grid, bool)
    grid[anatomy.box] = anatomy.brain
    return grid


def write_head(path: Path) -> Path:
    """A small ellipsoid brain of three tissues, off centre, with 4 mm voxels, facing RAS."""
    z, y, x = np.ogrid[:30, :40, :36]
    radius = np.sqrt(((z - 12) / 10) ** 2 + ((y - 22) / 14) ** 2 + ((x - 15) / 11) ** 2)
    values = np.select([radius < 0.7, radius < 0.9, radius < 1], [200.0, 120.0, 40.0], 0.0)
    values[:, 34:, :] = 0  # the brain ends early at one side, so that a wrong flip shows
    head = SimpleITK.GetImageFromArray(values.astype(np.float32))
    head.SetSpacing((4.0, 4.0, 4.0))
    head.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    head.SetOrigin((70.0, 80.0, -50.0))
    SimpleITK.WriteImage(head, str(path))
    return path


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


@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd", "mha"])
def test_a_scan_of_any_format_becomes_the_brain(tmp_path: Path, suffix: str) -> None:
    grid = (40, 48, 48)
    anatomy = anatomy_from_scan(write_head(tmp_path / f"head.{suffix}"), grid)
    brain = whole(anatomy)
    box = ndimage.find_objects(brain.astype(int))[0]
    extents = [axis.stop - axis.start for axis in box]
    # 19 × 25 × 21 voxels of the file, scaled alike to 0.92 of the grid; a voxel of rounding.
    scale = 0.92 * min(40 / 19, 48 / 25, 48 / 21)
    assert extents == pytest.approx([19 * scale, 25 * scale, 21 * scale], abs=1.5)
    middle = [(axis.start + axis.stop - 1) / 2 for axis in box]
    assert middle == pytest.approx([19.5, 23.5, 23.5], abs=1)
    depth, height, width = (n // 2 for n in anatomy.tissue.shape)
    assert anatomy.tissue[depth, height, width] == pytest.approx(1.0)
    # The rim is fluid in the file; the background beyond it must not be mixed in or left over.
    rim = anatomy.brain & ~ndimage.binary_erosion(anatomy.brain)
    assert np.median(anatomy.tissue[rim]) == pytest.approx(0.0)
    # In RAS rows run from back to front; in LPS the cut end, in front, comes first.
    first, last = brain[:, box[1].start + 1].sum(), brain[:, box[1].stop - 2].sum()
    assert first > 1.5 * last


def test_files_without_a_brain_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MgmtError, match=r"nothing\.nii\.gz: cannot be read"):
        anatomy_from_scan(tmp_path / "nothing.nii.gz", (24, 24, 24))
    for values, says in (
        (np.ones((8, 8, 8)), "contains no brain on a background of 0"),
        (np.zeros((8, 8, 8)), "contains no brain on a background of 0"),
        (np.pad(np.ones((6, 6, 6)), 2), "too few grey values"),
        (np.ones((2, 8, 8, 8)), "is not 3-D"),
    ):
        path = tmp_path / "head.nii.gz"
        SimpleITK.WriteImage(
            SimpleITK.GetImageFromArray(values.astype(np.float32), isVector=False), str(path)
        )
        with pytest.raises(MgmtError, match=says):
            anatomy_from_scan(path, (24, 24, 24))
