"""Prediction tables of models and members that were never trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mgmt_ray.base import stream
from mgmt_ray.selection.ensembles import SPLIT_COLUMNS
from mgmt_ray.selection.predictions import PREDICTION_COLUMNS

PAPER_LABELS = np.repeat([1, 0], [24, 33])
"""As many as in the test set of Schmitz et al. 2024."""


def row_of(table: pd.DataFrame, **where: object) -> Mapping[Any, Any]:
    """The only row with these cells."""
    for name, value in where.items():
        table = table[table[name] == value]
    (row,) = table.to_dict("records")
    return row


def model_table(labels: Sequence[int], probabilities: object, **columns: object) -> pd.DataFrame:
    """One ensemble's predictions."""
    known = {
        "network": "spottune",
        "ensemble": "DSC",
        "subject": [f"S{i:03d}" for i in range(len(labels))],
        "label": labels,
        "probability": probabilities,
        "probability_std": 0.0,
        "num_members": 5,
        "prior": 0.5,
    }
    return pd.DataFrame(known | columns)


def member_table(labels: Sequence[int], probabilities: object, **columns: object) -> pd.DataFrame:
    """One member's predictions; the trial is named after the columns that are given."""
    known = {
        "split": "test",
        "outer_fold": 0,
        "fold": 0,
        "network": "spottune",
        "modality": "FA",
        "trial": "-".join(map(str, columns.values())),
        "weights_sha256": "f" * 64,
    }
    table = model_table(labels, probabilities, **(known | columns))
    return table[list(PREDICTION_COLUMNS)]


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
    labels = np.array([int(i % 5 < 2) for i in subjects])
    tables = []
    for outer in outers:
        for network in networks:
            draws = stream(0, "split predictions", of, network, outer)
            log_odds = draws.normal(0, 1, len(subjects)) + 1.2 * (labels - 0.4)
            table = model_table(
                labels,
                1 / (1 + np.exp(-sharpness * log_odds)),
                network=network,
                ensemble="best overall",
                subject=[f"{of}{outer * (i >= shared)}_{i:03d}" for i in subjects],
                prior=prior,
                outer_fold=outer,
            )
            tables.append(table)
    return pd.concat(tables, ignore_index=True)[list(SPLIT_COLUMNS)]
