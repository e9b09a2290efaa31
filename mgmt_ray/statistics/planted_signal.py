"""Whether the results of a synthetic cohort show the planted signal, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mgmt_ray.selection.best_on_validation import BEST_OVERALL, FORWARD_SELECTION
from mgmt_ray.statistics.intervals import Interval, read_interval

CHANCE_AUC = 0.5

SUSPICIOUS_AUC = 0.75
"""Large studies of this task without leakage report AUCs of 0.55 to 0.67."""


@dataclass(frozen=True, slots=True)
class PlantedVerdict:
    """One ensemble's AUC compared with the planted signal.

    Attributes:
        carriers: its modalities that carry a planted signal; empty where chance is expected.
        auc: with its 95 % interval.
        matches_planted: above chance where a signal was planted; 0.5 in the interval otherwise.
        sentence: the verdict for a reader.
    """

    network: str
    ensemble: str
    carriers: tuple[str, ...]
    auc: Interval
    matches_planted: bool
    sentence: str


def planted_verdict(
    metrics: pd.DataFrame,
    planted: Mapping[str, Any],
    groups: Mapping[str, tuple[str, ...]],
    network: str = "spottune",
) -> tuple[PlantedVerdict, ...]:
    """Compare the AUC intervals with the planted signal.

    With a signal, the single groups of one network are judged: a combination dilutes the signal
    of a part, and other networks need not find it. Models of several channels ("PH+PSR") are
    judged where there are no groups. Without any signal, every row should be at chance.

    Args:
        planted: ``{"signal": {modality: strength}}``; a strength of 0 plants nothing.
        groups: modalities by ensemble name, as :func:`.ensembles.group_ensembles` returns them.
        network: judged when there is a signal; if the table does not have it, its first network is.

    >>> metrics = pd.DataFrame(
    ...     {
    ...         "network": "spottune",
    ...         "ensemble": ["DSC", "DTI"],
    ...         "auc": [0.8, 0.55],
    ...         "auc_low": [0.7, 0.4],
    ...         "auc_high": [0.9, 0.7],
    ...     }
    ... )
    >>> groups = {"DSC": ("PH", "PSR"), "DTI": ("FA",)}
    >>> for verdict in planted_verdict(metrics, {"signal": {"PH": 1.0}}, groups):
    ...     print(verdict.ensemble, verdict.sentence)
    DSC above chance: found
    DTI at chance as planted: interval contains 0.5
    """
    # the members of these differ by network, and each part is judged already
    rows = metrics[~metrics["ensemble"].isin([BEST_OVERALL, FORWARD_SELECTION])]
    strengths = planted.get("signal") or {}
    signal = {modality for modality, strength in strengths.items() if strength != 0}
    if signal:
        rows = _single_groups(rows, groups, network)
    verdicts = []
    for row in rows.to_dict("records"):
        name = str(row["ensemble"])
        carriers = tuple(m for m in groups.get(name, name.split("+")) if m in signal)
        auc = read_interval(row, "auc")
        verdict = _judge(auc, bool(carriers))
        verdicts.append(PlantedVerdict(str(row["network"]), name, carriers, auc, *verdict))
    return tuple(verdicts)


def _single_groups(
    metrics: pd.DataFrame, groups: Mapping[str, tuple[str, ...]], network: str
) -> pd.DataFrame:
    """Return one network's rows of single groups, or all of its rows where there are no groups."""
    networks = list(dict.fromkeys(metrics["network"]))
    judged = network if network in networks else networks[0]
    single = [name for name in groups if "+" not in name] or list(metrics["ensemble"])
    return metrics[(metrics["network"] == judged) & metrics["ensemble"].isin(single)]


def is_found(auc: Interval) -> bool:
    """Return whether a network found a signal that is known to be there.

    Its AUC's interval lies above 0.5, or every subject is in the right order: of five subjects a
    class or fewer, the exact interval of an AUC of 1 contains 0.5.

    >>> is_found(Interval(1.0, 0.158, 1.0)), is_found(Interval(0.9, 0.4, 0.99))
    (True, False)
    """
    return auc.low > CHANCE_AUC or auc.value == 1


def _judge(auc: Interval, has_signal: bool) -> tuple[bool, str]:
    """Return whether the interval matches what was planted, and the sentence about it."""
    if not has_signal and auc.excludes(CHANCE_AUC):
        return False, "NOT at chance: interval excludes 0.5"
    if not has_signal:
        return True, "at chance as planted: interval contains 0.5"
    if auc.high < CHANCE_AUC:
        return False, "NOT found: interval below 0.5, so predictions are inverted"
    if is_found(auc):
        return True, "above chance: found"
    return False, "NOT found: interval not above 0.5"
