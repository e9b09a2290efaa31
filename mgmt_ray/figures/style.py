"""Shared style of all figures: colours, sizes, grids of panels and legends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from textwrap import wrap
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from mgmt_ray.base import MgmtError
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.statistics.intervals import read_interval

LineStyle: TypeAlias = str | tuple[int, tuple[int, ...]]

FONT_SIZE = 10.0
SMALL_FONT_SIZE = 8.5
LEGEND_WIDTH = 40
"""Characters per line of a panel's legend."""

INK = "#222222"
GRID_COLOUR = "#dddddd"
REFERENCE_COLOUR = "#767676"

# Okabe and Ito's palette, which colour-blind readers can distinguish, without its light colours;
# line styles distinguish networks in print without colour.
_NETWORK_COLOURS = {
    "spottune": "#0072B2",
    "random": "#D55E00",
    "transfer": "#009E73",
    "transfer-2": "#CC79A7",
    "radiomics_forest": "#7A5195",
    "first_order": "#A6761D",
    "age_sex": "#E69F00",
    "tumour_volume": "#56B4E9",
    "prevalence": "#767676",
}
_NETWORK_LINES: dict[str, LineStyle] = {
    "spottune": "-",
    "random": "--",
    "transfer": "-.",
    "transfer-2": ":",
    "radiomics_forest": (0, (6, 2)),
    "first_order": (0, (5, 1, 1, 1)),
    "age_sex": (0, (3, 1, 1, 1)),
    "tumour_volume": (0, (1, 1)),
    "prevalence": (0, (2, 3)),
}
_OTHER_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#7A5195")

Label: TypeAlias = int | Literal["fitted", "hidden"] | None
"""1 methylated, 0 unmethylated, "fitted" where each split fits the cut-off between them, "hidden"
until the test set has been opened; None for a subject that is not in the cohort."""

LABEL_NAMES: dict[Label, str] = {
    0: "unmethylated",
    1: "methylated",
    "fitted": "labelled by each split",
    "hidden": "label hidden",
    None: "not in the cohort",
}
LABELS_HIDDEN = "labels are hidden until the test set has been opened"
DPI = 150
LABEL_COLOURS: dict[Label, str] = {
    0: "#0072B2",
    1: "#B34700",
    "fitted": "#7A5195",
    "hidden": INK,
    None: "#767676",
}
"""From the same palette, with a darker orange: text on white needs a contrast of 4.5."""


def network_colour(network: str) -> str:
    """Return the network's colour in all figures; other names share the rest of the palette."""
    if network in _NETWORK_COLOURS:
        return _NETWORK_COLOURS[network]
    return _OTHER_COLOURS[sum(network.encode()) % len(_OTHER_COLOURS)]


def network_line(network: str) -> LineStyle:
    """Return the network's line style in all figures."""
    return _NETWORK_LINES.get(network, "-")


