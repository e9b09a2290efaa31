"""How well the tumour of each test patient was found."""

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


def dice_figure(patients: pd.DataFrame) -> Figure:
    """A dot per test patient: 3-D Dice, mean over the models, from the worst to the best.

    The line through a dot reaches from the worst of the models to the best. A panel per modality.

    Args:
        patients: as :func:`mgmt_ray.statistics.slice_overlap.patient_overlap` returns them, of one
            network.
    """
    modalities = list(dict.fromkeys(patients["modality"]))
    figure, axes = style.panels(len(modalities), columns=2, width=5.2, height=3.2)
    for ax, modality in zip(axes, modalities, strict=True):
        own = patients[patients["modality"] == modality].sort_values(
            ["dice_volume", "subject"], ignore_index=True
        )
        ranks = np.arange(1, len(own) + 1)
        mean = own["dice_volume"].mean()
        ax.vlines(ranks, own["dice_least"], own["dice_most"], color=_SPREAD, linewidth=2)
        ax.scatter(ranks, own["dice_volume"], color=_DOT, s=20, zorder=3)
        ax.axhline(mean, color=style.REFERENCE_COLOUR, linewidth=1, linestyle=(0, (4, 2)))
        ax.set_ylim(-0.03, 1.03)
        ax.set_xlim(0.3, len(own) + 0.7)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        style.title(ax, f"{modality}: mean {mean:.3f} (n = {len(own)})")
        style.label_axes(ax, "test patients, worst to best", "3-D Dice")
    return figure


# Far apart in hue also for colour-blind readers; a dark rim parts them from any grey, and dashes
# from each other.
GIVEN_COLOUR, PREDICTED_COLOUR = "#E69F00", "#56B4E9"
_RIM = [Stroke(linewidth=3.2, foreground="#111111"), Normal()]
LEVEL = 0.5
"""An outline runs between tumour and not tumour; of probabilities, where they are one half."""

EXTREMES = (1.0, 99.0)
"""Percentiles of the slice's valued intensities that are black and white."""

MARGIN = 2
"""Pixels shown around the brain."""


@dataclass(frozen=True, slots=True, eq=False)
class SegmentedSlice:
    """One slice of a test patient.

    Attributes:
        title: which patient of the modality it is.
        words: below the picture.
        image: intensities of any scale; 0 where the scan has none.
        given: 1 tumour, 0 all else.
        probability: of tumour, in [0, 1].
    """

    title: str
    words: str
    image: Float[np.ndarray, "height width"]
    given: Shaped[np.ndarray, "height width"]
    probability: Float[np.ndarray, "height width"]


def segmented_figure(slices: Sequence[SegmentedSlice], columns: int) -> Figure:
    """Each slice, as far as it shows anything, with the outlines of given and predicted tumour.

    Args:
        slices: at least one.
        columns: of pictures.
    """
    figure, axes = style.panels(len(slices), columns, width=3.3, height=3.9)
    for ax, one in zip(axes, slices, strict=True):
        _show(ax, one)
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
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=2,
        fontsize=style.FONT_SIZE,
        frameon=False,
        labelcolor=style.INK,
    )
    return figure


def _show(ax: Axes, one: SegmentedSlice) -> None:
    ax.grid(visible=False)
    valued = one.image != 0
    found = valued | (one.given > 0) | (one.probability >= LEVEL)
    box = tuple(
        slice(max(where.min() - MARGIN, 0), where.max() + 1 + MARGIN) for where in np.nonzero(found)
    )
    known = one.image[valued].astype(np.float32)
    low, high = np.percentile(known, EXTREMES) if len(known) else (0.0, 1.0)
    image = np.where(valued, one.image, low)[box]  # what the scan does not show is black
    ax.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect="equal")
    _draw_outline(ax, one.given[box].astype(np.float32), GIVEN_COLOUR, "solid")
    _draw_outline(ax, one.probability[box].astype(np.float32), PREDICTED_COLOUR, "dashed")
    ax.set_xticks([])
    ax.set_yticks([])
    style.title(ax, one.title)
    ax.set_xlabel(one.words, fontsize=style.SMALL_FONT_SIZE, color=style.INK, loc="left")


def _draw_outline(
    ax: Axes, values: Float[np.ndarray, "height width"], colour: str, line: str
) -> None:
    """Nothing where no value reaches the level."""
    if not (values >= LEVEL).any():
        return
    # an edge of zeros closes outlines that reach the slice's border
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
