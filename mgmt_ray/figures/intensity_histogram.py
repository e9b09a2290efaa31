"""Histograms of tumour intensities, which reveal scans of a different scale."""

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
"""With fewer scans none is called an outlier, since their variation is not known."""

OUTLIER_THRESHOLD = 3.5
"""Robust z-score beyond which a value is an outlier (Iglewicz and Hoaglin 1993, p. 11)."""

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
    """A scan whose tumour values have a median or spread unlike that of other subjects.

    Attributes:
        subject: its id.
        modality: of the scan.
        median: of its tumour values, in the scan's own unit.
        typical_median: median over subjects of their medians.
        spread: interquartile range of its tumour values.
        typical_spread: median over subjects of their interquartile ranges.
    """

    subject: str
    modality: str
    median: float
    typical_median: float
    spread: float
    typical_spread: float


def find_outliers(modality: str, scans: Sequence[ScanPreview]) -> list[Outlier]:
    """Find scans with another scale than most, for instance in another unit or already normalised.

    The logarithms of medians and of interquartile ranges are compared; where a median is not above
    0, the medians themselves. An outlier is more than :data:`OUTLIER_THRESHOLD` robust standard
    deviations (median absolute deviation / 0.6745) from the median, and also differs by a factor
    of 2 or, for medians themselves, by twice the typical interquartile range: where all scans are
    nearly equal, small differences are no fault. With fewer than :data:`MIN_SCANS` scans there are
    no outliers.

    Args:
        modality: of all scans.
        scans: those without a view are ignored.
    """
    viewed = [(scan.subject, scan.view) for scan in scans if scan.view is not None]
    if len(viewed) < MIN_SCANS:
        return []
    quartiles = np.array([quantiles(view, (0.25, 0.5, 0.75)) for _, view in viewed])
    medians, spreads = quartiles[:, 1], quartiles[:, 2] - quartiles[:, 0]
    typical, typical_spread = float(np.median(medians)), float(np.median(spreads))
    tiny = np.finfo(np.float64).tiny
    outlying = _is_outlying(np.log(np.maximum(spreads, tiny)), np.log(2))
    if (medians > 0).all():
        outlying |= _is_outlying(np.log(medians), np.log(2))
    else:
        outlying |= _is_outlying(medians, 2 * typical_spread)
    return [
        Outlier(
            viewed[i][0], modality, float(medians[i]), typical, float(spreads[i]), typical_spread
        )
        for i in np.flatnonzero(outlying)
    ]


def quantiles(view: View, fractions: Sequence[float]) -> Float64[np.ndarray, " fraction"]:
    """Return quantiles of the tumour values, to within a bin of the histogram."""
    edges, below = _cumulative(view)
    return np.interp(fractions, below, edges)


def intensity_figure(scans: Mapping[str, Sequence[ScanPreview]]) -> Figure:
    """Plot densities, one panel per modality: a thin line per subject, and the mean of each label.

    Subjects whose label is hidden have a common mean. The axis spans the typical scans; outliers
    (see :func:`find_outliers`) are listed, drawn as far as they lie inside it, and excluded from
    the means.

    Args:
        scans: by modality; those without a view are not drawn.
    """
    figure, axes = style.panels(len(scans), columns=3, width=3.5, height=2.7)
    viewed = {
        modality: [scan for scan in of_modality if scan.view is not None]
        for modality, of_modality in scans.items()
    }
    for ax, (modality, of_modality) in zip(axes, viewed.items(), strict=True):
        _draw_panel(ax, modality, of_modality)
    labels = {scan.label for of_modality in viewed.values() for scan in of_modality}
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
    typical = [scan for scan in scans if scan.subject not in outliers]
    style.title(axes, f"{modality} ({len(scans)} subjects)")
    style.label_axes(axes, "tumour intensity, in the scan's own unit", "density")
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(visible=False)
    if not typical:
        return
    grid = _grid([scan.view for scan in typical if scan.view])
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
    """Return evenly spaced edges over nearly all values of nearly all scans."""
    ends = np.array([quantiles(view, (0.005, 0.995)) for view in views])
    low, high = np.quantile(ends[:, 0], 0.02), np.quantile(ends[:, 1], 0.98)
    margin = 0.03 * (high - low) or 1.0
    return np.linspace(low - margin, high + margin, POINTS + 1)


