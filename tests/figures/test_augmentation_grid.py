from __future__ import annotations

import numpy as np
import pytest

from mgmt_ray.figures.augmentation_grid import (
    AugmentedSubject,
    largest_slice,
    version_title,
    versions_figure,
)

NAMES = ("original", "flip", "rotate", "noise", "deform")
DRAWN = (
    {},
    {},
    {"angle_degrees": -116.84},
    {"noise_std": 0.1},
    {"mean_displacement_voxels": 7.94, "largest_displacement_voxels": 12.9},
)


def varied(subject: str, middle: int) -> AugmentedSubject:
    """The original's widest slice is ``middle``; in the others another is."""
    volumes = np.zeros((5, 6, 8, 8), np.float16)
    volumes[:, 1:5, 3:5, 3:5] = 0.5
    volumes[0, middle, 2:6, 2:6] = 0.8
    volumes[1:, 1, 1:7, 1:7] = 0.3
    drawn = [{**parameters, "clipped_voxels": 0, "tumour_voxels": 11_406} for parameters in DRAWN]
    return AugmentedSubject(subject, middle % 2, NAMES, volumes, drawn)


def test_the_slice_with_most_tumour_is_shown() -> None:
    assert largest_slice(varied("S", 3).volumes[0]) == 3
    assert largest_slice(np.zeros((4, 2, 2))) == 0


def test_all_versions_show_the_slice_in_which_the_original_has_most_tumour() -> None:
    rows = [varied("S1", 2), varied("S2", 3)]
    figure = versions_figure("T1", rows)
    assert len(figure.axes) == 10
    for row, middle, start in zip(rows, (2, 3), (0, 5), strict=True):
        for number, axes in enumerate(figure.axes[start : start + 5]):
            (image,) = axes.get_images()
            np.testing.assert_array_equal(image.get_array(), row.volumes[number, middle])
            assert image.get_clim() == (0, 1)
            assert axes.get_title().startswith(NAMES[number])
    assert figure.axes[0].get_ylabel() == "S1\nunmethylated, slice 2"
    assert figure.axes[5].get_ylabel() == "S2\nmethylated, slice 3"
    assert "T1" in figure.get_suptitle()


def test_a_value_outside_the_range_is_red() -> None:
    row = varied("S1", 2)
    row.volumes[0, 2, 3, 3] = 1.01
    row.volumes[0, 2, 4, 4] = -0.01
    (image,) = versions_figure("T1", [row]).axes[0].get_images()
    colours = image.to_rgba(image.get_array(), bytes=True)[..., :3]
    red = (colours == (255, 0, 0)).all(axis=-1)
    assert set(zip(*np.nonzero(red), strict=True)) == {(3, 3), (4, 4)}


@pytest.mark.parametrize(
    ("version", "number", "words"),
    [
        ("original", 0, "unchanged"),
        ("flip", 1, "left and right swapped"),
        ("rotate", 2, "by -116.8°"),
        ("rotate-2", 2, "by -116.8°"),
        ("noise", 3, "standard deviation 0.1"),
        ("deform", 4, "by 7.9 voxels, at most 12.9"),
    ],
)
def test_what_was_drawn_is_told_in_words(version: str, number: int, words: str) -> None:
    text = version_title(version, {**DRAWN[number], "tumour_voxels": 11_406})
    assert text == f"{version}\n{words}\ntumour 11,406 voxels"


def test_titles_of_neighbours_do_not_overlap() -> None:
    figure = versions_figure("T1", [varied("A-long-subject-id-of-40-letters-" + "x" * 8, 2)] * 3)
    figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    for i, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[:i] + boxes[i + 1 :])
