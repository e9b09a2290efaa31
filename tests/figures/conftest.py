"""Ensemble predictions of three networks, and their metrics."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mgmt_ray.base import stream
from mgmt_ray.statistics.result_tables import metrics_table


@pytest.fixture(scope="session")
def predictions() -> pd.DataFrame:
    draws = stream(0, "figures")
    labels = np.repeat([1, 0], [12, 18])
    tables = [
        pd.DataFrame(
            {
                "network": network,
                "ensemble": ensemble,
                "subject": [f"S{i:02d}" for i in range(30)],
                "label": labels,
                "probability": np.clip(draws.random(30) * 0.8 + 0.2 * labels, 0, 1),
                "probability_std": 0.0,
                "num_members": 5,
                "prior": 0.5,
            }
        )
        for network in ("spottune", "random", "transfer")
        for ensemble in ("DSC", "DTI", "Struct", "DSC+DTI")
    ]
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="session")
def metrics(predictions: pd.DataFrame) -> pd.DataFrame:
    return metrics_table(predictions)
