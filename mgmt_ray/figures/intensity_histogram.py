"""Histograms of tumour values, in which a scan of another scale stands out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mgmt_ray.figures import style
from mgmt_ray.figures.contact_sheet import ScanPreview, short_names
from mgmt_ray.preprocess.scan_preview import View

MIN_SCANS = 8
"""Scans below which nothing is called unusual: their spread is not known."""

OUTLIER_THRESHOLD = 3.5
"""Robust z-score beyond which a value is unusual (Iglewicz and Hoaglin 1993, p. 11)."""

MAX_NAMED = 4
DASHES: dict[style.Label, Literal["-", "--", "-.", ":"]] = {
    1: "-",
    0: "--",
    "fitted": "-.",
    "hidden": "-",
    None: ":",
}
"""By label, in the order of the legend."""

POINTS = 160


@dataclass(frozen=True, slots=True)
class Outlier:
    """A scan whose tumour values lie or spread unlike the other subjects'.

    Attributes:
        subject: its id.
        modality: of the scan.
        median: of its tumour values, in its own unit.
        typical_median: median over subjects of their medians.
        spread: its distance between quartiles.
        typical_spread: median over subjects of theirs.
    """

    subject: str
    modality: str
    median: float
    typical_median: float
    spread: float
    typical_spread: float


def find_outliers(modality: str, scans: Sequence[ScanPreview]) -> list[Outlier]:
    """Scans of another scale than most, for instance in another unit or normalised already.

    Compared are the logarithms of medians and of distances between quartiles; where a median is not
    above 0, medians as they are. Unusual is what is more than
    :data:`OUTLIER_THRESHOLD` robust deviations (0.6745
    of a deviation is the median distance) from the median, and also differs by a factor of 2, or,
    for medians as they are, by twice the usual distance between quartiles: where all scans are
    nearly equal, small differences are no fault. With fewer than :data:`MIN_SCANS` scans none is.

    Args:
        modality: of all scans.
        scans: those without a view are left aside.
    """
    viewed = [(seen.subject, seen.view) for seen in scans if seen.view is not None]
    if len(viewed) < MIN_SCANS:
        return []
    quartiles = np.array([quantiles(view, (0.25, 0.5, 0.75)) for _, view in viewed])
    medians, spreads = quartiles[:, 1], quartiles[:, 2] - quartiles[:, 0]
    usual, usual_spread = float(np.median(medians)), float(np.median(spreads))
    tiny = np.finfo(np.float64).tiny
    far = _is_outlying(np.log(np.maximum(spreads, tiny)), np.log(2))
    if (medians > 0).all():
        far |= _is_outlying(np.log(medians), np.log(2))
    else:
        far |= _is_outlying(medians, 2 * usual_spread)
    return [
        Outlier(name, modality, float(median), usual, float(spread), usual_spread)
        for (name, _), median, spread, is_far in zip(viewed, medians, spreads, far, strict=True)
        if is_far
    ]


def quantiles(view: View, fractions: Sequence[float]) -> Float64[np.ndarray, " fraction"]:
    """Tumour values below which these fractions lie, to within a bin of the histogram."""
    edges, below = _cumulative(view)
    return np.interp(fractions, below, edges)


def intensity_figure(scans: Mapping[str, Sequence[ScanPreview]]) -> Figure:
    """One panel per modality: a thin line per subject, and the mean of each label.

    Subjects whose label is hidden have one mean together.

    The axis spans the usual scans; the unusual ones (see :func:`find_outliers`) are named, drawn
    as far as they reach into it, and left out of the means.

    Args:
        scans: by modality; those without a view are not drawn.
    """
    figure, axes = style.panels(len(scans), columns=3, width=3.5, height=2.7)
    for ax, (modality, seen) in zip(axes, scans.items(), strict=True):
        _draw_panel(ax, modality, [s for s in seen if s.view is not None])
    labels = dict.fromkeys(s.label for seen in scans.values() for s in seen if s.view is not None)
    shown = [label for label in DASHES if label in labels]
    lines = [
        Line2D([], [], color=style.LABEL_COLOURS[label], linestyle=DASHES[label], linewidth=2)
        for label in shown
    ]
    names = [
        style.LABELS_HIDDEN if label == "hidden" else style.LABEL_NAMES[label] for label in shown
    ]
    figure.legend(
        lines,
        names,
        loc="outside upper left",
        ncols=3,
        frameon=False,
        fontsize=style.SMALL_FONT_SIZE,
        labelcolor=style.INK,
        handlelength=2.6,
    )
    return figure


def _draw_panel(axes: Axes, modality: str, scans: Sequence[ScanPreview]) -> None:
    outliers = {outlier.subject for outlier in find_outliers(modality, scans)}
    usual = [seen for seen in scans if seen.subject not in outliers]
    style.title(axes, f"{modality} ({len(scans)} subjects)")
    style.label_axes(axes, "tumour value, in the scan's own unit", "density")
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(visible=False)
    if not usual:
        return
    grid = _grid([seen.view for seen in usual if seen.view])
    _draw_lines(axes, scans, outliers, grid)
    axes.set_xlim(grid[0], grid[-1])
    if outliers:
        axes.text(
            0.98,
            0.97,
            _outlier_note(scans, outliers),
            transform=axes.transAxes,
            ha="right",
            va="top",
            fontsize=style.SMALL_FONT_SIZE,
            color=style.INK,
            zorder=4,
            bbox={"facecolor": "white", "edgecolor": style.REFERENCE_COLOUR, "alpha": 0.85},
        )


def _grid(views: Sequence[View]) -> Float64[np.ndarray, " edge"]:
    """Equal steps over nearly all values of nearly all scans."""
    ends = np.array([quantiles(view, (0.005, 0.995)) for view in views])
    low, high = np.quantile(ends[:, 0], 0.02), np.quantile(ends[:, 1], 0.98)
    margin = 0.03 * (high - low) or 1.0
    return np.linspace(low - margin, high + margin, POINTS + 1)


def _draw_lines(
    axes: Axes, scans: Sequence[ScanPreview], outliers: set[str], grid: Float64[np.ndarray, " edge"]
) -> None:
    """A thin line per scan, and over those of each label their mean without the outliers."""
    middles = (grid[1:] + grid[:-1]) / 2
    peaks, means = [], []
    for label in reversed(DASHES):
        found = {s.subject: _density(s.view, grid) for s in scans if s.view and s.label == label}
        if not found:
            continue
        colour = style.LABEL_COLOURS[label]
        thin = LineCollection(
            [np.column_stack([middles, line]) for line in found.values()],
            colors=colour,
            linewidths=0.5,
            alpha=max(0.12, min(0.6, 12 / len(scans))),
            zorder=2,
        )
        axes.add_collection(thin, autolim=False)
        among = [line for subject, line in found.items() if subject not in outliers]
        peaks += [float(line.max()) for line in among]
        if among and label is not None:
            mean = np.mean(among, axis=0)
            means.append(float(mean.max()))
            axes.plot(middles, mean, color=colour, linestyle=DASHES[label], linewidth=2, zorder=3)
    axes.set_ylim(0, 1.05 * min(float(np.quantile(peaks, 0.95)), 2.5 * max(means, default=np.inf)))


def _outlier_note(scans: Sequence[ScanPreview], outliers: set[str]) -> str:
    ids = [seen.subject for seen in scans]
    names = [n for i, n in zip(ids, short_names(ids)[1], strict=True) if i in outliers]
    more = [f"and {len(names) - MAX_NAMED} more"] if len(names) > MAX_NAMED else []
    return "\n".join(["unusual:", *names[:MAX_NAMED], *more])


def _density(view: View, grid: Float64[np.ndarray, " edge"]) -> Float64[np.ndarray, " middle"]:
    """Share of tumour voxels per unit between each two edges."""
    edges, below = _cumulative(view)
    return np.diff(np.interp(grid, edges, below)) / np.diff(grid)


def _cumulative(view: View) -> tuple[np.ndarray, np.ndarray]:
    """The bins' edges, and the share of tumour voxels below each."""
    edges = np.linspace(view.low, view.high, view.counts.size + 1)
    below = np.concatenate([[0.0], np.cumsum(view.counts) / view.counts.sum()])
    return edges, below


def _is_outlying(values: Float64[np.ndarray, " n"], least: float) -> Bool[np.ndarray, " n"]:
    away = np.abs(values - np.median(values))
    return (0.6745 * away > OUTLIER_THRESHOLD * np.median(away)) & (away > least)
