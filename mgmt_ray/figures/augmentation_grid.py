"""A subject's prepared volume and its augmented versions side by side."""

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
        names: names of the versions, the first is ``original``.
        volumes: prepared, in [0, 1], background 0.
        parameters: random parameters of each version.
    """

    subject: str
    label: style.Label
    names: tuple[str, ...]
    volumes: Float16[np.ndarray, "version depth height width"]
    parameters: Sequence[Mapping[str, float | int]]


def versions_figure(modality: str, rows: Sequence[AugmentedSubject]) -> Figure:
    """Draw a row of panels per subject: the same axial slice of each version.

    It is the slice in which the original has the most tumour. Values outside [0, 1], which
    preparation should not produce, are drawn red.

    Args:
        modality: of all volumes.
        rows: all with the same versions.
    """
    names = rows[0].names
    assert all(row.names == names for row in rows), "rows with different versions"
    count = len(names) * len(rows)
    figure, axes = style.panels(count, columns=len(names), width=1.9, height=2.3)
    colours = style.grey_colormap()
    next_axes = iter(axes)
    for row in rows:
        number = largest_slice(row.volumes[0])
        for name, volume, parameters in zip(row.names, row.volumes, row.parameters, strict=True):
            ax = next(next_axes)
            ax.grid(visible=False)
            ax.imshow(volume[number].astype(np.float32), cmap=colours, vmin=0, vmax=1)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_title(
                version_title(name, parameters), fontsize=style.SMALL_FONT_SIZE, color=style.INK
            )
            if name == names[0]:
                text = f"{fill(row.subject, 24)}\n{style.LABEL_NAMES[row.label]}, slice {number}"
                ax.set_ylabel(text, fontsize=style.SMALL_FONT_SIZE, color=style.INK)
    style.figure_title(figure, f"{modality}: volumes as input of the networks")
    return figure


def largest_slice(volume: Float[np.ndarray, "depth height width"]) -> int:
    """Return the axial slice with the most voxels that are not background, the first on a tie."""
    return int(np.argmax((volume != 0).sum(axis=(1, 2))))


def version_title(version: str, parameters: Mapping[str, float | int]) -> str:
    """Return a version's name, its random parameters, and the size of its tumour.

    Example:
        >>> print(version_title("flip", {"tumour_voxels": 12345}))
        flip
        left and right swapped
        tumour 12,345 voxels
    """
    match augmentation_of(version):
        case "original":
            change = "unchanged"
        case "flip":
            change = "left and right swapped"
        case "rotate":
            change = f"by {parameters['angle_degrees']:.1f}°"
        case "noise":
            change = f"standard deviation {parameters['noise_std']:g}"
        case "deform":
            mean = parameters["mean_displacement_voxels"]
            largest = parameters["largest_displacement_voxels"]
            change = f"by {mean:.1f} voxels, at most {largest:.1f}"
        case kind:
            raise AssertionError(f"no such version: {kind}")
    return f"{version}\n{change}\ntumour {parameters['tumour_voxels']:,} voxels"
