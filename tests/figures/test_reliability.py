from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mgmt_ray.figures.calibration_plots import VERSIONS, reliability_figure
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.statistics.calibration import calibration_table
from mgmt_ray.statistics.calibrators import recalibrate
from mgmt_ray.statistics.reliability import reliability_table
from tests.statistics.conftest import split_predictions

Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]


def tables(networks: tuple[str, ...]) -> Tables:
    test = split_predictions("test", networks=networks)
    recalibrated = recalibrate(split_predictions("validation", networks=networks), test)
    return reliability_table(recalibrated), calibration_table(recalibrated), test


@pytest.fixture(scope="module")
def four() -> Tables:
    return tables(("spottune", "random", "transfer", "transfer-2"))


@pytest.fixture(scope="module")
def figure(four: Tables) -> Figure:
    return reliability_figure(*four)


def shown(figure: Figure) -> list[tuple[str, int]]:
    return [(a.get_title(loc="left"), i) for i, a in enumerate(figure.axes) if a.axison]


def test_each_network_has_its_bins_of_each_version(figure: Figure, four: Tables) -> None:
    reliability = four[0]
    for network in ("spottune", "random", "transfer", "transfer-2"):
        name = f"{network_label(network)}, best overall"
        axes = next(a for a in figure.axes if a.get_title(loc="left") == name)
        for container, version in zip(axes.containers, VERSIONS, strict=True):
            rows = reliability[
                (reliability["network"] == network) & (reliability["version"] == version)
            ]
            line, _, (bars,) = container.lines
            assert line.get_ydata().tolist() == rows["share_methylated"].tolist()
            assert line.get_xdata() == pytest.approx(rows["mean_probability"], abs=0.0061)
            ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
            expected = rows[["low", "high"]].to_numpy().tolist()
            assert [pytest.approx(e) for e in expected] == ends


def test_below_each_diagram_all_subjects_are_counted_by_their_label(figure: Figure) -> None:
    counted = [a for a in figure.axes if a.axison and a.patches]
    assert len(counted) == 4
    for axes in counted:
        heights = [sum(p.get_height() for p in bars) for bars in axes.containers]
        assert heights == [33, 24]  # 24 of 57 are methylated
    assert len({axes.get_ylim() for axes in counted}) == 1


def test_the_diagram_of_a_network_stands_above_its_counts(figure: Figure) -> None:
    FigureCanvasAgg(figure).draw()
    places = {title: i for title, i in shown(figure) if title}
    assert list(places.values()) == [0, 1, 2, 6]
    for place in places.values():
        upper, lower = (figure.axes[i].get_position() for i in (place, place + 3))
        assert upper.y0 > lower.y1
        assert upper.x0 == pytest.approx(lower.x0, abs=0.01)
        assert upper.height > 2 * lower.height


def test_nothing_overlaps_or_leaves_the_figure(figure: Figure) -> None:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axes = [a for a in figure.axes if a.axison]
    boxes = [a.get_legend().get_window_extent() for a in axes]
    boxes += [a.get_window_extent() for a in axes]
    boxes += [a._left_title.get_window_extent() for a in axes if a.get_title(loc="left")]
    boxes += [a.xaxis.label.get_window_extent() for a in axes]
    width, height = canvas.get_width_height()
    for i, box in enumerate(boxes):
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_the_legend_gives_the_slope_or_says_why_there_is_none() -> None:
    reliability, calibration, test = tables(("random",))
    calibration.loc[0, "slope"] = float("nan")
    calibration.loc[1, "slope_high"] = float("nan")
    axes = reliability_figure(reliability, calibration, test).axes[0]
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    row = calibration.iloc[2]
    assert texts == [
        "as predicted: undefined",
        f"prior corrected {calibration.loc[1, 'slope']:.2f} [undefined]",
        f"temperature scaled {row['slope']:.2f} [{row['slope_low']:.2f}, {row['slope_high']:.2f}]",
    ]
