"""SpotTune's policies: for each subject and block, by class, and agreement between folds."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mgmt_ray.cohort.subject import group_modalities
from mgmt_ray.figures import style
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.statistics.policy_summary import (
    CERTAIN,
    block_columns,
    class_means,
    policy_stability,
    sort_by_class,
    subject_policies,
)

TUNED_COLOURS = "viridis"
"""From frozen to tuned; perceptually uniform, also for colour-blind readers."""

ROW_HEIGHT = 0.105
"""Height of a subject's row in inches, so that its name can be read."""

NAME_SIZE = 5.5
_CLASS_LINES: dict[int, Literal["-", "--"]] = {0: "--", 1: "-"}
_CLASS_MARKERS = {0: "s", 1: "o"}
_STABILITY_PANELS = (
    ("correlation", "Correlation between folds", "mean over pairs of folds"),
    ("fold_std", "Standard deviation over folds", "of a subject's probability"),
    ("certain", "Near-certain decisions", f"share below {CERTAIN} or above {1 - CERTAIN}"),
)


def policy_heatmap_figure(policies: pd.DataFrame) -> Figure:
    """Draw the tuned probability of each test subject and block, a panel per network and group.

    A cell is the mean over all members of the group's modalities. Rows are the same in all panels
    of a network: unmethylated first, each class from least to most tuned; a strip on the left and a
    white line separate the classes.

    Args:
        policies: one row per member and subject (``policies.csv``), at least one.
    """
    parts = [
        (str(network), group, rows[rows["modality"].isin(modalities)])
        for network, rows in subject_policies(policies).groupby("network", sort=False)
        for group, modalities in group_modalities(rows["modality"]).items()
    ]
    num_groups = max(sum(part[0] == network for part in parts) for network, _, _ in parts)
    num_subjects = policies["subject"].nunique()
    height = max(2.6, 1.1 + ROW_HEIGHT * num_subjects)
    figure, axes = style.panels(len(parts), columns=min(3, num_groups), width=3.1, height=height)
    image = None
    labelled_network = ""
    for ax, (network, group, rows) in zip(axes, parts, strict=True):
        of_network = policies[policies["network"] == network]
        blocks = block_columns(of_network)
        order, labels = sort_by_class(subject_policies(of_network), blocks)
        # a subject that a group's models did not predict has an empty row
        matrix = rows.groupby("subject")[blocks].mean().reindex(order).to_numpy(dtype=float)
        image = ax.imshow(
            matrix, cmap=TUNED_COLOURS, vmin=0, vmax=1, aspect="auto", interpolation="nearest"
        )
        _mark_classes(ax, labels)
        _label_rows(ax, order if network != labelled_network else [], len(order))
        labelled_network = network
        ax.set_xticks(range(len(blocks)), [str(n + 1) for n in range(len(blocks))])
        ax.tick_params(axis="x", labelsize=style.SMALL_FONT_SIZE - 1.5)
        style.title(ax, f"{network_label(network)} · {group}")
        style.label_axes(ax, "residual block", "")
    assert image is not None
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.5, aspect=40, pad=0.01)
    bar.set_label("probability that the block is tuned", fontsize=style.SMALL_FONT_SIZE)
    bar.ax.tick_params(labelsize=style.SMALL_FONT_SIZE, colors=style.INK)
    _add_class_legend(figure, strips=True)
    return figure