def _draw_lines(
    axes: Axes, scans: Sequence[ScanPreview], outliers: set[str], grid: Float64[np.ndarray, " edge"]
) -> None:
    """Draw a thin line per scan, and over them the mean of each label without the outliers."""
    middles = (grid[1:] + grid[:-1]) / 2
    peaks, means = [], []
    for label in reversed(DASHES):
        lines = {s.subject: _density(s.view, grid) for s in scans if s.view and s.label == label}
        if not lines:
            continue
        colour = style.LABEL_COLOURS[label]
        thin = LineCollection(
            [np.column_stack([middles, line]) for line in lines.values()],
            colors=colour,
            linewidths=0.5,
            alpha=max(0.12, min(0.6, 12 / len(scans))),
            zorder=2,
        )
        axes.add_collection(thin, autolim=False)
        typical = [line for subject, line in lines.items() if subject not in outliers]
        peaks += [float(line.max()) for line in typical]
        if typical and label is not None:
            mean = np.mean(typical, axis=0)
            means.append(float(mean.max()))
            axes.plot(middles, mean, color=colour, linestyle=DASHES[label], linewidth=2, zorder=3)
    axes.set_ylim(0, 1.05 * min(float(np.quantile(peaks, 0.95)), 2.5 * max(means, default=np.inf)))


def _outlier_note(scans: Sequence[ScanPreview], outliers: set[str]) -> str:
    ids = [scan.subject for scan in scans]
    names = [n for i, n in zip(ids, short_names(ids)[1], strict=True) if i in outliers]
    more = [f"and {len(names) - MAX_NAMED} more"] if len(names) > MAX_NAMED else []
    return "\n".join(["unusual:", *names[:MAX_NAMED], *more])


def _density(view: View, grid: Float64[np.ndarray, " edge"]) -> Float64[np.ndarray, " middle"]:
    """Return the share of tumour voxels per unit between neighbouring edges."""
    edges, below = _cumulative(view)
    return np.diff(np.interp(grid, edges, below)) / np.diff(grid)


def _cumulative(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges of the histogram's bins, and the share of tumour voxels below each."""
    edges = np.linspace(view.low, view.high, view.counts.size + 1)
    below = np.concatenate([[0.0], np.cumsum(view.counts) / view.counts.sum()])
    return edges, below


def _is_outlying(
    values: Float64[np.ndarray, " scan"], min_distance: float
) -> Bool[np.ndarray, " scan"]:
    distance = np.abs(values - np.median(values))
    is_extreme = 0.6745 * distance > OUTLIER_THRESHOLD * np.median(distance)
    return is_extreme & (distance > min_distance)


def matching_figure(
    before: Mapping[str, Float64[np.ndarray, " voxel"]],
    after: Mapping[str, Float64[np.ndarray, " voxel"]],
) -> Figure:
    """Draw densities of two scans before and after histogram matching (Chen et al. 2020, fig. 1).

    Args:
        before: valued voxels by subject, in the scans' own unit; without the background, whose
            peak the paper's figure shows at 0.
        after: the same voxels on the standard scale.
    """
    figure, axes = style.panels(2, columns=2, width=3.4, height=2.6)
    for panel, values, name, unit in (
        (axes[0], before, "Before matching", "Intensity"),
        (axes[1], after, "After matching", "Standard scale"),
    ):
        low, high = np.percentile(np.concatenate([*values.values()]), [0.5, 99.5])
        for (subject, voxels), line in zip(values.items(), ("-", "--"), strict=True):
            density, edges = np.histogram(voxels, bins=60, range=(low, high), density=True)
            panel.plot((edges[1:] + edges[:-1]) / 2, density, line, label=subject)
        style.title(panel, name)
        style.label_axes(panel, unit, "Density")
        panel.legend(fontsize="small")
    return figure
