"""Saliency overlays: what networks base their prediction on, over axial slices of one subject."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from mgmt_ray.figures import style
from mgmt_ray.figures.network_labels import network_label

SALIENCY_COLOURS = LinearSegmentedColormap.from_list(
    "saliency", [style.LABEL_COLOURS[0], "#f2f2f2", style.LABEL_COLOURS[1]]
)
"""From the colour of unmethylated over light grey to that of methylated."""

METHOD_LABELS = {
    "occlusion": "decrease of the logit when this part of the tumour is occluded",
    "grad-cam": "Grad-CAM of the last stage, in logits per cell",
}

NUM_SLICES = 5
MARGIN = 3
"""Voxels shown around the tumour."""

MAX_OPACITY = 0.75
"""Opacity of the largest absolute saliency; smaller values are more transparent."""


@dataclass(frozen=True, slots=True, eq=False)
class NetworkSaliency:
    """One network's prediction for a subject, and its saliency map.

    Attributes:
        probability: of methylation, averaged over the network's models, in [0, 1].
        num_models: number of models that the map is averaged over.
        volume: saliency in units of the logit; above 0 speaks for methylated, below 0 for
            unmethylated.
    """

    probability: float
    num_models: int
    volume: Float[np.ndarray, "depth height width"]


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """The saliency maps of one subject and modality.

    Attributes:
        subject: its id.
        label: see :data:`mgmt_ray.figures.style.Label`.
        modality: the models' input.
        method: "occlusion" or "grad-cam" (see :mod:`mgmt_ray.prediction.saliency`).
        channels: prepared volumes by modality, in [0, 1], background 0.
        saliency: by network.
    """

    subject: str
    label: style.Label
    modality: str
    method: str
    channels: Mapping[str, Float[np.ndarray, "depth height width"]]
    saliency: Mapping[str, NetworkSaliency]


def overlay_figure(explained: Explanation) -> Figure:
    """Draw axial slices of the volumes, then each network's saliency over the first volume.

    Slices divide the tumour's voxels evenly. Colours are shown inside the tumour only, since the
    rest is background in a network's input; where a map is not 0 elsewhere, the row's label gives
    the share inside the tumour. Each network has its own colour scale, whose end is in the label.

    Args:
        explained: has at least one channel and one network.
    """
    first = next(iter(explained.channels.values()))
    tumour = np.any([volume != 0 for volume in explained.channels.values()], axis=0)
    slices = evenly_spaced_slices(tumour)
    window = _window(tumour)
    num_rows = len(explained.channels) + len(explained.saliency)
    figure, axes = style.panels(num_rows * len(slices), len(slices), width=1.75, height=1.85)
    rows = [list(axes[i : i + len(slices)]) for i in range(0, len(axes), len(slices))]
    for row, (modality, volume) in zip(rows, explained.channels.items(), strict=False):
        for ax, number in zip(row, slices, strict=True):
            _show_slice(ax, volume[number][window])
            ax.set_title(f"slice {number}", fontsize=style.SMALL_FONT_SIZE, color=style.INK)
        _label_row(row[0], modality)
    for row, (network, saliency) in zip(
        rows[len(explained.channels) :], explained.saliency.items(), strict=True
    ):
        strongest = float(np.abs(saliency.volume[tumour]).max())
        for ax, number in zip(row, slices, strict=True):
            _show_slice(ax, first[number][window])
            inside = tumour[number][window]
            _show_saliency(ax, saliency.volume[number][window], inside, strongest)
        _label_row(row[0], _row_label(network, saliency, tumour, strongest))
    _add_legend(figure, axes, explained)
    return figure


def evenly_spaced_slices(tumour: Bool[np.ndarray, "depth height width"]) -> list[int]:
    """Return up to 5 axial slices, with about equally many tumour voxels between neighbours.

    Example:
        >>> tumour = np.zeros((20, 4, 4), dtype=bool)
        >>> tumour[5:15] = True
        >>> evenly_spaced_slices(tumour)
        [5, 7, 9, 11, 13]
    """
    share = np.cumsum(tumour.sum(axis=(1, 2))) / tumour.sum()
    middles = (np.arange(NUM_SLICES) + 0.5) / NUM_SLICES
    return sorted({int(number) for number in np.searchsorted(share, middles)})


def fraction_inside(
    saliency: Float[np.ndarray, "depth height width"],
    tumour: Bool[np.ndarray, "depth height width"],
) -> float:
    """Return the share of a map's absolute saliency inside the tumour, in [0, 1]."""
    total = np.abs(saliency).sum()
    return float(np.abs(saliency)[tumour].sum() / total) if total else 0.0


def _window(tumour: Bool[np.ndarray, "depth height width"]) -> tuple[slice, slice]:
    """Return rows and columns of the tumour with a margin, square where the slice allows it."""
    spans = []
    for axis in (1, 2):
        other = tuple({0, 1, 2} - {axis})
        indices = np.flatnonzero(tumour.any(axis=other))
        spans.append((int(indices[0]) - MARGIN, int(indices[-1]) + 1 + MARGIN))
    side = max(stop - start for start, stop in spans)
    window = []
    for (start, stop), length in zip(spans, tumour.shape[1:], strict=True):
        start = min(max((start + stop - side) // 2, 0), max(length - side, 0))
        window.append(slice(start, min(start + side, length)))
    return window[0], window[1]


def _show_slice(ax: Axes, voxels: Float[np.ndarray, "height width"]) -> None:
    ax.grid(visible=False)
    ax.imshow(voxels.astype(np.float32), cmap=style.grey_colormap(), vmin=0, vmax=1, aspect="equal")
    ax.set_xticks([])
    ax.set_yticks([])


def _show_saliency(
    ax: Axes,
    saliency: Float[np.ndarray, "height width"],
    inside: Bool[np.ndarray, "height width"],
    strongest: float,
) -> None:
    relative = saliency / strongest if strongest else saliency
    opacity = np.where(inside, MAX_OPACITY * np.abs(relative).clip(0, 1), 0)
    ax.imshow(relative, cmap=SALIENCY_COLOURS, vmin=-1, vmax=1, alpha=opacity, aspect="equal")


def _label_row(ax: Axes, label: str) -> None:
    ax.set_ylabel(label, fontsize=style.SMALL_FONT_SIZE, color=style.INK)


def _row_label(
    network: str,
    saliency: NetworkSaliency,
    tumour: Bool[np.ndarray, "depth height width"],
    strongest: float,
) -> str:
    inside = fraction_inside(saliency.volume, tumour)
    share = "" if inside > 0.999 else f"\n{inside:.0%} in the tumour"
    return (
        f"{network_label(network)}: p = {saliency.probability:.2f}\n"
        f"{saliency.num_models} models, ±{strongest:.2g}{share}"
    )


def _add_legend(figure: Figure, axes: list[Axes], explained: Explanation) -> None:
    style.figure_title(
        figure, f"{explained.subject}, {style.LABEL_NAMES[explained.label]}: {explained.modality}"
    )
    scale = ScalarMappable(Normalize(-1, 1), SALIENCY_COLOURS)
    bar = figure.colorbar(scale, ax=axes, location="bottom", shrink=0.6, aspect=45, pad=0.01)
    bar.set_ticks([-1, 0, 1], labels=["unmethylated", "0", "methylated"])
    label = f"{METHOD_LABELS[explained.method]}; full colour is ± the number in the row's label"
    bar.set_label(label, fontsize=style.SMALL_FONT_SIZE)
    bar.ax.tick_params(labelsize=style.SMALL_FONT_SIZE, colors=style.INK)
