"""What SpotTune's agent decides for each subject and block, by class, and from fold to fold."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mgmt_ray.cohort.subject import by_group
from mgmt_ray.figures import style
from mgmt_ray.statistics.policy_summary import (
    CERTAIN,
    block_columns,
    by_class,
    class_means,
    stability,
    subject_policies,
)

TUNED_COLOURS = "viridis"
"""From certainly frozen to certainly tuned; even in lightness, also for colour-blind readers."""

ROW_HEIGHT = 0.105
"""Inches of a subject's row, so that its name can be read."""

NAME_SIZE = 5.5
_CLASS_LINES: dict[int, Literal["-", "--"]] = {0: "--", 1: "-"}
_CLASS_MARKERS = {0: "s", 1: "o"}
_STABILITY_PANELS = (
    ("correlation", "Correlation between folds", "mean over pairs of folds"),
    ("deviation", "Deviation over folds", "of a subject's probability"),
    ("certain", "Near-certain decisions", f"share below {CERTAIN} or above {1 - CERTAIN}"),
)


def policy_heatmap_figure(policies: pd.DataFrame) -> Figure:
    """The tuned probability of each test subject and block, a panel per network and group.

    A group's cell is the mean over all members of its modalities. Rows are the same in all panels
    of a network: the unmethylated first, each class from least to most tuned; a strip at the left
    and a white line tell the classes apart.

    Args:
        policies: one row per member and subject (``policies.csv``), at least one.
    """
    parts = [
        (str(network), group, rows[rows["modality"].isin(modalities)])
        for network, rows in subject_policies(policies).groupby("network", sort=False)
        for group, modalities in by_group(rows["modality"]).items()
    ]
    num_groups = max(sum(part[0] == network for part in parts) for network, _, _ in parts)
    num_subjects = policies["subject"].nunique()
    height = max(2.6, 1.1 + ROW_HEIGHT * num_subjects)
    figure, axes = style.panels(len(parts), columns=min(3, num_groups), width=3.1, height=height)
    image = None
    named = ""
    for place, (network, group, rows) in zip(axes, parts, strict=True):
        whole = policies[policies["network"] == network]
        blocks = block_columns(whole)
        order, labels = by_class(subject_policies(whole), blocks)
        # a subject that a group's models did not predict has an empty row
        matrix = rows.groupby("subject")[blocks].mean().reindex(order).to_numpy(dtype=float)
        image = place.imshow(
            matrix, cmap=TUNED_COLOURS, vmin=0, vmax=1, aspect="auto", interpolation="nearest"
        )
        _mark_classes(place, labels)
        _name_rows(place, order if network != named else [], len(order))
        named = network
        place.set_xticks(range(len(blocks)), [str(n + 1) for n in range(len(blocks))])
        place.tick_params(axis="x", labelsize=style.SMALL_FONT_SIZE - 1.5)
        style.title(place, f"{style.network_label(network)} · {group}")
        style.name_axes(place, "residual block", "")
    assert image is not None
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.5, aspect=40, pad=0.01)
    bar.set_label("probability that the block is tuned", fontsize=style.SMALL_FONT_SIZE)
    bar.ax.tick_params(labelsize=style.SMALL_FONT_SIZE, colors=style.INK)
    _explain_classes(figure, strips=True)
    return figure


