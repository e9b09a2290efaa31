"""Reliability diagrams and decision curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mgmt_ray.figures import style
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.statistics.calibrators import AS_PREDICTED, PRIOR_CORRECTED, TEMPERATURE_SCALED
from mgmt_ray.statistics.intervals import read_interval

VERSIONS: dict[str, tuple[str, str]] = {
    AS_PREDICTED: ("#767676", "o"),
    PRIOR_CORRECTED: ("#E69F00", "s"),
    TEMPERATURE_SCALED: ("#7A5195", "D"),
}
"""Colour and marker of each version, different from the colours of the histogram below."""

ALL_LINE = (0, (5, 1, 1, 1))

_MAX_COLUMNS = 3
_HEIGHTS = (3.2, 1.0)
_SHIFT = 0.006
"""Horizontal offset of versions, so that bars at equal probabilities do not hide each other."""


def reliability_figure(
    reliability: pd.DataFrame,
    calibration: pd.DataFrame,
    predictions: pd.DataFrame,
    ensemble: str = "best overall",
) -> Figure:
    """Plot the share of methylated against the mean probability per bin, with exact intervals.

    One panel per network that has the ensemble; calibration is perfect on the dotted line. The
    legend gives each version's calibration slope. A histogram of the probabilities as predicted is
    below each panel.

    Args:
        reliability: columns of ``reliability.csv``.
        calibration: the calibration table of the same predictions.
        predictions: ensemble predictions of the same subjects.
        ensemble: name of an ensemble that at least one network has.
    """
    shown = reliability[reliability["ensemble"] == ensemble]
    networks = list(dict.fromkeys(shown["network"]))
    slopes = calibration[calibration["ensemble"] == ensemble]
    counted = predictions[predictions["ensemble"] == ensemble]
    figure, pairs = _paired_panels(len(networks))
    for (upper, lower), network in zip(pairs, networks, strict=True):
        _draw_bins(upper, shown[shown["network"] == network], slopes[slopes["network"] == network])
        style.title(upper, f"{network_label(network)}, {ensemble}")
        _draw_counts(lower, counted[counted["network"] == network])
    highest = max(lower.get_ylim()[1] for _, lower in pairs)
    for _, lower in pairs:
        lower.set_ylim(0, highest)
    return figure


def _paired_panels(num_networks: int) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """Return a figure with a high panel above a low one for each network, three networks a row."""
    columns = min(num_networks, _MAX_COLUMNS)
    bands = -(-num_networks // columns)
    height = (sum(_HEIGHTS) + 2.2) / 2
    figure, axes = style.panels(2 * bands * columns, columns, width=3.6, height=height)
    grid = axes[0].get_gridspec()
    assert grid is not None, "panels lie on a grid"
    grid.set_height_ratios([*_HEIGHTS] * bands)
    pairs = []
    for panel in range(bands * columns):
        first = panel // columns * 2 * columns + panel % columns
        pair = axes[first], axes[first + columns]
        if panel < num_networks:
            pairs.append(pair)
        else:
            for spare in pair:
                spare.set_axis_off()
    return figure, pairs


def _draw_bins(axes: Axes, bins: pd.DataFrame, calibration: pd.DataFrame) -> None:
    axes.plot([0, 1], [0, 1], color=style.REFERENCE_COLOUR, linewidth=1, linestyle=(0, (1, 2)))
    for number, (version, (colour, marker)) in enumerate(VERSIONS.items()):
        rows = bins[bins["version"] == version]
        share = rows["share_methylated"].to_numpy(dtype=float)
        low, high = rows["low"].to_numpy(dtype=float), rows["high"].to_numpy(dtype=float)
        axes.errorbar(
            rows["mean_probability"].to_numpy(dtype=float) + _SHIFT * (number - 1),
            share,
            # a bound may lie beyond its share by a rounding error
            yerr=np.clip([share - low, high - share], 0, None),
            color=colour,
            marker=marker,
            markersize=4.5,
            linewidth=1.4,
            elinewidth=0.8,
            label=_label(version, calibration),
        )
    style.unit_square(axes)
    style.label_axes(axes, "mean probability of the bin", "share of methylated")
    style.legend(axes, "calibration slope [95 % interval]")


def _label(version: str, calibration: pd.DataFrame) -> str:
    row = calibration[calibration["version"] == version].to_dict("records")[0]
    slope = read_interval(row, "slope")
    if np.isnan(slope.value):
        return f"{version}: undefined"
    undefined = "undefined" if np.isnan([slope.low, slope.high]).any() else ""
    return f"{version} {slope.value:.2f} [{undefined or f'{slope.low:.2f}, {slope.high:.2f}'}]"


def _draw_counts(axes: Axes, predictions: pd.DataFrame) -> None:
    labels = (0, 1)
    values: Sequence[np.ndarray] = [
        predictions.loc[predictions["label"] == label, "probability"].to_numpy(dtype=float)
        for label in labels
    ]
    axes.hist(
        values,
        bins=np.linspace(0, 1, 21).tolist(),
        stacked=True,
        color=[style.LABEL_COLOURS[label] for label in labels],
        label=[style.LABEL_NAMES[label] for label in labels],
    )
    axes.set_xlim(-0.015, 1.015)
    style.label_axes(axes, "probability as predicted", "subjects")
    style.legend(axes, "")


def decision_figure(decision: pd.DataFrame, ensembles: Sequence[str] = ("best overall",)) -> Figure:
    """Plot net benefit against the threshold probability.

    One panel per ensemble with its networks, and one with the baseline models, if there are any.
    Treating none has a net benefit of 0, the dotted line; the thin line is treating all, which
    leaves the panel where its net benefit is far below 0.

    Args:
        decision: columns of ``decision.csv``.
        ensembles: at least one network has each.
    """
    is_baseline = decision["network"] == decision["ensemble"]
    parts = [(name, decision[decision["ensemble"] == name]) for name in ensembles]
    if is_baseline.any():
        parts.append(("Baseline models", decision[is_baseline]))
    max_networks = max(rows["network"].nunique() for _, rows in parts)
    figure, axes = style.curve_panels(len(parts), max_networks + 2)
    highest = max(0.05, *(float(rows["treat_all"].max()) for _, rows in parts))
    highest = max(highest, *(float(rows["net_benefit"].max()) for _, rows in parts))
    for ax, (name, rows) in zip(axes, parts, strict=True):
        _draw_net_benefit(ax, rows)
        ax.set_ylim(-0.4 * highest, 1.08 * highest)
        style.title(ax, name)
        style.label_axes(ax, "threshold probability", "net benefit")
        style.legend(ax, "")
    return figure


def _draw_net_benefit(axes: Axes, rows: pd.DataFrame) -> None:
    first = rows[rows["network"] == rows["network"].iloc[0]]
    axes.plot(
        first["threshold"],
        first["treat_all"],
        color=style.INK,
        linewidth=1,
        linestyle=ALL_LINE,
        label="treat all as methylated",
    )
    axes.axhline(
        0, color=style.REFERENCE_COLOUR, linewidth=1, linestyle=(0, (1, 2)), label="treat none"
    )
    for network, curve in rows.groupby("network", sort=False):
        axes.plot(
            curve["threshold"],
            curve["net_benefit"],
            color=style.network_colour(str(network)),
            linestyle=style.network_line(str(network)),
            linewidth=1.8,
            label=network_label(str(network)),
        )
