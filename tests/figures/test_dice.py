from __future__ import annotations

import numpy as np
import pandas as pd

from mgmt_ray.figures.dice import dice_figure


def test_patients_stand_from_worst_to_best_with_the_span_of_their_models() -> None:
    patients = pd.DataFrame(
        {
            "network": "chen",
            "modality": ["FLAIR", "FLAIR", "FLAIR", "T1GD"],
            "subject": ["A", "B", "C", "A"],
            "dice_volume": [0.9, 0.0, 0.8, 0.5],
            "dice_least": [0.85, 0.0, 0.7, 0.5],
            "dice_most": [0.95, 0.0, 0.9, 0.5],
        }
    )
    figure = dice_figure(patients)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["FLAIR: mean 0.567 (n = 3)", "T1GD: mean 0.500 (n = 1)"]
    spans, dots = figure.axes[0].collections
    np.testing.assert_allclose(dots.get_offsets(), [[1, 0], [2, 0.8], [3, 0.9]])
    ends = [segment[:, 1].tolist() for segment in spans.get_segments()]
    assert ends == [[0.0, 0.0], [0.7, 0.9], [0.85, 0.95]]
