"""A study's AUCs as plain text for a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report.ensemble_tables import by_ensemble, chosen_note
from mgmt_ray.report.summary import LEVEL
from mgmt_ray.statistics.intervals import read_interval
from mgmt_ray.statistics.planted_signal import CHANCE_AUC
from mgmt_ray.study.baseline_config import BASELINES

_NAME_WIDTH = 20
_CELL_WIDTH = 24
_NETWORKS_PER_TABLE = 3


def summary(metrics: pd.DataFrame, answers: Sequence[str] = ()) -> str:
    """Return the answers, then a line per ensemble with the networks' AUCs side by side.

    A star marks an AUC whose whole interval lies above 0.5, without correction; the last line says
    how many of them remain after Holm's correction, copies of other ensembles being left out.

    Args:
        metrics: columns as in a study's ``metrics.csv``.
        answers: sentences that come first.

    >>> row = {"network": "random", "ensemble": "DSC", "num_subjects": 57, "num_methylated": 24}
    >>> row |= {"auc": 0.6, "auc_low": 0.52, "auc_high": 0.68, "copy_of": "", "auc_p_holm": 0.2}
    >>> lines = summary(pd.DataFrame([row])).splitlines()
    >>> lines[0]
    'AUC [95 % interval], test subjects: 57, 24 of them methylated'
    >>> lines[2]
    'DSC                  .600 [.52, .68]*'
    """
    largest = max(metrics.to_dict("records"), key=lambda row: int(row["num_subjects"]))
    lines = [*answers, ""] if answers else []
    lines.append(
        f"AUC [95 % interval], test subjects: {largest['num_subjects']}, "
        f"{largest['num_methylated']} of them methylated"
    )
    is_baseline = metrics["network"].isin(BASELINES)
    of_networks = metrics[~is_baseline]
    names = list(dict.fromkeys(of_networks["ensemble"]))
    every = list(dict.fromkeys(of_networks["network"]))
    for start in range(0, len(every), _NETWORKS_PER_TABLE):
        networks = every[start : start + _NETWORKS_PER_TABLE]
        shown = by_ensemble(of_networks[of_networks["network"].isin(networks)], names)
        lines.append(_line("ensemble", map(network_label, networks)))
        for name, rows in shown.items():
            lines.append(_line(name, (_cell(rows.get(network)) for network in networks)))
    for row in metrics[is_baseline].to_dict("records"):
        lines.append(_line(network_label(row["network"]), [_cell(row)]))
    stars = metrics[(metrics["auc_low"] > CHANCE_AUC) & (metrics["copy_of"] == "")]
    num_findings = int((stars["auc_p_holm"] < LEVEL).sum())
    lines += [
        "* above chance: the interval lies above 0.5. best: chosen on validation.",
        f"  Intervals are not corrected: {num_findings} of {len(stars)} distinct stars remain "
        f"after Holm's correction (p < {LEVEL}).",
    ]
    return "\n".join(lines)


def _line(name: str, cells: Iterable[str]) -> str:
    """Put a name before the cells; a long one on a line of its own, not cut."""
    start = f"{name:<{_NAME_WIDTH}}" if len(name) <= _NAME_WIDTH else f"{name}\n{'':{_NAME_WIDTH}}"
    return f"{start} {''.join(f'{cell:<{_CELL_WIDTH}}' for cell in cells)}".rstrip()


def _cell(row: Mapping[Hashable, Any] | None) -> str:
    if row is None:
        return ""
    auc = read_interval(row, "auc")
    value, low, high = map(
        _without_leading_zero, (f"{auc.value:.3f}", f"{auc.low:.2f}", f"{auc.high:.2f}")
    )
    star = "*" if auc.low > CHANCE_AUC else ""
    return f"{value} [{low}, {high}]{star} {chosen_note(row)}".rstrip()


def _without_leading_zero(number: str) -> str:
    return number[1:] if number.startswith("0.") else number
