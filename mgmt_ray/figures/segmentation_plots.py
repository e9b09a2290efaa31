"""Dice of each test patient's segmentation, and outlines of given and predicted tumours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import MaxNLocator

from mgmt_ray.figures import style

_DOT, _SPREAD = "#0072B2", "#8fbbd9"

# Colour-blind readers can distinguish them; a dark rim separates them from any grey, and dashes
# from each other.
GIVEN_COLOUR, PREDICTED_COLOUR = "#E69F00", "#56B4E9"
_RIM = [Stroke(linewidth=3.2, foreground="#111111"), Normal()]
LEVEL = 0.5
"""Outlines are contours at this value, between tumour (1) and background (0)."""

EXTREMES = (1.0, 99.0)
"""Percentiles of the slice's non-zero intensities that are drawn black and white."""

MARGIN = 2
"""Pixels shown around the brain."""


def dice_figure(patients: pd.DataFrame) -> Figure:
    """Plot each test patient's 3-D Dice, averaged over models, from the worst to the best.

    The line through a dot spans the range of the models. One panel per modality.

    Args:
        patients: as :func:`mgmt_ray.statistics.slice_overlap.patient_overlap` returns them, of one
            network.
    """
    modalities = list(dict.fromkeys(patients["modality"]))
    figure, axes = style.panels(len(modalities), columns=2, width=5.2, height=3.2)
    for ax, modality in zip(axes, modalities, strict=True):
        ranked = patients[patients["modality"] == modality].sort_values(
            ["dice_volume", "subject"], ignore_index=True
        )
        ranks = np.arange(1, len(ranked) + 1)
        mean = ranked["dice_volume"].mean()
        ax.vlines(ranks, ranked["dice_least"], ranked["dice_most"], color=_SPREAD, linewidth=2)
        ax.scatter(ranks, ranked["dice_volume"], color=_DOT, s=20, zorder=3)
        ax.axhline(mean, color=style.REFERENCE_COLOUR, linewidth=1, linestyle=(0, (4, 2)))
        ax.set_ylim(-0.03, 1.03)
        ax.set_xlim(0.3, len(ranked) + 0.7)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        style.title(ax, f"{modality}: mean {mean:.3f} (n = {len(ranked)})")
        style.label_axes(ax, "test patients, worst to best", "3-D Dice")
    return figure


@dataclass(frozen=True, slots=True, eq=False)
class SegmentedSlice:
    """One slice of a test patient.

    Attributes:
        title: above the picture.
        caption: below the picture.
        image: intensities of any scale; 0 outside the brain.
        given: 1 tumour, 0 background.
        probability: of tumour, in [0, 1].
    """

    title: str
    caption: str
    image: Float[np.ndarray, "height width"]
    given: Shaped[np.ndarray, "height width"]
    probability: Float[np.ndarray, "height width"]


def segmented_figure(slices: Sequence[SegmentedSlice], columns: int) -> Figure:
    """Draw slices, cropped to the brain, with the outlines of given and predicted tumour.

    Args:
        slices: at least one.
        columns: maximum number of pictures per row.
    """
    figure, axes = style.panels(len(slices), columns, width=3.3, height=3.9)
    for ax, segmented in zip(axes, slices, strict=True):
        _show_slice(ax, segmented)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(hspace=0.06)
    handles = [
        Line2D([], [], color=GIVEN_COLOUR, linewidth=2, path_effects=_RIM, label="given"),
        Line2D(
            [],
            [],
            color=PREDICTED_COLOUR,
            linewidth=2,
            linestyle="--",
            path_effects=_RIM,
            label="predicted",
        ),
    ]
    style.figure_legend(
        figure, handles, columns=2, loc="outside upper left", font_size=style.FONT_SIZE
    )
    return figure


def _show_slice(ax: Axes, segmented: SegmentedSlice) -> None:
    ax.grid(visible=False)
    brain = segmented.image != 0
    shown = brain | (segmented.given > 0) | (segmented.probability >= LEVEL)
    box = tuple(
        slice(max(indices.min() - MARGIN, 0), indices.max() + 1 + MARGIN)
        for indices in np.nonzero(shown)
    )
    intensities = segmented.image[brain].astype(np.float32)
    low, high = np.percentile(intensities, EXTREMES) if len(intensities) else (0.0, 1.0)
    image = np.where(brain, segmented.image, low)[box]  # background is black
    ax.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect="equal")
    _draw_outline(ax, segmented.given[box].astype(np.float32), GIVEN_COLOUR, "solid")
    _draw_outline(ax, segmented.probability[box].astype(np.float32), PREDICTED_COLOUR, "dashed")
    ax.set_xticks([])
    ax.set_yticks([])
    style.title(ax, segmented.title)
    ax.set_xlabel(segmented.caption, fontsize=style.SMALL_FONT_SIZE, color=style.INK, loc="left")


def _draw_outline(
    ax: Axes, values: Float[np.ndarray, "height width"], colour: str, line: str
) -> None:
    """Draw the contour at :data:`LEVEL`, if any value reaches it."""
    if not (values >= LEVEL).any():
        return
    # padding with zeros closes outlines at the slice's border
    padded = np.pad(values, 1)
    lines = ax.contour(
        np.arange(-1, padded.shape[1] - 1),
        np.arange(-1, padded.shape[0] - 1),
        padded,
        levels=[LEVEL],
        colors=colour,
        linestyles=line,
        linewidths=1.6,
    )
    lines.set_path_effects(_RIM)
    height, width = values.shape
    ax.set_xlim(-0.5, width - 0.5)
    ax.set_ylim(height - 0.5, -0.5)