def policy_classes_figure(policies: pd.DataFrame) -> Figure:
    """Plot the mean tuned probability of each block by class, a panel per network and modality.

    Bars are 95 % bootstrap intervals over subjects.

    Args:
        policies: as for :func:`policy_heatmap_figure`.
    """
    means = class_means(policies)
    parts = list(means.groupby(["network", "modality"], sort=False))
    figure, axes = style.panels(len(parts), columns=3, width=3.5, height=2.2)
    for ax, ((network, modality), rows) in zip(axes, parts, strict=True):
        ax.axhline(0.5, color=style.REFERENCE_COLOUR, linewidth=1, linestyle=(0, (1, 2)))
        for label, of_class in rows.groupby("label"):
            _draw_class(ax, of_class, int(str(label)))
        ax.set_ylim(-0.03, 1.03)
        last = int(rows["block"].max())
        ax.set_xticks(range(1, last + 1, 1 + (last - 1) // 6))
        style.title(ax, f"{network_label(str(network))} · {modality}")
        style.label_axes(ax, "residual block", "P(tuned)")
    _add_class_legend(figure, strips=False)
    return figure


def policy_stability_figure(policies: pd.DataFrame) -> Figure:
    """Plot the agreement of agents of different folds, and near-certain decisions, by modality.

    Filled dots are correlations over subjects and blocks; open ones are correlations after
    subtracting each block's mean: whether folds agree about subjects, not only about blocks.

    Args:
        policies: as for :func:`policy_heatmap_figure`.
    """
    table = policy_stability(policies)
    several = table["network"].nunique() > 1
    names = [
        f"{network_label(row['network'])} {row['modality']}" if several else row["modality"]
        for row in table.to_dict("records")
    ]
    figure, axes = style.panels(3, columns=3, width=3.3, height=1.5 + 0.22 * len(table))
    rows = np.arange(len(table))
    colours = [style.network_colour(str(network)) for network in table["network"]]
    for ax, (column, heading, x_label) in zip(axes, _STABILITY_PANELS, strict=True):
        ax.scatter(table[column], rows, color=colours, s=28, zorder=3)
        if column == "correlation":
            ax.scatter(
                table["subject_correlation"], rows, facecolors="white", edgecolors=colours, s=28
            )
            ax.axvline(0, color=style.REFERENCE_COLOUR, linewidth=1, linestyle=(0, (1, 2)))
            both = table[["correlation", "subject_correlation"]].to_numpy(dtype=np.float64)
            ax.set_xlim(min([0.0, *both[both < 0]]) - 0.04, 1.04)
        else:
            # two folds with opposite decisions, 0 and 1, have a standard deviation of 0.71
            ax.set_xlim(-0.02, 1.02 if column == "certain" else 0.74)
        ax.set_ylim(len(table) - 0.5, -0.5)
        ax.set_yticks(rows, names if ax is axes[0] else [""] * len(rows))
        style.title(ax, heading)
        style.label_axes(ax, x_label, "")
    _add_correlation_notes(axes[0])
    return figure


def _mark_classes(ax: Axes, labels: np.ndarray) -> None:
    """Draw a strip of each class's colour left of the cells, and a white line between classes."""
    ax.grid(visible=False)
    left_of_cells = ax.get_yaxis_transform()
    for label in (0, 1):
        rows = np.flatnonzero(labels == label)
        if len(rows):
            colour = style.LABEL_COLOURS[label]
            extent = (float(rows[0]) - 0.5, float(rows[-1]) + 0.5)
            ax.plot(
                [-0.02, -0.02],
                extent,
                transform=left_of_cells,
                clip_on=False,
                color=colour,
                linewidth=4,
                solid_capstyle="butt",
            )
    for row, (label, next_label) in enumerate(pairwise(labels)):
        if label != next_label:
            ax.axhline(row + 0.5, color="white", linewidth=2)
    ax.set_xlim(-0.5, ax.get_images()[0].get_size()[1] - 0.5)
    ax.set_ylim(len(labels) - 0.5, -0.5)


def _label_rows(ax: Axes, names: list[str], num_rows: int) -> None:
    ax.tick_params(axis="y", labelsize=NAME_SIZE, length=0, pad=8)
    ax.set_yticks(range(num_rows) if names else [], names or None)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)


def _draw_class(ax: Axes, rows: pd.DataFrame, label: int) -> None:
    """Draw one class's means and intervals, shifted so that the classes do not hide each other."""
    shift = 0.13 if label else -0.13
    ends = rows[["tuned_low", "tuned_high"]].to_numpy(dtype=np.float64)
    ax.errorbar(
        rows["block"] + shift,
        rows["tuned"],
        yerr=np.abs(ends.T - rows["tuned"].to_numpy(dtype=np.float64)),
        color=style.LABEL_COLOURS[1 if label else 0],
        linestyle=_CLASS_LINES[label],
        marker=_CLASS_MARKERS[label],
        markersize=3,
        linewidth=0.9,
        elinewidth=1.2,
    )


def _add_class_legend(figure: Figure, strips: bool) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=style.LABEL_COLOURS[label],
            linestyle="-" if strips else _CLASS_LINES[label],
            marker="" if strips else _CLASS_MARKERS[label],
            markersize=4,
            linewidth=4 if strips else 1.2,
            label=style.LABEL_NAMES[label],
        )
        for label in (0, 1)
    ]
    style.figure_legend(figure, handles, columns=2)


def _add_correlation_notes(ax: Axes) -> None:
    colour = style.REFERENCE_COLOUR
    mark: dict[str, Any] = {
        "linestyle": "none",
        "marker": "o",
        "markersize": 5,
        "markeredgecolor": colour,
    }
    ax.legend(
        handles=[
            Line2D([], [], markerfacecolor=colour, label="subjects and blocks", **mark),
            Line2D([], [], markerfacecolor="white", label="each block's mean removed", **mark),
        ],
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        borderaxespad=4.2,
        ncols=1,
        fontsize=style.SMALL_FONT_SIZE,
        frameon=False,
        labelcolor=style.INK,
    )
