"""Where the variance of a test AUC comes from: policy draws, folds, seeds, subjects."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mgmt_ray.figures import style

SOURCES: dict[str, tuple[str, str, str]] = {
    "draws": ("policy draws", "#56B4E9", "v"),
    "folds": ("folds", "#009E73", "s"),
    "seeds": ("seeds", "#CC79A7", "D"),
    "subjects": ("test subjects", "#000000", "o"),
}
"""Name for readers, colour and marker of each source."""


def variance_figure(variance: pd.DataFrame) -> Figure:
    """The standard deviation of AUC from each source alone, a panel per network.

    Models that are their own only ensemble share the last panel. A source of which there was only
    one (one seed, say) has no deviation and no mark; the legend says so where that holds for all.

    Args:
        variance: columns of ``variance.csv``, at least one row.
    """
    parts = _parts(variance)
    longest = max(rows["ensemble"].nunique() for _, rows in parts)
    figure, axes = style.panels(len(parts), columns=3, width=3.6, height=1.0 + 0.21 * longest)
    greatest = variance["auc_deviation"].max()
    for place, (name, own) in zip(axes, parts, strict=True):
        ensembles = list(dict.fromkeys(own["ensemble"]))
        for source, (_, colour, marker) in SOURCES.items():
            rows = own[own["source"] == source]
            heights = [ensembles.index(name) for name in rows["ensemble"]]
            place.scatter(
                rows["auc_deviation"], heights, color=colour, marker=marker, s=22, zorder=3
            )
        place.set_ylim(len(ensembles) - 0.5, -0.5)
        place.set_yticks(range(len(ensembles)), [style.network_label(e) for e in ensembles])
        place.set_xlim(-0.03 * (greatest or 1), 1.08 * (greatest or 1))
        style.title(place, name)
        style.name_axes(place, "standard deviation of AUC", "")
    _explain(figure, variance)
    return figure


def _parts(variance: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each panel, under its title."""
    alone = variance["network"] == variance["ensemble"]
    parts = [
        (style.network_label(str(network)), rows)
        for network, rows in variance[~alone].groupby("network", sort=False)
    ]
    return [*parts, ("Comparison models", variance[alone])] if alone.any() else parts


def _explain(figure: Figure, variance: pd.DataFrame) -> None:
    known = variance.groupby("source")["auc_deviation"].count()
    handles = []
    for source, (name, colour, marker) in SOURCES.items():
        words = name if known.get(source, 0) else f"{name} (only one, so not known)"
        mark: dict[str, Any] = {"linestyle": "none", "color": colour, "markersize": 5}
        handles.append(Line2D([], [], marker=marker, label=words, **mark))
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=4,
        fontsize=style.SMALL_FONT_SIZE,
        frameon=False,
        labelcolor=style.INK,
    )
