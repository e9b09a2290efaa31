from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.contour import QuadContourSet

from mgmt_ray.figures.segmentation_plots import (
    GIVEN_COLOUR,
    PREDICTED_COLOUR,
    SegmentedSlice,
    dice_figure,
    segmented_figure,
)


def test_patients_stand_from_worst_to_best_with_the_span_of_their_models() -> None:
    patients = pd.DataFrame(
        {
            "network": "chen",
            "modality": ["FLAIR", "FLAIR", "FLAIR", "T1GD"],
            "subject": ["A", "B", "C", "A"],
            "dice_volume": [0.9, 0.0, 0.8, 0.5],
            "dice_least": [0.85, 0.0, 0.7, 0.5],
            "dice_most": [0.95, 0.0, 0.9, 0.5],
        }
    )
    figure = dice_figure(patients)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["FLAIR: mean 0.567 (n = 3)", "T1GD: mean 0.500 (n = 1)"]
    spans, dots = figure.axes[0].collections
    np.testing.assert_allclose(dots.get_offsets(), [[1, 0], [2, 0.8], [3, 0.9]])
    ends = [segment[:, 1].tolist() for segment in spans.get_segments()]
    assert ends == [[0.0, 0.0], [0.7, 0.9], [0.85, 0.95]]


def example(predicted: float = 1.0, border: bool = False) -> SegmentedSlice:
    """A square of tumour; the prediction is two rows lower."""
    given, probability = np.zeros((20, 30), np.uint8), np.zeros((20, 30))
    columns = slice(0, 12) if border else slice(8, 20)
    given[5:10, columns] = 1
    probability[7:12, columns] = predicted
    image = np.linspace(-1, 1, 600).reshape(20, 30)
    return SegmentedSlice("FLAIR: worst", "S1, slice 4\n3-D Dice 0.6", image, given, probability)


def outlines(one: SegmentedSlice) -> dict[str, np.ndarray]:
    """Points of each outline by colour."""
    (axes,) = segmented_figure([one], 1).axes
    found = [c for c in axes.collections if isinstance(c, QuadContourSet)]
    return {
        to_hex(c.get_edgecolor()[0]).upper(): np.concatenate([p.vertices for p in c.get_paths()])
        for c in found
    }


def test_each_outline_runs_between_its_tumour_and_what_is_none() -> None:
    found = outlines(example())
    assert {*found} == {GIVEN_COLOUR, PREDICTED_COLOUR}
    for colour, first in ((GIVEN_COLOUR, 5), (PREDICTED_COLOUR, 7)):
        points = found[colour]
        # pixel n covers n − 0.5 to n + 0.5; rows 5 to 9 and columns 8 to 19 are tumour
        assert points[:, 1].min() == pytest.approx(first - 0.5)
        assert points[:, 1].max() == pytest.approx(first + 4.5)
        assert (points[:, 0].min(), points[:, 0].max()) == pytest.approx((7.5, 19.5))


def test_an_outline_at_the_border_is_closed_inside_the_picture() -> None:
    points = outlines(example(border=True))[GIVEN_COLOUR]
    assert points[:, 0].min() == pytest.approx(-0.5)
    (axes,) = segmented_figure([example(border=True)], 1).axes
    assert axes.get_xlim() == (-0.5, 29.5) and axes.get_ylim() == (19.5, -0.5)


def test_what_the_scan_does_not_show_is_cut_away_or_black() -> None:
    one = example()
    image = np.zeros((20, 30))
    image[2:15, 6:25] = np.linspace(-1, 1, 13 * 19).reshape(13, 19)
    image[3, 7] = 0
    (axes,) = segmented_figure([replace(one, image=image)], 1).axes
    shown = axes.get_images()[0]
    assert shown.get_array().shape == (13 + 4, 19 + 4)
    assert shown.get_array()[3, 3] == shown.get_array()[0, 0] == shown.get_clim()[0] < -0.9


def test_nothing_predicted_is_no_outline_and_no_warning() -> None:
    assert {*outlines(example(predicted=0.49))} == {GIVEN_COLOUR}


def test_words_stand_below_pictures_and_in_the_figure() -> None:
    figure = segmented_figure([example()] * 6, 3)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [axes.get_window_extent() for axes in figure.axes]
    boxes += [axes.xaxis.label.get_window_extent() for axes in figure.axes]
    boxes += [axes._left_title.get_window_extent() for axes in figure.axes]
    boxes += [legend.get_window_extent() for legend in figure.legends]
    assert figure.axes[0].get_xlabel().startswith("S1, slice 4")
    width, height = canvas.get_width_height()
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[:i])
