"""Training curves of each member, with its kept epoch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mgmt_ray.figures import style
from mgmt_ray.figures.network_labels import network_label

TRAIN_COLOUR = "#9a9a9a"
_FALLBACK = "last_epoch"
CURVES = (("loss", "loss (nats)"), ("auc", "AUC"))
SEGMENTATION_CURVES = (("loss", "loss"), ("dice", "Dice per slice"))
"""Columns of ``epochs.csv`` without ``train_`` or ``validation_``, and their axis labels."""

_BEST = {"best_accuracy": "best accuracy", "lowest_loss": "lowest loss"}
"""The criterion of a kept epoch by rule; M for other rules."""


def training_figure(
    epochs: pd.DataFrame,
    members: pd.DataFrame,
    network: str,
    curves: Sequence[tuple[str, str]] = CURVES,
) -> Figure:
    """Plot two metrics over the epochs of one network, a row of two panels per modality.

    Each member has thin lines for its training folds and its validation fold. A filled dot marks
    the epoch kept for the best M (for a slice classifier the best accuracy, for a segmentation the
    lowest loss), an open square the last epoch, kept because none qualified.

    Args:
        epochs: all trials' epochs.csv, with a column ``trial``.
        members: see :data:`mgmt_ray.selection.members.MEMBER_COLUMNS`.
        network: the network to plot.
        curves: two pairs of column and axis label, see :data:`CURVES`.
    """
    of_network = members[members["network"] == network]
    modalities = list(dict.fromkeys(of_network["modality"]))
    figure, axes = style.panels(2 * len(modalities), columns=2, width=5.4, height=2.15)
    by_trial = dict(tuple(epochs.groupby("trial", sort=False)))
    for row, modality in enumerate(modalities):
        of_modality = of_network[of_network["modality"] == modality]
        for ax, (curve, name) in zip(axes[2 * row : 2 * row + 2], curves, strict=True):
            for member in of_modality.to_dict("records"):
                kept = (int(member["epoch"]), str(member["rule"]))
                _draw_member(ax, by_trial[member["trial"]], curve, network, kept)
            ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
            style.title(ax, f"{network_label(network)} · {modality}")
            style.label_axes(ax, "epoch" if row == len(modalities) - 1 else "", name)
            if curve == "auc":
                ax.axhline(
                    0.5, color=style.REFERENCE_COLOUR, linewidth=1, linestyle=(0, (1, 2)), zorder=1
                )
            if curve != "loss":
                ax.set_ylim(-0.03, 1.03)
    _add_legend(figure, network, set(of_network["rule"]))
    return figure


def _draw_member(
    ax: Axes, epochs: pd.DataFrame, curve: str, network: str, kept: tuple[int, str]
) -> None:
    """Draw both curves of one member, and the mark of its kept (epoch, rule)."""
    colour = style.network_colour(network)
    validation = epochs[f"validation_{curve}"]
    ax.plot(epochs["epoch"], epochs[f"train_{curve}"], color=TRAIN_COLOUR, linewidth=0.8)
    ax.plot(epochs["epoch"], validation, color=colour, linewidth=0.8, alpha=0.85)
    epoch, rule = kept
    ax.plot(
        [epoch],
        validation[epochs["epoch"] == epoch],
        marker="s" if rule == _FALLBACK else "o",
        markersize=5,
        markerfacecolor="white" if rule == _FALLBACK else colour,
        markeredgecolor=colour,
        linestyle="none",
        zorder=3,
    )


def _add_legend(figure: Figure, network: str, rules: Collection[str]) -> None:
    """Draw one legend for all panels, above them."""
    colour = style.network_colour(network)
    best = next((text for rule, text in _BEST.items() if rule in rules), "best M")
    mark: dict[str, Any] = {"linestyle": "none", "markersize": 5, "markeredgecolor": colour}
    handles = [
        Line2D([], [], color=TRAIN_COLOUR, linewidth=1.5, label="training folds"),
        Line2D([], [], color=colour, linewidth=1.5, label="validation fold"),
        Line2D([], [], marker="o", markerfacecolor=colour, label=f"kept: {best}", **mark),
    ]
    if best == "best M":
        text = "kept: last epoch"
        handles.append(Line2D([], [], marker="s", markerfacecolor="white", label=text, **mark))
    style.figure_legend(figure, handles, columns=4)
