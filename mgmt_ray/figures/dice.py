"""How well the tumour of each test patient was found."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
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
    for place, modality in zip(axes, modalities, strict=True):
        own = patients[patients["modality"] == modality].sort_values(
            ["dice_volume", "subject"], ignore_index=True
        )
        ranks = np.arange(1, len(own) + 1)
        mean = own["dice_volume"].mean()
        place.vlines(ranks, own["dice_least"], own["dice_most"], color=_SPREAD, linewidth=2)
        place.scatter(ranks, own["dice_volume"], color=_DOT, s=20, zorder=3)
        place.axhline(mean, color=style.REFERENCE_COLOUR, linewidth=1, linestyle=(0, (4, 2)))
        place.set_ylim(-0.03, 1.03)
        place.set_xlim(0.3, len(own) + 0.7)
        place.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        style.title(place, f"{modality}: mean {mean:.3f} (n = {len(own)})")
        style.name_axes(place, "test patients, worst to best", "3-D Dice")
    return figure
