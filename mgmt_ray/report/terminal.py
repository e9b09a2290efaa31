"""A study's metrics as plain text for a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report.summary import LEVEL
from mgmt_ray.statistics.intervals import Interval, read_interval
from mgmt_ray.statistics.planted_signal import CHANCE_AUC
from mgmt_ray.training.metrics import METRIC_LABELS

_NAME_WIDTH = 17
_METRIC_WIDTHS = (19, 18, 18, 18)


def summary(metrics: pd.DataFrame) -> str:
    """Return one line per network and ensemble, each metric with its 95 % interval.

    A star marks an AUC whose whole interval lies above 0.5, without correction; the last line says
    how many of them remain after Holm's correction, copies of other ensembles being left out.
    "size" counts the models.

    Args:
        metrics: columns as in a study's ``metrics.csv``.

    >>> row = {"network": "random", "ensemble": "DSC", "num_members": 5, "num_subjects": 57}
    >>> row |= {"num_methylated": 24, "copy_of": "", "auc_p_holm": 0.2}
    >>> for metric in METRIC_LABELS:
    ...     row |= {metric: 0.6, f"{metric}_low": 0.52, f"{metric}_high": 0.68}
    >>> lines = summary(pd.DataFrame([row])).splitlines()
    >>> lines[0]
    'From scratch: 57 test subjects, 24 methylated, 95 % intervals'
    >>> lines[2][:40]
    'DSC                  5  .600 [.52, .68]*'
    """
    heading = f"{'ensemble':<{_NAME_WIDTH}} size  {_columns(list(METRIC_LABELS.values()))}"
    lines = []
    for network, rows in metrics.groupby("network", sort=False):
        first = rows.iloc[0]
        lines.append(
            f"{network_label(str(network))}: {first['num_subjects']} test subjects, "
            f"{first['num_methylated']} methylated, 95 % intervals"
        )
        lines.append(heading)
        for row in rows.to_dict("records"):
            cells = [_short(read_interval(row, metric)) for metric in METRIC_LABELS]
            cells[0] += "*" if row["auc_low"] > CHANCE_AUC else ""
            name = str(row["ensemble"])
            if len(name) > _NAME_WIDTH:  # on a line of its own, not cut
                lines.append(name)
                name = ""
            lines.append(f"{name:<{_NAME_WIDTH}} {row['num_members']:>4}  {_columns(cells)}")
        lines.append("")
    stars = metrics[(metrics["auc_low"] > CHANCE_AUC) & (metrics["copy_of"] == "")]
    num_findings = int((stars["auc_p_holm"] < LEVEL).sum())
    lines += [
        "* AUC above chance: its interval lies above 0.5. Without a star chance is not excluded.",
        f"  Intervals are not corrected: {num_findings} of {len(stars)} distinct stars remain "
        f"after Holm's correction (p < {LEVEL}).",
    ]
    return "\n".join(lines)


def _columns(cells: Sequence[str]) -> str:
    padded = (f"{cell:<{width}}" for cell, width in zip(cells, _METRIC_WIDTHS, strict=True))
    return " ".join(padded).rstrip()


def _short(interval: Interval) -> str:
    low, high = f"{interval.low:.2f}", f"{interval.high:.2f}"
    value, low, high = map(_without_leading_zero, (f"{interval.value:.3f}", low, high))
    return f"{value} [{low}, {high}]"


def _without_leading_zero(number: str) -> str:
    return number[1:] if number.startswith("0.") else number
