"""Decision curves: what acting on a probability is worth, by how much a false call costs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Integer

from mgmt_ray.statistics.adapted import TEMPERATURE_SCALED, Adapted

THRESHOLDS = np.round(np.arange(0.05, 0.801, 0.01), 2)
"""Probabilities from which one would act, 0.05 to 0.80 in steps of 0.01."""

DECISION_COLUMNS: tuple[str, ...] = (
    "network",
    "ensemble",
    "threshold",
    "net_benefit",
    "treat_all",
)


def decision_table(adapted: Adapted) -> pd.DataFrame:
    """Net benefit of acting on each ensemble's calibrated probabilities, and on everybody's.

    "Calibrated" is corrected for the training prior and temperature scaled. Treating nobody has a
    net benefit of 0.

    Args:
        adapted: see :func:`.adapted.adapt`.

    Returns:
        :data:`DECISION_COLUMNS`, one row per network, ensemble and threshold.
    """
    tables = []
    for (network, name), group in adapted.probabilities.groupby(
        ["network", "ensemble"], sort=False
    ):
        labels = group["label"].to_numpy(dtype=np.int64)
        p = group[TEMPERATURE_SCALED].to_numpy(dtype=float)
        columns = {
            "network": network,
            "ensemble": name,
            "threshold": THRESHOLDS,
            "net_benefit": net_benefit(labels, p, THRESHOLDS),
            "treat_all": net_benefit(labels, np.ones_like(p), THRESHOLDS),
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)[list(DECISION_COLUMNS)]


def net_benefit(
    labels: Integer[np.ndarray, " subject"],
    probabilities: Float[np.ndarray, " subject"],
    thresholds: Float[np.ndarray, " threshold"],
) -> Float[np.ndarray, " threshold"]:
    """TP/n − FP/n · t/(1 − t) at each threshold t (Vickers and Elkin 2006).

    Args:
        labels: 1 methylated, 0 unmethylated.
        probabilities: of methylation; at least t is acted on.
        thresholds: in [0, 1); t/(1 − t) is how many needless acts one needed act is worth.

    Returns:
        Net true positives per subject: at most the share of methylated, without a lower end.
    """
    acted = probabilities >= thresholds[:, None]
    hits = (acted & (labels == 1)).mean(axis=1)
    needless = (acted & (labels == 0)).mean(axis=1)
    return np.asarray(hits - needless * thresholds / (1 - thresholds))