def policy_classes_figure(policies: pd.DataFrame) -> Figure:
    """Mean tuned probability of each block by class, a panel per network and modality.

    Bars are 95 % bootstrap intervals over subjects.

    Args:
        policies: as for :func:`policy_heatmap_figure`.
    """
    means = class_means(policies)
    parts = list(means.groupby(["network", "modality"], sort=False))
    figure, axes = style.panels(len(parts), columns=3, width=3.5, height=2.2)
    for place, ((network, modality), rows) in zip(axes, parts, strict=True):
        place.axhline(0.5, color=style.REFERENCE_COLOUR, linewidth=1, linestyle=(0, (1, 2)))
        for label, own in rows.groupby("label"):
            _draw_class(place, own, int(str(label)))
        place.set_ylim(-0.03, 1.03)
        last = int(rows["block"].max())
        place.set_xticks(range(1, last + 1, 1 + (last - 1) // 6))
        style.title(place, f"{style.network_label(str(network))} · {modality}")
        style.name_axes(place, "residual block", "P(tuned)")
    _explain_classes(figure, strips=False)
    return figure


def policy_stability_figure(policies: pd.DataFrame) -> Figure:
    """How far agents of different folds decide alike, and how surely, a row per modality.

    Filled dots are correlations over subjects and blocks; open ones are what is left of them once
    each block's mean is taken away: whether folds agree about subjects, not only about blocks.

    Args:
        policies: as for :func:`policy_heatmap_figure`.
    """
    table = stability(policies)
    several = table["network"].nunique() > 1
    names = [
        f"{style.network_label(row['network'])} {row['modality']}" if several else row["modality"]
        for row in table.to_dict("records")
    ]
    figure, axes = style.panels(3, columns=3, width=3.3, height=1.5 + 0.22 * len(table))
    rows = np.arange(len(table))
    colours = [style.network_colour(str(network)) for network in table["network"]]
    for place, (column, heading, words) in zip(axes, _STABILITY_PANELS, strict=True):
        place.scatter(table[column], rows, color=colours, s=28, zorder=3)
        if column == "correlation":
            place.scatter(
                table["subject_correlation"], rows, facecolors="white", edgecolors=colours, s=28
            )
            place.axvline(0, color=style.REFERENCE_COLOUR, linewidth=1, linestyle=(0, (1, 2)))
            both = table[["correlation", "subject_correlation"]].to_numpy(dtype=np.float64)
            place.set_xlim(min([0.0, *both[both < 0]]) - 0.04, 1.04)
        else:
            # two folds that decide the opposite, 0 and 1, have a deviation of 0.71
            place.set_xlim(-0.02, 1.02 if column == "certain" else 0.74)
        place.set_ylim(len(table) - 0.5, -0.5)
        place.set_yticks(rows, names if place is axes[0] else [""] * len(rows))
        style.title(place, heading)
        style.name_axes(place, words, "")
    _explain_correlations(axes[0])
    return figure


def _mark_classes(place: Axes, labels: np.ndarray) -> None:
    """A strip of each class's colour left of the cells, and a white line between classes."""
    place.grid(visible=False)
    left_of_cells = place.get_yaxis_transform()
    for label in (0, 1):
        rows = np.flatnonzero(labels == label)
        if len(rows):
            colour = style.LABEL_COLOURS[label]
            extent = (float(rows[0]) - 0.5, float(rows[-1]) + 0.5)
            place.plot(
                [-0.02, -0.02],
                extent,
                transform=left_of_cells,
                clip_on=False,
                color=colour,
                linewidth=4,
                solid_capstyle="butt",
            )
    for row, (one, other) in enumerate(pairwise(labels)):
        if one != other:
            place.axhline(row + 0.5, color="white", linewidth=2)
    place.set_xlim(-0.5, place.get_images()[0].get_size()[1] - 0.5)
    place.set_ylim(len(labels) - 0.5, -0.5)


def _name_rows(place: Axes, names: list[str], num_rows: int) -> None:
    place.tick_params(axis="y", labelsize=NAME_SIZE, length=0, pad=8)
    place.set_yticks(range(num_rows) if names else [], names or None)
    for side in ("left", "bottom"):
        place.spines[side].set_visible(False)


def _draw_class(place: Axes, rows: pd.DataFrame, label: int) -> None:
    """One class's means and intervals, moved aside a little so that both classes are seen."""
    aside = 0.13 if label else -0.13
    ends = rows[["tuned_low", "tuned_high"]].to_numpy(dtype=np.float64)
    place.errorbar(
        rows["block"] + aside,
        rows["tuned"],
        yerr=np.abs(ends.T - rows["tuned"].to_numpy(dtype=np.float64)),
        color=style.LABEL_COLOURS[1 if label else 0],
        linestyle=_CLASS_LINES[label],
        marker=_CLASS_MARKERS[label],
        markersize=3,
        linewidth=0.9,
        elinewidth=1.2,
    )


def _explain_classes(figure: Figure, strips: bool) -> None:
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
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=2,
        fontsize=style.SMALL_FONT_SIZE,
        frameon=False,
        labelcolor=style.INK,
    )


def _explain_correlations(place: Axes) -> None:
    colour = style.REFERENCE_COLOUR
    mark: dict[str, Any] = {
        "linestyle": "none",
        "marker": "o",
        "markersize": 5,
        "markeredgecolor": colour,
    }
    place.legend(
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
