from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mgmt_ray.figures.precision_recall import precision_recall_figure


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
