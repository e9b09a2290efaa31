"""A subject's volumes side by side: as the networks see them, and each augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill

import numpy as np
from jaxtyping import Float, Float16
from matplotlib.figure import Figure

from mgmt_ray.figures import style
from mgmt_ray.preprocess.recipe import augmentation_of


@dataclass(frozen=True, slots=True, eq=False)
class AugmentedSubject:
    """One subject's versions of a modality.

    Attributes:
        subject: its id.
        label: see :data:`mgmt_ray.figures.style.Label`.
        names: of the versions, the first is ``original``.
        volumes: prepared, in [0, 1], background 0.
        parameters: per version what was drawn for it.
    """

    subject: str
    label: style.Label
    names: tuple[str, ...]
    volumes: Float16[np.ndarray, "version depth height width"]
    parameters: Sequence[Mapping[str, float | int]]


def versions_figure(modality: str, rows: Sequence[AugmentedSubject]) -> Figure:
    """A row of panels per subject: the same axial slice of each of its versions.

    It is the slice in which the original has the most tumour. A value outside [0, 1] is drawn red:
    preparation should not have left any.

    Args:
        modality: of all volumes.
        rows: of the same versions each.
    """
    names = rows[0].names
    assert all(row.names == names for row in rows), "rows of different versions"
    count = len(names) * len(rows)
    figure, axes = style.panels(count, columns=len(names), width=1.9, height=2.3)
    colours = style.grey_colormap()
    places = iter(axes)
    for row in rows:
        number = largest_slice(row.volumes[0])
        for name, volume, drawn in zip(row.names, row.volumes, row.parameters, strict=True):
            ax = next(places)
            ax.grid(visible=False)
            ax.imshow(volume[number].astype(np.float32), cmap=colours, vmin=0, vmax=1)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_title(
                version_title(name, drawn), fontsize=style.SMALL_FONT_SIZE, color=style.INK
            )
            if name == names[0]:
                text = f"{fill(row.subject, 24)}\n{style.LABEL_NAMES[row.label]}, slice {number}"
                ax.set_ylabel(text, fontsize=style.SMALL_FONT_SIZE, color=style.INK)
    figure.suptitle(
        f"{modality}: volumes as the networks see them",
        x=0.01,
        ha="left",
        fontweight="bold",
        fontsize=style.FONT_SIZE,
        color=style.INK,
    )
    return figure


def largest_slice(volume: Float[np.ndarray, "depth height width"]) -> int:
    """The axial slice with the most voxels that are not background, the first on a tie."""
    return int(np.argmax((volume != 0).sum(axis=(1, 2))))


def version_title(version: str, drawn: Mapping[str, float | int]) -> str:
    """A version's name, what was drawn for it, and how large the tumour is in it."""
    match augmentation_of(version):
        case "original":
            how = "nothing changed"
        case "flip":
            how = "left and right swapped"
        case "rotate":
            how = f"by {drawn['angle_degrees']:.1f}°"
        case "noise":
            how = f"deviation {drawn['noise_std']:g}"
        case "deform":
            mean, most = drawn["mean_displacement_voxels"], drawn["largest_displacement_voxels"]
            how = f"by {mean:.1f} voxels, at most {most:.1f}"
        case kind:
            raise AssertionError(f"no such version: {kind}")
    return f"{version}\n{how}\ntumour {drawn['tumour_voxels']:,} voxels"