def panels(num_panels: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with a grid of panels in the shared style, row by row.

    Args:
        num_panels: at least 1; the rest of the last row stays empty.
        columns: maximum number of panels per row.
        width: of one panel in inches.
        height: of one panel in inches.

    Example:
        >>> figure, axes = panels(4, columns=3, width=3.4, height=3.6)
        >>> len(axes), figure.get_size_inches()
        (4, array([10.2,  7.2]))
    """
    columns = min(columns, num_panels)
    rows = -(-num_panels // columns)
    figure = Figure(figsize=(columns * width, rows * height))
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    figure.set_facecolor("white")
    grid = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for ax in grid[num_panels:]:
        ax.set_axis_off()
    axes = list(grid[:num_panels])
    for ax in axes:
        _style_axes(ax)
    return figure, axes


def title(axes: Axes, text: str) -> None:
    """Set a panel's title."""
    axes.set_title(text, fontsize=FONT_SIZE, fontweight="bold", color=INK, loc="left")


def label_axes(axes: Axes, x: str, y: str) -> None:
    """Set the labels of a panel's axes."""
    axes.set_xlabel(x, fontsize=SMALL_FONT_SIZE, color=INK)
    axes.set_ylabel(y, fontsize=SMALL_FONT_SIZE, color=INK)


def curve_panels(num_panels: int, num_lines: int) -> tuple[Figure, list[Axes]]:
    """Return nearly square panels with room below each for a legend of this many lines.

    Their aspect is not fixed, because the constrained layout would let titles and legends overlap.
    """
    return panels(num_panels, columns=3, width=3.4, height=3.6 + 0.17 * num_lines)


def unit_square(axes: Axes) -> None:
    """Set both axes from 0 to 1, with a margin for lines along the border."""
    axes.set_xlim(-0.015, 1.015)
    axes.set_ylim(-0.015, 1.015)


def legend(axes: Axes, heading: str) -> None:
    """Draw a panel's legend below it, where it covers no curve."""
    axes.legend(
        title=heading,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        # In font sizes: below the axis's tick labels and name for any size of the panel.
        borderaxespad=4.2,
        fontsize=SMALL_FONT_SIZE,
        title_fontsize=SMALL_FONT_SIZE,
        frameon=False,
        handlelength=2.6,
        labelcolor=INK,
    )


def figure_title(figure: Figure, text: str) -> None:
    """Write a bold title over all panels, at the left."""
    figure.suptitle(text, x=0.01, ha="left", fontweight="bold", fontsize=FONT_SIZE, color=INK)


def figure_legend(
    figure: Figure,
    handles: Sequence[Artist],
    columns: int,
    loc: Literal["outside upper center", "outside upper left"] = "outside upper center",
    font_size: float = SMALL_FONT_SIZE,
) -> None:
    """Write one legend for all panels, above them."""
    figure.legend(
        handles=handles,
        loc=loc,
        ncols=columns,
        fontsize=font_size,
        frameon=False,
        labelcolor=INK,
    )


def legend_lines(
    metrics: pd.DataFrame,
    ensembles: Collection[str],
    details: Mapping[tuple[str, str], str] | None = None,
) -> int:
    """Return the number of text lines of the longest legend of these ensembles' panels."""
    shown = metrics[metrics["ensemble"].isin(ensembles)]
    labels = (
        (row["ensemble"], metric_label(metrics, row["network"], row["ensemble"], "auc", details))
        for row in shown.to_dict("records")
    )
    lines: Counter[str] = Counter()
    for ensemble, label in labels:
        lines[ensemble] += 1 + label.count("\n")
    return max(lines.values(), default=0)


def metric_label(
    metrics: pd.DataFrame,
    network: str,
    ensemble: str,
    metric: str,
    details: Mapping[tuple[str, str], str] | None = None,
) -> str:
    """Return a network's name with a metric and its interval, for a legend.

    Args:
        metrics: a metrics table.
        network: of the row.
        ensemble: of the row.
        metric: "auc" or "ap".
        details: by network and ensemble; text below.

    Raises:
        MgmtError: the metrics table has no such row, so it was made from other predictions.
    """
    rows = metrics[(metrics["network"] == network) & (metrics["ensemble"] == ensemble)]
    if len(rows) != 1:
        raise MgmtError(
            f"metrics: {len(rows)} rows for {network} {ensemble}, so they were made from other "
            "predictions. Run `mgmt-ray ensemble STUDY` again."
        )
    label = f"{network_label(network)} {read_interval(rows.to_dict('records')[0], metric)}"
    detail = (details or {}).get((network, ensemble), "")
    return "\n".join((label, *wrap(detail, LEGEND_WIDTH, initial_indent="  ")))


def grey_colormap() -> Colormap:
    """Return a colour map from black to white; values below, above and missing are red."""
    return colormaps["gray"].with_extremes(bad="red", under="red", over="red")


def _style_axes(axes: Axes) -> None:
    # Not through rcParams, which are global and read again whenever a tick is made.
    axes.tick_params(labelsize=SMALL_FONT_SIZE, colors=INK, length=3)
    axes.grid(color=GRID_COLOUR, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(REFERENCE_COLOUR)
