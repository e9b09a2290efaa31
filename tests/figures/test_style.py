from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import colormaps
from matplotlib.image import imread

from mgmt_ray.base import MgmtError
from mgmt_ray.figures import style
from mgmt_ray.figures.style import delete_other_figures, save_compact_figure, save_figure


def test_every_network_has_its_own_colour_and_line() -> None:
    networks = list(style.NETWORK_LABELS)
    assert len({style.network_colour(n) for n in networks}) == len(networks)
    assert len({style.network_line(n) for n in networks}) == len(networks)


def test_a_network_of_another_name_is_shown_under_it_with_a_steady_colour() -> None:
    assert style.network_label("my-net") == "my-net"
    assert style.network_colour("my-net") == style.network_colour("my-net")
    assert style.network_line("my-net") == "-"


@pytest.mark.parametrize(("number", "places"), [(1, 1), (2, 2), (7, 9)])
def test_panels_without_content_are_empty_places(number: int, places: int) -> None:
    figure, axes = style.panels(number, columns=3, width=2.0, height=2.0)
    assert len(axes) == number
    assert len(figure.axes) == places
    assert sum(not place.axison for place in figure.axes) == places - number


def test_a_legend_says_below_a_value_what_it_is_of() -> None:
    row = {"network": "spottune", "ensemble": "best", "auc": 0.6, "auc_low": 0.5, "auc_high": 0.7}
    metrics = pd.DataFrame([row])
    plain = style.metric_label(metrics, "spottune", "best", "auc")
    detailed = style.metric_label(
        metrics, "spottune", "best", "auc", {("spottune", "best"): "PH + " * 12 + "T1"}
    )
    assert plain == "SpotTune 0.600 [0.500, 0.700]"
    assert detailed.splitlines()[0] == plain
    assert all(len(line) <= style.LEGEND_WIDTH for line in detailed.splitlines())
    details = {("spottune", "best"): "DSC"}
    assert style.legend_lines(metrics, ["best"]) == 1
    assert style.legend_lines(metrics, ["best"], details) == 2
    assert style.legend_lines(metrics, ["other"]) == 0


def test_a_legend_of_other_metrics_is_refused() -> None:
    metrics = pd.DataFrame({"network": ["random"], "ensemble": ["DSC"]})
    with pytest.raises(MgmtError, match="0 rows for random DTI"):
        style.metric_label(metrics, "random", "DTI", "auc")


def test_greys_with_faults_leave_the_shared_colour_map_alone() -> None:
    colours = style.grey_colormap()
    assert colours(2.0)[:3] == (1.0, 0.0, 0.0)
    assert colormaps["gray"](2.0)[:3] == (1.0, 1.0, 1.0)


def test_a_saved_figure_has_150_dots_per_inch_and_equal_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        figure, _ = style.panels(2, columns=2, width=2.0, height=1.0)
        save_figure(figure, tmp_path / "figures" / name)
    first, second = (tmp_path / "figures" / name for name in ("a.png", "b.png"))
    assert imread(first).shape[:2] == (150, 600)
    assert first.read_bytes() == second.read_bytes()


def test_an_svg_lies_beside_each_png_with_equal_bytes_each_time(tmp_path: Path) -> None:
    for name in "ab":
        figure, (axes,) = style.panels(1, columns=1, width=3.0, height=2.0)
        axes.plot([0, 1], label="one")
        style.legend(axes, "legend")
        save_figure(figure, tmp_path / f"{name}.png")
    first, second = ((tmp_path / f"{name}.svg").read_text(encoding="utf-8") for name in "ab")
    assert first == second
    assert first.startswith("<?xml")
    assert "dc:date" not in first


def test_deleting_a_figure_deletes_its_svg(tmp_path: Path) -> None:
    for name in ("kept", "old"):
        figure, _ = style.panels(1, columns=1, width=1.0, height=1.0)
        save_compact_figure(figure, tmp_path / f"f_{name}.png")
    delete_other_figures(tmp_path, "f_*.png", {tmp_path / "f_kept.png"})
    assert {path.name for path in tmp_path.iterdir()} == {"f_kept.png", "f_kept.svg"}


def test_a_compact_figure_keeps_its_colours_and_has_equal_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "whole.png"):
        figure, (axes,) = style.panels(1, columns=1, width=4.0, height=3.0)
        axes.imshow(np.linspace(0, 1, 40_000).reshape(200, 200), cmap="gray")
        for number, colour in enumerate(style.LABEL_COLOURS.values()):
            axes.axhspan(50 * number, 50 * number + 20, color=colour)
        save = save_figure if name == "whole.png" else save_compact_figure
        save(figure, tmp_path / name)
    first, second, whole = (tmp_path / name for name in ("a.png", "b.png", "whole.png"))
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < whole.stat().st_size / 2
    few, many = imread(first)[..., :3], imread(whole)[..., :3]
    assert few.shape == many.shape
    assert len(np.unique(few.reshape(-1, 3), axis=0)) <= 64
    # measured: 14 of 255 levels at worst, where the octree has joined two steps of grey
    assert np.abs(few - many).max() < 1 / 16 + 1 / 255
