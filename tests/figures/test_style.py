from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from matplotlib import colormaps
from matplotlib.image import imread

from mgmt_ray.base import MgmtError
from mgmt_ray.figures import style


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


def test_a_saved_figure_has_150_dots_per_inch_and_equal_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        figure, _ = style.panels(2, columns=2, width=2.0, height=1.0)
        style.save_figure(figure, tmp_path / "figures" / name)
    first, second = (tmp_path / "figures" / name for name in ("a.png", "b.png"))
    assert imread(first).shape[:2] == (150, 600)
    assert first.read_bytes() == second.read_bytes()


def test_a_legend_of_other_metrics_is_refused() -> None:
    metrics = pd.DataFrame({"network": ["random"], "ensemble": ["DSC"]})
    with pytest.raises(MgmtError, match="0 rows for random DTI"):
        style.metric_label(metrics, "random", "DTI", "auc")


def test_greys_with_faults_leave_the_shared_colour_map_alone() -> None:
    colours = style.greys_with_faults()
    assert colours(2.0)[:3] == (1.0, 0.0, 0.0)
    assert colormaps["gray"](2.0)[:3] == (1.0, 1.0, 1.0)
