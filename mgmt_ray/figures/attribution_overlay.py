"""Where networks look in one subject's tumour: maps of evidence over axial slices."""

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

SALIENCY_COLOURS = LinearSegmentedColormap.from_list(
    "evidence", [style.LABEL_COLOURS[0], "#f2f2f2", style.LABEL_COLOURS[1]]
)
"""From the colour of unmethylated over none to that of methylated."""

METHOD_LABELS = {
    "occlusion": "what the logit loses without this part of the tumour",
    "grad-cam": "Grad-CAM of the last stage, in logits per cell",
}

NUM_SLICES = 5
MARGIN = 3
"""Voxels shown around the tumour."""

MAX_OPACITY = 0.75
"""Opacity of the strongest evidence; less evidence is more transparent."""


@dataclass(frozen=True, slots=True, eq=False)
class NetworkSaliency:
    """What one network's models say of a subject, and from where.

    Attributes:
        probability: of methylation, mean of its models, in [0, 1].
        num_models: whose mean the map is.
        volume: [depth, height, width], above 0 for methylated and below 0 for unmethylated, in
            units of the logit.
    """

    probability: float
    num_models: int
    volume: Float[np.ndarray, "depth height width"]


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """One subject and modality.

    Attributes:
        subject: its id.
        label: see :data:`mgmt_ray.figures.style.Label`.
        modality: the models' input.
        method: "occlusion" or "grad-cam", as of :mod:`mgmt_ray.prediction.saliency`.
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
    """Axial slices through the tumour: the volumes, then each network's evidence over the first.

    Slices divide the tumour's voxels evenly. Colours are shown in the tumour only, since all else
    is background in what a network sees; where a map has evidence elsewhere, the share in the
    tumour is said beside it. Each network has a scale of its own, whose end is said too.

    Args:
        explained: of at least one channel and one network.
    """
    first = next(iter(explained.channels.values()))
    tumour = np.any([volume != 0 for volume in explained.channels.values()], axis=0)
    slices = evenly_spaced_slices(tumour)
    window = _window(tumour)
    num_rows = len(explained.channels) + len(explained.saliency)
    figure, axes = style.panels(num_rows * len(slices), len(slices), width=1.75, height=1.85)
    rows = [list(axes[i : i + len(slices)]) for i in range(0, len(axes), len(slices))]
    for places, (modality, volume) in zip(rows, explained.channels.items(), strict=False):
        for ax, number in zip(places, slices, strict=True):
            _show_slice(ax, volume[number][window])
            ax.set_title(f"slice {number}", fontsize=style.SMALL_FONT_SIZE, color=style.INK)
        _label_row(places[0], modality)
    for places, (network, saliency) in zip(
        rows[len(explained.channels) :], explained.saliency.items(), strict=True
    ):
        strongest = float(np.abs(saliency.volume[tumour]).max())
        for ax, number in zip(places, slices, strict=True):
            _show_slice(ax, first[number][window])
            inside = tumour[number][window]
            _show_saliency(ax, saliency.volume[number][window], inside, strongest)
        _label_row(places[0], _row_label(network, saliency, tumour, strongest))
    _add_legend(figure, axes, explained)
    return figure


def evenly_spaced_slices(tumour: Bool[np.ndarray, "depth height width"]) -> list[int]:
    """Axial slices between which there are about as many of the tumour's voxels each."""
    share = np.cumsum(tumour.sum(axis=(1, 2))) / tumour.sum()
    middles = (np.arange(NUM_SLICES) + 0.5) / NUM_SLICES
    return sorted({int(number) for number in np.searchsorted(share, middles)})


def fraction_inside(
    saliency: Float[np.ndarray, "depth height width"],
    tumour: Bool[np.ndarray, "depth height width"],
) -> float:
    """How much of a map's absolute evidence lies in the tumour, in [0, 1]."""
    whole = np.abs(saliency).sum()
    return float(np.abs(saliency)[tumour].sum() / whole) if whole else 0.0


def _window(tumour: Bool[np.ndarray, "depth height width"]) -> tuple[slice, slice]:
    """Rows and columns of the tumour with a margin, as wide as high where there is room."""
    spans = []
    for axis in (1, 2):
        other = tuple({0, 1, 2} - {axis})
        found = np.flatnonzero(tumour.any(axis=other))
        spans.append((int(found[0]) - MARGIN, int(found[-1]) + 1 + MARGIN))
    side = max(stop - start for start, stop in spans)
    cut = []
    for (start, stop), length in zip(spans, tumour.shape[1:], strict=True):
        start = min(max((start + stop - side) // 2, 0), max(length - side, 0))
        cut.append(slice(start, min(start + side, length)))
    return cut[0], cut[1]


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


def _label_row(ax: Axes, words: str) -> None:
    ax.set_ylabel(words, fontsize=style.SMALL_FONT_SIZE, color=style.INK)


def _row_label(
    network: str,
    saliency: NetworkSaliency,
    tumour: Bool[np.ndarray, "depth height width"],
    strongest: float,
) -> str:
    inside = fraction_inside(saliency.volume, tumour)
    share = "" if inside > 0.999 else f"\n{inside:.0%} in the tumour"
    return (
        f"{style.network_label(network)}: p = {saliency.probability:.2f}\n"
        f"{saliency.num_models} models, ±{strongest:.2g}{share}"
    )


def _add_legend(figure: Figure, axes: list[Axes], explained: Explanation) -> None:
    figure.suptitle(
        f"{explained.subject}, {style.LABEL_NAMES[explained.label]}: {explained.modality}",
        x=0.01,
        ha="left",
        fontweight="bold",
        fontsize=style.FONT_SIZE,
        color=style.INK,
    )
    scale = ScalarMappable(Normalize(-1, 1), SALIENCY_COLOURS)
    bar = figure.colorbar(scale, ax=axes, location="bottom", shrink=0.6, aspect=45, pad=0.01)
    bar.set_ticks([-1, 0, 1], labels=["unmethylated", "0", "methylated"])
    words = f"{METHOD_LABELS[explained.method]}; full colour is ± the number beside the row"
    bar.set_label(words, fontsize=style.SMALL_FONT_SIZE)
    bar.ax.tick_params(labelsize=style.SMALL_FONT_SIZE, colors=style.INK)
