"""ROC and precision-recall curves, of ensembles (Schmitz et al. 2024, fig. 2, 3) and of slices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mgmt_ray.figures import style
from mgmt_ray.statistics.curves import precision_recall_points, roc_points
from mgmt_ray.statistics.intervals import read_interval
from mgmt_ray.statistics.slice_classification import LEVELS, score_levels


def roc_figure(
    predictions: pd.DataFrame,
    metrics: pd.DataFrame,
    ensembles: Sequence[str],
    details: Mapping[tuple[str, str], str] | None = None,
) -> Figure:
    """Plot sensitivity against 1 − specificity, with each AUC and its interval in the legend.

    Args:
        predictions: ensemble predictions (see :data:`.ensembles.ENSEMBLE_COLUMNS`).
        metrics: the metrics table of the same predictions.
        ensembles: at least one; a panel each.
        details: by network and ensemble; text in the legend below the value, for instance which
            ensemble was chosen.
    """
    diagonal = dict.fromkeys(ensembles, ([0.0, 1.0], [0.0, 1.0]))
    figure, axes = _curve_figure(
        predictions, metrics, ensembles, details, "auc", roc_points, diagonal
    )
    for ax in axes:
        style.label_axes(ax, "1 − specificity", "sensitivity")
        style.legend(ax, "AUC [95 % interval]")
    return figure


def precision_recall_figure(
    predictions: pd.DataFrame,
    metrics: pd.DataFrame,
    ensembles: Sequence[str],
    details: Mapping[tuple[str, str], str] | None = None,
) -> Figure:
    """Plot precision against recall in steps, with each AP and its interval in the legend.

    The dotted line is the share of methylated subjects, the precision of a random classifier.

    Arguments as of :func:`roc_figure`.
    """
    prevalence = predictions.groupby("ensemble")["label"].mean()
    chance = {name: ([0.0, 1.0], [prevalence[name]] * 2) for name in ensembles}
    figure, axes = _curve_figure(
        predictions, metrics, ensembles, details, "ap", precision_recall_points, chance
    )
    for ax in axes:
        style.label_axes(ax, "recall", "precision")
        style.legend(ax, "AP [95 % interval]")
    return figure


def _curve_figure(
    predictions: pd.DataFrame,
    metrics: pd.DataFrame,
    ensembles: Sequence[str],
    details: Mapping[tuple[str, str], str] | None,
    metric: str,
    points: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    by_chance: Mapping[str, tuple[list[float], list[float]]],
) -> tuple[Figure, list[Axes]]:
    """Plot each network's curve in a panel per ensemble, beside a random classifier's line."""
    lines = style.legend_lines(metrics, ensembles, details)
    figure, axes = style.curve_panels(len(ensembles), lines)
    for ax, name in zip(axes, ensembles, strict=True):
        ax.plot(*by_chance[name], color=style.REFERENCE_COLOUR, linewidth=1, linestyle=(0, (1, 2)))
        chosen = predictions[predictions["ensemble"] == name]
        for network, rows in chosen.groupby("network", sort=False):
            x, y = points(
                rows["label"].to_numpy(dtype=int), rows["probability"].to_numpy(dtype=float)
            )
            ax.plot(
                x,
                y,
                # each precision holds from the previous recall on
                drawstyle="steps-pre" if metric == "ap" else "default",
                color=style.network_colour(str(network)),
                linestyle=style.network_line(str(network)),
                linewidth=1.8,
                label=style.metric_label(metrics, str(network), name, metric, details),
            )
        style.unit_square(ax)
        style.title(ax, name)
    return figure, axes


# From Okabe and Ito's palette, which colour-blind readers can distinguish; line styles for print.
_PHASES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "train": ("training", {"color": "#C98500", "linestyle": (0, (1, 1)), "linewidth": 1.8}),
    "validation": ("validation", {"color": "#009E73", "linestyle": "--", "linewidth": 1.8}),
    "test": ("test", {"color": "#0072B2", "linestyle": "-", "linewidth": 2.2}),
}
_OTHERS: dict[str, Any] = {"color": "#a3a3a3", "linewidth": 0.8}


def slice_roc_figure(slices: pd.DataFrame, best: pd.DataFrame) -> Figure:
    """Plot each best model's ROC curves by phase, and in grey the test curves of other folds.

    A row of panels per modality and outer split: by slice on the left, by patient on the right.
    Where a class is missing no curve is drawn, and the legend says so.

    Args:
        slices: one network's :data:`mgmt_ray.statistics.slice_classification.SLICE_COLUMNS`.
        best: of the same network, as :func:`.best_slice_models` returns them.
    """
    splits = best[["modality", "outer_fold", "trial", "fold"]].drop_duplicates()
    several = splits["outer_fold"].nunique() > 1
    figure, axes = style.panels(2 * len(splits), columns=2, width=4.3, height=4.6)
    next_axes = iter(axes)
    for split in splits.to_dict("records"):
        in_split = (slices["modality"] == split["modality"]) & (
            slices["outer_fold"] == split["outer_fold"]
        )
        of_level = score_levels(slices[in_split])
        for level in LEVELS:
            ax = next(next_axes)
            rows = best[(best["trial"] == split["trial"]) & (best["level"] == level)]
            _draw_panel(ax, of_level[level], split["trial"], rows.to_dict("records"))
            outer = f", split {split['outer_fold']}" if several else ""
            style.title(ax, f"{split['modality']}{outer}, by {level} (fold {split['fold']})")
    return figure


def _draw_panel(ax: Axes, slices: pd.DataFrame, trial: str, areas: list[dict[Any, Any]]) -> None:
    """Draw one model's curves over those of the other models on the same test patients."""
    chance: dict[str, Any] = {
        "color": style.REFERENCE_COLOUR,
        "linewidth": 1,
        "linestyle": (0, (1, 2)),
    }
    ax.plot([0, 1], [0, 1], **chance)
    others = slices[(slices["split"] == "test") & (slices["trial"] != trial)]
    drawn = [_draw_curve(ax, rows, _OTHERS) for _, rows in others.groupby("trial", sort=False)]
    best = slices[slices["trial"] == trial]
    by_phase = {row["phase"]: row for row in areas}
    for phase, (name, line) in _PHASES.items():
        if phase not in by_phase:
            continue
        label = f"{name} {_auc_label(by_phase[phase])}"
        if not _draw_curve(ax, best[best["split"] == phase], {**line, "label": label}):
            ax.plot([], [], **line, label=f"{name} (one class only)")
    if any(drawn):
        ax.plot([], [], **_OTHERS, label="test, models of other folds and seeds")
    style.unit_square(ax)
    style.label_axes(ax, "1 − specificity", "sensitivity")
    style.legend(ax, "AUC [95 % interval of test]")


def _draw_curve(ax: Axes, rows: pd.DataFrame, line: Mapping[str, Any]) -> bool:
    """Draw a curve if both classes occur; return whether they do."""
    labels = rows["label"].to_numpy(np.int64)
    if len(np.unique(labels)) < 2:
        return False
    ax.plot(*roc_points(labels, rows["probability"].to_numpy(np.float64)), **line)
    return True


def _auc_label(row: Mapping[Any, Any]) -> str:
    interval = read_interval(row, "auc")
    return f"{interval.value:.3f}" if np.isnan(interval.low) else str(interval)
