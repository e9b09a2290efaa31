from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mgmt_ray.figures import style
from mgmt_ray.figures.calibration_plots import decision_figure
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.statistics.calibrators import recalibrate
from mgmt_ray.statistics.curves import decision_table
from tests.statistics.conftest import split_predictions

NETWORKS = ("spottune", "random", "transfer")
MODELS = ("radiomics_forest", "age_sex", "tumour_volume", "prevalence")


@pytest.fixture(scope="module")
def decision() -> pd.DataFrame:
    def everybody(of: str) -> pd.DataFrame:
        models = split_predictions(of, networks=MODELS)
        own = models.assign(ensemble=models["network"])
        return pd.concat([split_predictions(of, networks=NETWORKS), own], ignore_index=True)

    return decision_table(recalibrate(everybody("validation"), everybody("test")))


def test_each_panel_has_its_curves_and_those_of_treating_all_and_none(
    decision: pd.DataFrame,
) -> None:
    networks, models = decision_figure(decision).axes
    for axes, names in ((networks, NETWORKS), (models, MODELS)):
        everybody, nobody, *curves = axes.get_lines()
        assert set(nobody.get_ydata()) == {0}
        own = decision[decision["network"] == names[0]]
        assert everybody.get_ydata().tolist() == own["treat_all"].tolist()
        for curve, name in zip(curves, names, strict=True):
            rows = decision[decision["network"] == name]
            assert curve.get_xdata().tolist() == rows["threshold"].tolist()
            assert curve.get_ydata().tolist() == rows["net_benefit"].tolist()
            assert curve.get_label() == network_label(name)
            assert curve.get_color() == style.network_colour(name)


def test_the_panels_show_all_that_does_good_on_one_scale(decision: pd.DataFrame) -> None:
    axes = decision_figure(decision).axes
    assert len({place.get_ylim() for place in axes}) == 1
    assert axes[0].get_ylim()[1] > decision[["net_benefit", "treat_all"]].max().max()
    assert axes[0].get_ylim()[0] < 0


def test_without_baselines_there_is_no_panel_for_them(decision: pd.DataFrame) -> None:
    figure = decision_figure(decision[decision["ensemble"] == "best overall"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["best overall"]


def test_nothing_overlaps_or_leaves_the_figure(decision: pd.DataFrame) -> None:
    figure = decision_figure(decision)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [a.get_legend().get_window_extent() for a in figure.axes]
    boxes += [a.get_window_extent() for a in figure.axes]
    boxes += [a._left_title.get_window_extent() for a in figure.axes]
    boxes += [a.xaxis.label.get_window_extent() for a in figure.axes]
    width, height = canvas.get_width_height()
    for i, box in enumerate(boxes):
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[:i])
