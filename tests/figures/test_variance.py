from __future__ import annotations

import numpy as np
import pandas as pd

from mgmt_ray.figures.variance import SOURCES, variance_figure


def variance() -> pd.DataFrame:
    deviations = {"draws": 0.01, "folds": 0.04, "seeds": float("nan"), "subjects": 0.07}
    rows = [
        (network, ensemble, source, 1 if source == "seeds" else 5, deviation * (1 + number))
        for network in ("spottune", "random")
        for number, ensemble in enumerate(("DSC", "PH"))
        for source, deviation in deviations.items()
    ]
    rows += [("age_sex", "age_sex", source, 5, d) for source, d in deviations.items()]
    columns = ["network", "ensemble", "source", "num", "auc_deviation"]
    return pd.DataFrame(rows, columns=columns)


def test_each_source_stands_at_its_deviation_in_its_ensembles_row() -> None:
    figure = variance_figure(variance())
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["SpotTune", "Random", "Comparison models"]
    for axes in figure.axes[:2]:
        assert [text.get_text() for text in axes.get_yticklabels()] == ["DSC", "PH"]
        shown = dict(zip(SOURCES, axes.collections, strict=True))
        for source, deviation in (("draws", 0.01), ("folds", 0.04), ("subjects", 0.07)):
            offsets = np.asarray(shown[source].get_offsets())
            np.testing.assert_allclose(offsets, [[deviation, 0], [2 * deviation, 1]])
    assert len(figure.axes[2].get_yticklabels()) == 1


def test_a_source_of_which_there_is_one_is_said_to_be_unknown() -> None:
    (legend,) = variance_figure(variance()).legends
    words = [text.get_text() for text in legend.get_texts()]
    assert [word for word in words if "not known" in word] == ["seeds (only one, so not known)"]
