from __future__ import annotations

import numpy as np

from mgmt_ray.figures.volumes import contact_sheet, fullest_slice


def volume(middle: int) -> np.ndarray:
    """A tumour whose widest slice is ``middle``."""
    array = np.zeros((6, 8, 8), dtype=np.float32)
    array[1:5, 3:5, 3:5] = 0.5
    array[middle, 2:6, 2:6] = 0.8
    return array


def test_the_slice_with_most_tumour_is_shown() -> None:
    assert fullest_slice(volume(3)) == 3
    assert fullest_slice(np.zeros((4, 2, 2))) == 0


def test_every_volume_has_its_name_and_its_slice_on_one_grey_scale() -> None:
    volumes = np.stack([volume(2), volume(4)])
    figure = contact_sheet(volumes, ["S1 original", "S1 flip"])
    assert [axes.get_title() for axes in figure.axes] == [
        "S1 original\nslice 2",
        "S1 flip\nslice 4",
    ]
    for axes, array, middle in zip(figure.axes, volumes, (2, 4), strict=True):
        (image,) = axes.get_images()
        np.testing.assert_array_equal(image.get_array(), array[middle])
        assert image.get_clim() == (0, 1)
