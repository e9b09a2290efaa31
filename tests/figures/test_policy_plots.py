from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from mgmt_ray.base import stream
from mgmt_ray.figures.policy_plots import (
    policy_classes_figure,
    policy_heatmap_figure,
    policy_stability_figure,
)
from mgmt_ray.statistics.policy_summary import class_means, policy_stability

IDS = [f"UPENN-GBM-{i:05d}_11" for i in range(10)]
LABELS = [1, 0, 0, 1, 0, 1, 0, 0, 1, 0]


@pytest.fixture(scope="module")
def policies() -> pd.DataFrame:
    draws = stream(3, "policy figures")
    parts = [
        pd.DataFrame(
            {
                "network": "spottune",
                "modality": modality,
                "outer_fold": 0,
                "fold": fold,
                "repeat": 0,
            }
            | {"subject": IDS, "label": LABELS}
            | {f"block_{n + 1}": draws.random(len(IDS)) for n in range(5)}
        )
        for modality in ("PH", "PSR", "T1")
        for fold in range(2)
    ]
    return pd.concat(parts, ignore_index=True)


def names_of_rows(axes: object) -> list[str]:
    return [text.get_text() for text in axes.get_yticklabels()]  # type: ignore[attr-defined]


def test_a_heat_map_shows_each_subjects_mean_over_a_groups_members(policies: pd.DataFrame) -> None:
    figure = policy_heatmap_figure(policies)
    dsc, struct, bar = figure.axes
    assert [dsc.get_title(loc="left"), struct.get_title(loc="left")] == [
        "SpotTune · DSC",
        "SpotTune · Struct",
    ]
    order = names_of_rows(dsc)
    label = dict(zip(IDS, LABELS, strict=True))
    assert [label[name] for name in order] == sorted(LABELS)
    (image,) = dsc.get_images()
    assert image.get_clim() == (0, 1)
    of_group = policies[policies["modality"] != "T1"].groupby("subject")
    blocks = [f"block_{n + 1}" for n in range(5)]
    expected = of_group[blocks].mean().loc[order].to_numpy()
    np.testing.assert_allclose(image.get_array(), expected, rtol=1e-12)  # order of summing
    (image,) = struct.get_images()
    expected = policies[policies["modality"] == "T1"].groupby("subject")[blocks].mean().loc[order]
    np.testing.assert_allclose(image.get_array(), expected.to_numpy(), rtol=1e-12)
    assert "tuned" in bar.get_xlabel()


def test_names_of_57_subjects_do_not_overlap() -> None:
    ids = [f"UPENN-GBM-{i:05d}_11" for i in range(57)]
    keys = {"network": "spottune", "modality": "PH", "outer_fold": 0, "fold": 0, "repeat": 0}
    blocks = {f"block_{n + 1}": 0.5 for n in range(16)}
    many = pd.DataFrame(keys | {"subject": ids, "label": [i % 2 for i in range(57)]} | blocks)
    figure = policy_heatmap_figure(many)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    tops = sorted((box.y0, box.y1) for box in boxes)
    # descenders' room may touch: half a point of 5.5
    assert all(low[1] <= high[0] + 1 for low, high in pairwise(tops))


def test_class_panels_show_means_with_intervals(policies: pd.DataFrame) -> None:
    figure = policy_classes_figure(policies)
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == [
        "SpotTune · PH",
        "SpotTune · PSR",
        "SpotTune · T1",
    ]
    means = class_means(policies)
    own = means[(means["modality"] == "PSR") & (means["label"] == 1)]
    line = next(
        bars.lines[0]
        for bars in figure.axes[1].containers
        if bars.lines[0].get_linestyle() == "-"  # type: ignore[union-attr]
    )
    np.testing.assert_allclose(np.array(line.get_ydata(), dtype=float), own["tuned"])
    bars = figure.axes[1].containers[1].lines[2][0]  # type: ignore[union-attr]
    segments = np.array(bars.get_segments(), dtype=float)
    # low and high are recomputed from value and distance
    np.testing.assert_allclose(segments[:, 0, 1], own["tuned_low"], atol=1e-12)
    np.testing.assert_allclose(segments[:, 1, 1], own["tuned_high"], atol=1e-12)


def test_stability_has_a_row_per_modality(policies: pd.DataFrame) -> None:
    figure = policy_stability_figure(policies)
    correlation, deviation, certain = figure.axes
    assert names_of_rows(correlation) == ["PH", "PSR", "T1"]
    table = policy_stability(policies)
    shown = [np.asarray(dots.get_offsets())[:, 0] for dots in correlation.collections]
    np.testing.assert_allclose(shown, table[["correlation", "subject_correlation"]].T)
    for axes, column in ((deviation, "fold_std"), (certain, "certain")):
        (dots,) = axes.collections
        np.testing.assert_allclose(np.asarray(dots.get_offsets())[:, 0], table[column])
