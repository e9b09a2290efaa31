"""ROC curves of the networks, one panel per ensemble (figures 2 and 3 of Schmitz et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from mgmt_ray.figures import style
from mgmt_ray.statistics.curves import roc_points


def roc_figure(
    predictions: pd.DataFrame,
    metrics: pd.DataFrame,
    ensembles: Sequence[str],
    details: Mapping[tuple[str, str], str] | None = None,
) -> Figure:
    """Sensitivity against 1 − specificity, with each AUC and its interval in the legend.

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
        place.plot([0, 1], [0, 1], color=style.REFERENCE_COLOUR, linewidth=1, linestyle=(0, (1, 2)))
        for network, rows in predictions[predictions["ensemble"] == name].groupby(
            "network", sort=False
        ):
            false_positives, true_positives = roc_points(
                rows["label"].to_numpy(dtype=int), rows["probability"].to_numpy(dtype=float)
            )
            place.plot(
                false_positives,
                true_positives,
                color=style.network_colour(str(network)),
                linestyle=style.network_line(str(network)),
                linewidth=1.8,
                label=style.metric_label(metrics, str(network), name, "auc", details),
            )
        style.unit_square(place)
        style.title(place, name)
        style.name_axes(place, "1 − specificity", "sensitivity")
        style.legend(place, "AUC [95 % interval]")
    return figure
