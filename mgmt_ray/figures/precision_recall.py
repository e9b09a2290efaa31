"""Precision-recall curves, one panel per ensemble (figures 4 and 5 of Schmitz et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from mgmt_ray.figures import style
from mgmt_ray.statistics.curves import precision_recall_points


def precision_recall_figure(
    predictions: pd.DataFrame,
    metrics: pd.DataFrame,
    ensembles: Sequence[str],
    details: Mapping[tuple[str, str], str] | None = None,
) -> Figure:
    """Precision against recall in steps, with each AP and its interval in the legend.

    The dotted line is the share of methylated subjects, the precision of a guess.

    Args:
        predictions: ensemble predictions.
        metrics: the metrics table of the same predictions.
        ensembles: one panel each, at least one.
        details: by network and ensemble what the legend says below a value, for instance which
            ensemble was chosen.
    """
    lines = style.legend_lines(metrics, ensembles, details)
    figure, axes = style.curve_panels(len(ensembles), lines)
    for place, name in zip(axes, ensembles, strict=True):
        chosen = predictions[predictions["ensemble"] == name]
        place.axhline(
            chosen["label"].mean(),
            color=style.REFERENCE_COLOUR,
            linewidth=1,
            linestyle=(0, (1, 2)),
        )
        for network, rows in chosen.groupby("network", sort=False):
            recall, precision = precision_recall_points(
                rows["label"].to_numpy(dtype=int), rows["probability"].to_numpy(dtype=float)
            )
            place.step(
                recall,
                precision,
                where="pre",
                color=style.network_colour(str(network)),
                linestyle=style.network_line(str(network)),
                linewidth=1.8,
                label=style.metric_label(metrics, str(network), name, "ap", details),
            )
        style.unit_square(place)
        style.title(place, name)
        style.name_axes(place, "recall", "precision")
        style.legend(place, "AP [95 % interval]")
    return figure
