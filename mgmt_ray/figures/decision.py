"""Decision curves: what acting on the probabilities is worth, beside acting on everybody."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mgmt_ray.figures import style

ALL_LINE = (0, (5, 1, 1, 1))


def decision_figure(decision: pd.DataFrame, ensembles: Sequence[str] = ("best overall",)) -> Figure:
    """Net benefit against the probability from which one would act.

    A panel per ensemble with its networks, and one with the comparison models, if there are any.
    Acting on nobody is worth 0, the dotted line; the thin line is acting on everybody, which leaves
    the panel where it does harm.

    Args:
        decision: columns of ``decision.csv``.
        ensembles: at least one network has each.
    """
    alone = decision["network"] == decision["ensemble"]
    parts = [(name, decision[decision["ensemble"] == name]) for name in ensembles]
    if alone.any():
        parts.append(("Comparison models", decision[alone]))
    most = max(rows["network"].nunique() for _, rows in parts)
    figure, axes = style.curve_panels(len(parts), most + 2)
    highest = max(0.05, *(float(rows["treat_all"].max()) for _, rows in parts))
    highest = max(highest, *(float(rows["net_benefit"].max()) for _, rows in parts))
    for place, (name, rows) in zip(axes, parts, strict=True):
        _draw(place, rows)
        place.set_ylim(-0.4 * highest, 1.08 * highest)
        style.title(place, name)
        style.name_axes(place, "threshold probability", "net benefit")
        style.legend(place, "")
    return figure


def _draw(axes: Axes, rows: pd.DataFrame) -> None:
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
    for network, own in rows.groupby("network", sort=False):
        axes.plot(
            own["threshold"],
            own["net_benefit"],
            color=style.network_colour(str(network)),
            linestyle=style.network_line(str(network)),
            linewidth=1.8,
            label=style.network_label(str(network)),
        )
