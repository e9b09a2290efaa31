from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mgmt_ray.figures import style
from mgmt_ray.figures.precision_recall import precision_recall_figure
from mgmt_ray.figures.roc import roc_figure

ENSEMBLES = ("DSC", "DTI", "Struct", "DSC+DTI")


def test_each_curve_bounds_the_auc_that_its_legend_gives(
    predictions: pd.DataFrame, metrics: pd.DataFrame
) -> None:
    figure = roc_figure(predictions, metrics, ENSEMBLES)
    for axes, ensemble in zip(figure.axes, ENSEMBLES, strict=False):
        assert axes.get_title(loc="left") == ensemble
        rows = metrics[metrics["ensemble"] == ensemble].set_index("network")
        curves = axes.get_lines()[1:]
        texts = [text.get_text() for text in axes.get_legend().get_texts()]
        for curve, text, network in zip(curves, texts, rows.index, strict=True):
            area = np.trapezoid(curve.get_ydata(), curve.get_xdata())
            assert area == pytest.approx(rows.loc[network, "auc"])
            low, high = rows.loc[network, "auc_low"], rows.loc[network, "auc_high"]
            expected = f"{style.network_label(network)} {area:.3f} [{low:.3f}, {high:.3f}]"
            assert text == expected
            assert curve.get_color() == style.network_colour(network)


@pytest.mark.parametrize("make", [roc_figure, precision_recall_figure])
def test_titles_legends_and_panels_lie_inside_the_figure_and_do_not_overlap(
    make: object, predictions: pd.DataFrame, metrics: pd.DataFrame
) -> None:
    figure = make(predictions, metrics, ENSEMBLES)  # type: ignore[operator]
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    shown = [axes for axes in figure.axes if axes.axison]
    boxes = [axes.get_legend().get_window_extent() for axes in shown]
    boxes += [axes._left_title.get_window_extent() for axes in shown]
    boxes += [axes.get_window_extent() for axes in shown]
    boxes += [axes.xaxis.label.get_window_extent() for axes in shown]
    width, height = canvas.get_width_height()
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[:i])
