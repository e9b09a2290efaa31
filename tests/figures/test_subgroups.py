from __future__ import annotations

import pandas as pd
import pytest

from mgmt_ray.figures.subgroups import subgroups_figure

NAN = float("nan")


def subgroups() -> pd.DataFrame:
    rows = [
        (attribute, level, *model, number, methylated, auc, auc - 0.1, auc + 0.1)
        for attribute, level, number, methylated, auc in (
            ("sex", "F", 25, 10, 0.6),
            ("sex", "M", 32, 14, 0.7),
            ("idh", "mutated", 2, 0, NAN),
        )
        for model in (("spottune", "best overall"), ("tumour_volume", "tumour_volume"))
    ]
    columns = ["attribute", "level", "network", "ensemble", "num_subjects", "num_methylated"]
    return pd.DataFrame(rows, columns=[*columns, "auc", "auc_low", "auc_high"])


def test_a_panel_per_model_has_a_row_per_subgroup_with_its_numbers() -> None:
    figure = subgroups_figure(subgroups())
    assert len(figure.axes) == 2
    assert figure.axes[0].get_title(loc="left") == "SpotTune · best overall"
    assert "best overall" not in figure.axes[1].get_title(loc="left")
    for axes in figure.axes:
        names = [text.get_text() for text in axes.get_yticklabels()]
        assert names == ["sex F: 10/25", "sex M: 14/32", "IDH mutated: 0/2"]
        words = [text.get_text() for text in axes.texts]
        assert words == ["0.600 [0.500, 0.700]", "0.700 [0.600, 0.800]", "a class is missing"]


def test_a_value_and_its_interval_are_drawn_in_the_row() -> None:
    axes = subgroups_figure(subgroups()).axes[0]
    squares = [line for line in axes.lines if line.get_marker() == "s"]
    assert [tuple(s.get_xydata()[0]) for s in squares] == [(0.6, 0), (0.7, 1)]
    bars = [line for line in axes.lines if line.get_linewidth() == pytest.approx(1.6)]
    bars = [bar for bar in bars if bar.get_marker() == "None" and len(set(bar.get_ydata())) == 1]
    assert [list(bar.get_xdata()) for bar in bars if 0 in bar.get_ydata()] == [
        pytest.approx([0.5, 0.7])
    ]
