from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mgmt_ray.base import stream
from mgmt_ray.figures import style
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.figures.roc_and_pr import (
    _OTHERS,
    precision_recall_figure,
    roc_figure,
    slice_roc_figure,
)
from mgmt_ray.statistics.slice_classification import best_slice_models

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
            expected = f"{network_label(network)} {area:.3f} [{low:.3f}, {high:.3f}]"
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


def test_steps_bound_the_average_precision_and_the_dotted_line_is_the_prevalence(
    predictions: pd.DataFrame, metrics: pd.DataFrame
) -> None:
    figure = precision_recall_figure(predictions, metrics, ["DTI"])
    (axes,) = figure.axes
    prevalence, *curves = axes.get_lines()
    assert set(prevalence.get_ydata()) == {12 / 30}
    rows = metrics[metrics["ensemble"] == "DTI"]
    for curve, (_, row) in zip(curves, rows.iterrows(), strict=True):
        assert curve.get_drawstyle() == "steps-pre"
        recall, precision = curve.get_xdata(), curve.get_ydata()
        assert (np.diff(recall) * precision[1:]).sum() == pytest.approx(row["ap"])
        assert f"{row['ap']:.3f} [{row['ap_low']:.3f}, {row['ap_high']:.3f}]" in curve.get_label()


def slices(outers: tuple[int, ...] = (0,), lonely: str = "") -> pd.DataFrame:
    """Two models per split and modality; all of the phase ``lonely`` are methylated."""
    draws = stream(0, "slices")
    rows = []
    for modality in ("FLAIR", "T1GD"):
        for outer in outers:
            for fold in range(2):
                for split in ("train", "validation", "test"):
                    for subject in range(8):
                        label = 1 if split == lonely else subject % 2
                        for depth in range(3):
                            rows.append(
                                {
                                    "subject": f"{split}{subject}",
                                    "depth": depth,
                                    "split": split,
                                    "outer_fold": outer,
                                    "fold": fold,
                                    "network": "chen",
                                    "modality": modality,
                                    "trial": f"{modality}_{outer}_{fold}",
                                    "probability": draws.uniform() * 0.8 + 0.2 * label,
                                    "label": label,
                                }
                            )
    return pd.DataFrame(rows)


def test_each_curve_bounds_the_area_of_the_best_model_that_its_legend_gives() -> None:
    data = slices()
    best = best_slice_models(data)
    figure = slice_roc_figure(data, best)
    panels = [(m, level) for m in ("FLAIR", "T1GD") for level in ("slice", "patient")]
    for axes, (modality, level) in zip(figure.axes, panels, strict=True):
        rows = best[(best["modality"] == modality) & (best["level"] == level)]
        own = rows.set_index("phase")
        fold = own["fold"].iloc[0]
        assert axes.get_title(loc="left") == f"{modality}, by {level} (fold {fold})"
        shown = {line.get_label().split(" ")[0]: line for line in axes.get_lines()}
        for phase, word in (("train", "training"), ("validation", "validation"), ("test", "test")):
            line = shown[word] if phase != "test" else _test_line(axes)
            area = np.trapezoid(line.get_ydata(), line.get_xdata())
            assert area == pytest.approx(own.loc[phase, "auc"])
            assert f"{area:.3f}" in line.get_label()
        low, high = own.loc["test", "auc_low"], own.loc["test", "auc_high"]
        assert f"[{low:.3f}, {high:.3f}]" in _test_line(axes).get_label()


def _test_line(axes: object) -> object:
    (line,) = [
        line
        for line in axes.get_lines()  # type: ignore[attr-defined]
        if line.get_label().startswith("test ")
    ]
    return line


def test_other_models_are_shown_on_the_test_patients() -> None:
    data = slices()
    best = best_slice_models(data)
    axes = slice_roc_figure(data, best).axes[0]
    other = ({"FLAIR_0_0", "FLAIR_0_1"} - {*best[best["modality"] == "FLAIR"]["trial"]}).pop()
    rows = data[(data["trial"] == other) & (data["split"] == "test")]
    grey = axes.get_lines()[1]
    last = _test_line(axes)
    assert len(grey.get_xdata()) <= len(rows) + 1 and grey.get_color() != last.get_color()
    assert "test, models of other folds and seeds" in [
        text.get_text() for text in axes.get_legend().get_texts()
    ]


def test_several_splits_have_panels_of_their_own() -> None:
    data = slices(outers=(0, 1))
    figure = slice_roc_figure(data, best_slice_models(data))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert len(titles) == 8
    assert titles[0].startswith("FLAIR, split 0, by slice")
    assert titles[3].startswith("FLAIR, split 1, by patient")


def test_models_of_other_splits_have_no_curve_on_a_splits_test_patients() -> None:
    data = slices(outers=(0, 1))
    for axes in slice_roc_figure(data, best_slice_models(data)).axes:
        # of two folds the other one; the legend's sample has no points
        drawn = [line for line in axes.get_lines() if len(line.get_xdata())]
        assert sum(line.get_color() == _OTHERS["color"] for line in drawn) == 1


def test_a_phase_of_one_class_has_no_curve_and_the_legend_says_so() -> None:
    data = slices(lonely="validation")
    axes = slice_roc_figure(data, best_slice_models(data)).axes[0]
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "validation (one class only)" in words


def test_panels_and_legends_do_not_overlap() -> None:
    data = slices()
    figure = slice_roc_figure(data, best_slice_models(data))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [axes.get_window_extent() for axes in figure.axes]
    boxes += [axes.get_legend().get_window_extent() for axes in figure.axes]
    boxes += [axes._left_title.get_window_extent() for axes in figure.axes]
    width, height = canvas.get_width_height()
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[:i])
