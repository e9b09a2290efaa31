from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mgmt_ray.figures.interval_plots import SOURCES, subgroups_figure, variance_figure

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


def variance() -> pd.DataFrame:
    deviations = {"draws": 0.01, "folds": 0.04, "seeds": float("nan"), "subjects": 0.07}
    rows = [
        (network, ensemble, source, 1 if source == "seeds" else 5, deviation * (1 + number))
        for network in ("spottune", "random")
        for number, ensemble in enumerate(("DSC", "PH"))
        for source, deviation in deviations.items()
    ]
    rows += [("age_sex", "age_sex", source, 5, d) for source, d in deviations.items()]
    columns = ["network", "ensemble", "source", "num", "auc_std"]
    return pd.DataFrame(rows, columns=columns)


def test_each_source_stands_at_its_deviation_in_its_ensembles_row() -> None:
    figure = variance_figure(variance())
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["SpotTune", "From scratch", "Baseline models"]
    for axes in figure.axes[:2]:
        assert [text.get_text() for text in axes.get_yticklabels()] == ["DSC", "PH"]
        shown = dict(zip(SOURCES, axes.collections, strict=True))
        for source, deviation in (("draws", 0.01), ("folds", 0.04), ("subjects", 0.07)):
            offsets = np.asarray(shown[source].get_offsets())
            np.testing.assert_allclose(offsets, [[deviation, 0], [2 * deviation, 1]])
    assert len(figure.axes[2].get_yticklabels()) == 1


def test_a_source_of_which_there_is_one_is_said_to_be_unknown() -> None:
    (legend,) = variance_figure(variance()).legends
    words = [text.get_text() for text in legend.get_texts()]
    assert [word for word in words if "not known" in word] == ["seeds (only one, so not known)"]
