"""Ensemble predictions of validation and test subjects by outer split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from mgmt_ray.base import stream
from mgmt_ray.selection.ensembles import SPLIT_COLUMNS

SplitPredictions = Callable[..., pd.DataFrame]


def split_predictions(
    of: str,
    outers: tuple[int, ...] = (0,),
    subjects: range = range(57),
    shared: int = 0,
    networks: tuple[str, ...] = ("spottune", "random"),
    prior: float = 0.5,
    sharpness: float = 2.0,
) -> pd.DataFrame:
    """Two of five subjects are methylated; probabilities are too extreme by ``sharpness``.

    The first ``shared`` subjects have the same names in every outer split, the others their own.
    """
    tables = []
    for outer in outers:
        labels = np.array([int(i % 5 < 2) for i in subjects])
        for network in networks:
            draws = stream(0, "split predictions", of, network, outer)
            log_odds = draws.normal(0, 1, len(subjects)) + 1.2 * (labels - 0.4)
            tables.append(
                pd.DataFrame(
                    {
                        "network": network,
                        "ensemble": "best overall",
                        "subject": [f"{of}{outer * (i >= shared)}_{i:03d}" for i in subjects],
                        "label": labels,
                        "probability": 1 / (1 + np.exp(-sharpness * log_odds)),
                        "probability_std": 0.0,
                        "num_members": 5,
                        "prior": prior,
                        "outer_fold": outer,
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)[list(SPLIT_COLUMNS)]


@pytest.fixture(scope="session")
def make_split_predictions() -> SplitPredictions:
    """The function that makes them."""
    return split_predictions
