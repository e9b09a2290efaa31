"""ROC curves of the networks, one panel per ensemble (figures 2 and 3 of Schmitz et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mgmt_ray.figures import style
from mgmt_ray.statistics.curves import precision_recall_points, roc_points
from mgmt_ray.statistics.intervals import read_interval
from mgmt_ray.statistics.slice_scores import LEVELS, score_levels


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
    for ax, name in zip(axes, ensembles, strict=True):
        ax.plot([0, 1], [0, 1], color=style.REFERENCE_COLOUR, linewidth=1, linestyle=(0, (1, 2)))
        for network, rows in predictions[predictions["ensemble"] == name].groupby(
            "network", sort=False
        ):
            false_positives, true_positives = roc_points(
                rows["label"].to_numpy(dtype=int), rows["probability"].to_numpy(dtype=float)
            )
            ax.plot(
                false_positives,
                true_positives,
                color=style.network_colour(str(network)),
                linestyle=style.network_line(str(network)),
                linewidth=1.8,
                label=style.metric_label(metrics, str(network), name, "auc", details),
            )
        style.unit_square(ax)
        style.title(ax, name)
        style.label_axes(ax, "1 − specificity", "sensitivity")
        style.legend(ax, "AUC [95 % interval]")
    return figure


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
    for ax, name in zip(axes, ensembles, strict=True):
        chosen = predictions[predictions["ensemble"] == name]
        ax.axhline(
            chosen["label"].mean(),
            color=style.REFERENCE_COLOUR,
            linewidth=1,
            linestyle=(0, (1, 2)),
        )
        for network, rows in chosen.groupby("network", sort=False):
            recall, precision = precision_recall_points(
                rows["label"].to_numpy(dtype=int), rows["probability"].to_numpy(dtype=float)
            )
            ax.step(
                recall,
                precision,
                where="pre",
                color=style.network_colour(str(network)),
                linestyle=style.network_line(str(network)),
                linewidth=1.8,
                label=style.metric_label(metrics, str(network), name, "ap", details),
            )
        style.unit_square(ax)
        style.title(ax, name)
        style.label_axes(ax, "recall", "precision")
        style.legend(ax, "AP [95 % interval]")
    return figure


# Of Okabe and Ito's palette, which stays apart for colour-blind readers; line styles do in print.
_PHASES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "train": ("training", {"color": "#C98500", "linestyle": (0, (1, 1)), "linewidth": 1.8}),
    "validation": ("validation", {"color": "#009E73", "linestyle": "--", "linewidth": 1.8}),
    "test": ("test", {"color": "#0072B2", "linestyle": "-", "linewidth": 2.2}),
}
_OTHERS: dict[str, Any] = {"color": "#a3a3a3", "linewidth": 0.8}


def slice_roc_figure(slices: pd.DataFrame, best: pd.DataFrame) -> Figure:
    """Training, validation and test of each best model, and in grey the test of the other folds.

    A row of panels per modality and outer split: by slice on the left, by patient on the right. A
    curve of one class alone is not drawn, and the legend says so.

    Args:
        slices: one network's :data:`mgmt_ray.statistics.slice_scores.SLICE_COLUMNS`.
        best: of the same network, as :func:`.best_slice_models` returns them.
    """
    splits = best[["modality", "outer_fold", "trial", "fold"]].drop_duplicates()
    several = splits["outer_fold"].nunique() > 1
    figure, axes = style.panels(2 * len(splits), columns=2, width=4.3, height=4.6)
    places = iter(axes)
    for split in splits.to_dict("records"):
        where = (slices["modality"] == split["modality"]) & (
            slices["outer_fold"] == split["outer_fold"]
        )
        of_level = score_levels(slices[where])
        for level in LEVELS:
            ax = next(places)
            rows = best[(best["trial"] == split["trial"]) & (best["level"] == level)]
            _draw_panel(ax, of_level[level], split["trial"], rows.to_dict("records"))
            outer = f", split {split['outer_fold']}" if several else ""
            style.title(ax, f"{split['modality']}{outer}, by {level} (fold {split['fold']})")
    return figure


def _draw_panel(ax: Axes, slices: pd.DataFrame, trial: str, areas: list[dict[Any, Any]]) -> None:
    """One model's curves over those of the other models on the same test patients."""
    chance: dict[str, Any] = {
        "color": style.REFERENCE_COLOUR,
        "linewidth": 1,
        "linestyle": (0, (1, 2)),
    }
    ax.plot([0, 1], [0, 1], **chance)
    others = slices[(slices["split"] == "test") & (slices["trial"] != trial)]
    drawn = [_draw_curve(ax, rows, _OTHERS) for _, rows in others.groupby("trial", sort=False)]
    own = slices[slices["trial"] == trial]
    by_phase = {row["phase"]: row for row in areas}
    for phase, (name, line) in _PHASES.items():
        if phase not in by_phase:
            continue
        label = f"{name} {_area(by_phase[phase])}"
        if not _draw_curve(ax, own[own["split"] == phase], {**line, "label": label}):
            ax.plot([], [], **line, label=f"{name} (one class only)")
    if any(drawn):
        ax.plot([], [], **_OTHERS, label="test, models of other folds and seeds")
    style.unit_square(ax)
    style.label_axes(ax, "1 − specificity", "sensitivity")
    style.legend(ax, "AUC [95 % interval of test]")


def _draw_curve(ax: Axes, rows: pd.DataFrame, line: Mapping[str, Any]) -> bool:
    """Whether there are both classes, which a curve needs."""
    labels = rows["label"].to_numpy(np.int64)
    if len(np.unique(labels)) < 2:
        return False
    ax.plot(*roc_points(labels, rows["probability"].to_numpy(np.float64)), **line)
    return True


def _area(row: Mapping[Any, Any]) -> str:
    interval = read_interval(row, "auc")
    return f"{interval.value:.3f}" if np.isnan(interval.low) else str(interval)
