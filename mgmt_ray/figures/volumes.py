"""Contact sheets of volumes, to see what the networks see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from mgmt_ray.figures import style


def contact_sheet(
    volumes: Float[np.ndarray, "volume depth height width"], names: Sequence[str]
) -> Figure:
    """The axial slice with the most tumour of each volume, in grey from 0 to 1.

    A value outside [0, 1] is drawn red: preparation should not have left any.

    Args:
        volumes: prepared volumes, background 0.
        names: one per volume, drawn above it with the slice's number.
    """
    assert len(volumes) == len(names), f"{len(volumes)} volumes, {len(names)} names"
    figure, axes = style.panels(len(volumes), columns=6, width=1.75, height=1.95)
    colours = style.greys_with_faults()
    for place, volume, name in zip(axes, volumes, names, strict=True):
        middle = fullest_slice(volume)
        place.imshow(volume[middle].astype(np.float32), cmap=colours, vmin=0, vmax=1)
        place.set_axis_off()
        place.set_title(f"{name}\nslice {middle}", fontsize=style.SMALL_FONT_SIZE, color=style.INK)
    return figure


def fullest_slice(volume: Float[np.ndarray, "depth height width"]) -> int:
    """The axial slice with the most voxels that are not background, the first on a tie."""
    return int(np.argmax((volume != 0).sum(axis=(1, 2))))
