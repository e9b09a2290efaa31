from __future__ import annotations

import pandas as pd
import pytest
from matplotlib import colormaps

from mgmt_ray.base import MgmtError
from mgmt_ray.figures import style
from mgmt_ray.figures.network_labels import NETWORK_LABELS, network_label


def test_every_network_has_its_own_colour_and_line() -> None:
    networks = list(NETWORK_LABELS)
    assert len({style.network_colour(n) for n in networks}) == len(networks)
    assert len({style.network_line(n) for n in networks}) == len(networks)


def test_a_network_of_another_name_is_shown_under_it_with_a_steady_colour() -> None:
    assert network_label("my-net") == "my-net"
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
