from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mgmt_ray.figures.attribution_overlay import (
    MARGIN,
    Explanation,
    NetworkSaliency,
    evenly_spaced_slices,
    fraction_inside,
    overlay_figure,
)


def explained() -> Explanation:
    """A tumour of 10 × 6 × 4 voxels whose lower half speaks for methylated."""
    volume = np.zeros((20, 24, 30), np.float32)
    volume[5:15, 8:14, 10:14] = 0.5
    saliency = np.zeros_like(volume)
    saliency[5:10] = np.where(volume[5:10] > 0, 2.0, 0.5)
    saliency[10:15] = np.where(volume[10:15] > 0, -1.0, 0.0)
    shown = {
        "spottune": NetworkSaliency(0.71, 5, saliency),
        "random": NetworkSaliency(0.4, 5, -saliency),
    }
    return Explanation("S1", 1, "PH", "occlusion", {"PH": volume}, shown)


def test_slices_divide_the_tumour_evenly() -> None:
    tumour = np.zeros((20, 8, 8), bool)
    tumour[5:15, 2:4, 2:4] = True
    assert evenly_spaced_slices(tumour) == [5, 7, 9, 11, 13]
    tumour[5:15] = False
    tumour[6, 2, 2] = True
    assert evenly_spaced_slices(tumour) == [6]


def test_share_inside_counts_saliency_of_both_signs() -> None:
    saliency = np.array([[[1.0, -3.0, 2.0, -2.0]]])
    tumour = np.array([[[True, True, False, False]]])
    assert fraction_inside(saliency, tumour) == 0.5
    assert fraction_inside(np.zeros_like(saliency), tumour) == 0


def test_the_first_row_is_the_volume_and_each_network_has_one_of_its_own() -> None:
    case = explained()
    figure = overlay_figure(case)
    panels = figure.axes[:-1]
    assert len(panels) == 15
    slices = [5, 7, 9, 11, 13]
    # the tumour is 6 rows high and 4 columns wide; a square with a margin is shown
    rows, columns = slice(8 - MARGIN, 14 + MARGIN), slice(10 - MARGIN - 1, 14 + MARGIN + 1)
    for place, number in zip(panels[:5], slices, strict=True):
        (image,) = place.get_images()
        np.testing.assert_array_equal(image.get_array(), case.channels["PH"][number][rows, columns])
    for place, number in zip(panels[5:10], slices, strict=True):
        _, over = place.get_images()
        expected = case.saliency["spottune"].volume[number][rows, columns] / 2
        np.testing.assert_array_equal(over.get_array(), expected)
        inside = case.channels["PH"][number][rows, columns] > 0
        assert (over.get_alpha()[~inside] == 0).all()
        assert (over.get_alpha()[inside] > 0).all()
    assert "SpotTune: p = 0.71" in panels[5].get_ylabel()
    assert "±2" in panels[5].get_ylabel()
    assert "From scratch: p = 0.40" in panels[10].get_ylabel()
    assert figure.get_suptitle() == "S1, methylated: PH"


def test_saliency_outside_the_tumour_is_in_the_label() -> None:
    case = explained()
    words = overlay_figure(case).axes[5].get_ylabel()
    outside = 5 * (24 * 30 - 24) * 0.5
    inside = 5 * 24 * 2.0 + 5 * 24 * 1.0
    assert f"{inside / (inside + outside):.0%} in the tumour" in words
    tumour = case.channels["PH"] > 0
    only = NetworkSaliency(0.7, 5, np.where(tumour, case.saliency["spottune"].volume, 0))
    words = overlay_figure(replace(case, saliency={"spottune": only})).axes[5].get_ylabel()
    assert "in the tumour" not in words


def test_a_tumour_at_the_border_is_shown_whole() -> None:
    volume = np.zeros((8, 10, 12), np.float32)
    volume[:, 0:9, 10:12] = 0.5
    case = replace(
        explained(),
        channels={"PH": volume},
        saliency={"random": NetworkSaliency(0.5, 1, volume)},
    )
    (image, *_) = overlay_figure(case).axes[0].get_images()
    assert np.count_nonzero(image.get_array()) == 18


@pytest.mark.parametrize(("method", "word"), [("occlusion", "occluded"), ("grad-cam", "Grad-CAM")])
def test_the_scale_says_what_colours_mean(method: str, word: str) -> None:
    bar = overlay_figure(replace(explained(), method=method)).axes[-1]
    assert word in bar.get_xlabel()
    assert [t.get_text() for t in bar.get_xticklabels()] == ["unmethylated", "0", "methylated"]
