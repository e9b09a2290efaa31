"""Forest plots of AUCs, and the standard deviation of AUC by source of variation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import isnan
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mgmt_ray.figures import style
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.statistics.intervals import read_interval

ATTRIBUTE_LABELS = {"idh": "IDH"}

SOURCES: dict[str, tuple[str, str, str]] = {
    "draws": ("policy draws", "#56B4E9", "v"),
    "folds": ("folds", "#009E73", "s"),
    "seeds": ("seeds", "#CC79A7", "D"),
    "subjects": ("test subjects", "#000000", "o"),
}
"""Displayed name, colour and marker of each source of variation."""


def auc_figure(rows: Sequence[Mapping[Hashable, Any]], published: Mapping[int, float]) -> Figure:
    """Plot the AUC of each model and its 95 % interval beside the line of chance.

    Args:
        rows: of a metrics table, with what a row is called in ``label``.
        published: AUC of the paper, by the place of the row that it is for.
    """
    figure, (ax,) = style.panels(1, columns=1, width=4.6, height=0.8 + 0.27 * len(rows))
    ax.axvline(0.5, color=style.REFERENCE_COLOUR, linewidth=1, linestyle=(0, (1, 2)))
    for y, row in enumerate(rows):
        _draw_interval(ax, row, y, style.network_colour(str(row["network"])))
    if published:
        marks: dict[str, Any] = {"marker": "D", "facecolors": "none", "edgecolors": style.INK}
        ax.scatter([*published.values()], [*published], s=26, zorder=4, label="paper", **marks)
        style.figure_legend(figure, ax.get_legend_handles_labels()[0], columns=1)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(-0.02, 1.02)
    ax.grid(visible=False, axis="y")
    ax.set_yticks(range(len(rows)), [row["label"] for row in rows])
    style.label_axes(ax, "AUC [95 % interval]; dotted: chance", "")
    return figure


def subgroups_figure(subgroups: pd.DataFrame) -> Figure:
    """Plot AUC and its 95 % interval in each subgroup, a panel per model.

    Rows are the same in all panels: attribute, level, number of methylated and of all subjects. A
    row without one of the classes is marked as such.

    Args:
        subgroups: columns of ``subgroups.csv``, at least one row.
    """
    levels = list(dict.fromkeys(zip(subgroups["attribute"], subgroups["level"], strict=True)))
    models = list(dict.fromkeys(zip(subgroups["network"], subgroups["ensemble"], strict=True)))
    height = 1.0 + 0.3 * len(levels)
    figure, axes = style.panels(len(models), columns=2, width=5.2, height=height)
    for ax, (network, ensemble) in zip(axes, models, strict=True):
        is_model = (subgroups["network"] == network) & (subgroups["ensemble"] == ensemble)
        names = [""] * len(levels)
        ax.axvline(0.5, color=style.REFERENCE_COLOUR, linewidth=1, linestyle=(0, (1, 2)))
        for row in subgroups[is_model].to_dict("records"):
            y = levels.index((row["attribute"], row["level"]))
            names[y] = _subgroup_label(row)
            _draw_interval(ax, row, y, style.network_colour(str(network)))
        for y in range(1, len(levels)):
            if levels[y][0] != levels[y - 1][0]:
                ax.axhline(y - 0.5, color=style.GRID_COLOUR, linewidth=1)
        ax.set_ylim(len(levels) - 0.5, -0.5)
        ax.set_xlim(-0.02, 1.02)
        ax.grid(visible=False, axis="y")
        ax.set_yticks(range(len(levels)), names)
        style.title(ax, _model_label(str(network), str(ensemble)))
        style.label_axes(ax, "AUC [95 % interval]", "")
    figure.suptitle(
        "Subgroups of the test subjects: methylated/all",
        x=0.01,
        ha="left",
        fontsize=style.SMALL_FONT_SIZE,
        color=style.INK,
    )
    return figure


def _model_label(network: str, ensemble: str) -> str:
    """Return a model's name; that of a baseline model is also its ensemble's."""
    label = network_label(network)
    return label.replace("_", " ") if network == ensemble else f"{label} · {ensemble}"


def _subgroup_label(row: Mapping[Hashable, Any]) -> str:
    attribute = str(row["attribute"])
    shown = ATTRIBUTE_LABELS.get(attribute, attribute)
    return f"{shown} {row['level']}: {row['num_methylated']}/{row['num_subjects']}"


def _draw_interval(ax: Axes, row: Mapping[Hashable, Any], y: int, colour: str) -> None:
    auc = read_interval(row, "auc")
    text = "a class is missing" if isnan(auc.value) else str(auc)
    if not isnan(auc.value):
        ax.plot([auc.low, auc.high], [y, y], color=colour, linewidth=1.6)
        ax.plot([auc.value], [y], marker="s", markersize=5, color=colour)
    ax.annotate(
        text,
        (1.0, y),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=style.SMALL_FONT_SIZE - 1,
        color=style.INK if not isnan(auc.value) else style.REFERENCE_COLOUR,
    )


def variance_figure(variance: pd.DataFrame) -> Figure:
    """Plot the standard deviation of AUC due to each source alone, a panel per network.

    Baseline models share the last panel. A source with a single value (one seed, for instance) has
    no standard deviation and no mark; the legend says so where that holds for all.

    Args:
        variance: columns of ``variance.csv``, at least one row.
    """
    parts = _parts(variance)
    max_ensembles = max(rows["ensemble"].nunique() for _, rows in parts)
    figure, axes = style.panels(len(parts), columns=3, width=3.6, height=1.0 + 0.21 * max_ensembles)
    largest = variance["auc_std"].max()
    for ax, (name, part) in zip(axes, parts, strict=True):
        ensembles = list(dict.fromkeys(part["ensemble"]))
        for source, (_, colour, marker) in SOURCES.items():
            rows = part[part["source"] == source]
            y = [ensembles.index(ensemble) for ensemble in rows["ensemble"]]
            ax.scatter(rows["auc_std"], y, color=colour, marker=marker, s=22, zorder=3)
        ax.set_ylim(len(ensembles) - 0.5, -0.5)
        ax.set_yticks(range(len(ensembles)), [network_label(e) for e in ensembles])
        ax.set_xlim(-0.03 * (largest or 1), 1.08 * (largest or 1))
        style.title(ax, name)
        style.label_axes(ax, "standard deviation of AUC", "")
    _add_legend(figure, variance)
    return figure


def _parts(variance: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return title and rows of each panel."""
    is_baseline = variance["network"] == variance["ensemble"]
    parts = [
        (network_label(str(network)), rows)
        for network, rows in variance[~is_baseline].groupby("network", sort=False)
    ]
    return [*parts, ("Baseline models", variance[is_baseline])] if is_baseline.any() else parts


def _add_legend(figure: Figure, variance: pd.DataFrame) -> None:
    num_defined = variance.groupby("source")["auc_std"].count()
    handles = []
    for source, (name, colour, marker) in SOURCES.items():
        label = name if num_defined.get(source, 0) else f"{name} (only one, so not known)"
        mark: dict[str, Any] = {"linestyle": "none", "color": colour, "markersize": 5}
        handles.append(Line2D([], [], marker=marker, label=label, **mark))
    style.figure_legend(figure, handles, columns=4)
