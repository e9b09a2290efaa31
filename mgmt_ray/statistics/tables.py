"""The tables of a study: metrics with intervals, and comparisons between networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Int

from mgmt_ray.base import MgmtError
from mgmt_ray.selection.ensemble import ensemble, group_ensembles
from mgmt_ray.selection.predictions import read_predictions, refuse_two_labels, write_table
from mgmt_ray.statistics.compare import compare_networks, same_subjects
from mgmt_ray.statistics.intervals import (
    Interval,
    bootstrap_weights,
    exact_interval,
    percentile_interval,
)
from mgmt_ray.training.metrics import METRICS, auc, average_precision, called_rightly, once

Of: TypeAlias = Literal["test", "external"]
"""Whom predictions are of: a study's test subjects, or an external cohort."""

_OF_ONE_CLASS: dict[Of, str] = {
    "test": "Enlarge the test set (split.test_fraction) or the cohort.",
    "external": "Name fewer modalities of that cohort, or take it out of `external`.",
}

METRIC_COLUMNS: tuple[str, ...] = (
    "network",
    "ensemble",
    "num_members",
    "num_subjects",
    "num_methylated",
    *(f"{metric}{bound}" for metric in METRICS for bound in ("", "_low", "_high")),
)
COMPARISON_COLUMNS: tuple[str, ...] = (
    "ensemble",
    "num_subjects",
    "friedman_chi2",
    "friedman_p",
    "network_a",
    "network_b",
    "nemenyi_p",
)


def evaluate_ensembles(
    out: Path, of: Of = "test", modalities: Sequence[str] | None = None
) -> pd.DataFrame:
    """Average a study's members and write what follows from their predictions.

    Reads ``ensembles/member_predictions.csv``; writes ``predictions.csv``, ``metrics.csv`` and
    ``comparisons.csv`` beside it.

    Args:
        out: the study's folder, or that of an external cohort.
        of: whom the predictions must be of.
        modalities: the study's, which make its groups; None for those of the predictions.

    Returns:
        The metrics table (see :func:`metrics_table`).

    Raises:
        MgmtError: the predictions are missing, faulty, or not of these subjects.
    """
    folder = out / "ensembles"
    path = folder / "member_predictions.csv"
    members = read_predictions(path, f"mgmt-ray ensemble STUDY --out {out}")
    if set(members["split"]) != {of}:
        what = "the test set" if of == "test" else "external subjects"
        raise MgmtError(
            f"{path}: not only of {what}. Delete it and run `mgmt-ray ensemble STUDY` again."
        )
    groups = group_ensembles(modalities or list(dict.fromkeys(members["modality"])))
    predictions = ensemble(members, groups)
    metrics = metrics_table(predictions, of)
    comparisons = comparisons_table(predictions)
    write_table(predictions, folder / "predictions.csv")
    write_table(metrics, folder / "metrics.csv")
    write_table(comparisons, folder / "comparisons.csv")
    return metrics


def metrics_table(predictions: pd.DataFrame, of: Of = "test", seed: int = 42) -> pd.DataFrame:
    """AUC, AP, SEN and SPE of each network and ensemble, with 95 % intervals.

    AUC and AP have stratified bootstrap intervals over subjects, SEN and SPE exact ones.

    Args:
        predictions: as :func:`mgmt_ray.selection.ensemble.ensemble` returns them.
        of: whom they are of; an error speaks of them.
        seed: of the bootstrap.

    Returns:
        :data:`METRIC_COLUMNS`, one row per network and ensemble, in the order given.

    Raises:
        MgmtError: a subject has two labels, or an ensemble's subjects are all of one class.
    """
    refuse_two_labels(predictions, "ensemble predictions")
    drawn: dict[bytes, Int[np.ndarray, "resample subject"]] = {}
    rows: list[dict[str, object]] = []
    for (network, name), group in predictions.groupby(["network", "ensemble"], sort=False):
        ordered = group.sort_values("subject")
        labels = ordered["label"].to_numpy(dtype=np.int64)
        if not 0 < labels.sum() < len(labels):
            raise MgmtError(
                f"{network} {name}: its {len(labels)} {of} subjects are all of one class, so AUC "
                f"is not defined. {_OF_ONE_CLASS[of]}"
            )
        key = labels.tobytes()
        if key not in drawn:
            drawn[key] = bootstrap_weights(labels, seed)
        probabilities = ordered["probability"].to_numpy(dtype=float)
        rows.append(
            {
                "network": network,
                "ensemble": name,
                "num_members": int(ordered["num_members"].iloc[0]),
                "num_subjects": len(labels),
                "num_methylated": int(labels.sum()),
            }
            | _flat(_intervals(labels, probabilities, drawn[key]))
        )
    return pd.DataFrame(rows, columns=list(METRIC_COLUMNS))


def comparisons_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Friedman's and Nemenyi's tests between the networks that share an ensemble's inputs.

    Args:
        predictions: as for :func:`metrics_table`.

    Returns:
        :data:`COMPARISON_COLUMNS`, one row per ensemble and pair of networks; none for an
        ensemble of fewer than three networks.

    Raises:
        MgmtError: the networks of an ensemble were evaluated on different subjects.
    """
    rows = []
    for name, group in predictions.groupby("ensemble", sort=False):
        wide = same_subjects(group, str(name))
        if wide.shape[1] < 3:
            continue
        result = compare_networks(wide.to_numpy(dtype=float), tuple(wide.columns))
        shared = (name, len(wide), result.chi2, result.p)
        rows += [(*shared, *pair) for pair in result.pairs]
    return pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))


def _intervals(
    labels: Int[np.ndarray, " subject"],
    probabilities: np.ndarray,
    weights: Int[np.ndarray, "resample subject"],
) -> dict[str, Interval]:
    sample = once(len(labels))
    intervals = {
        name: percentile_interval(
            float(metric(labels, probabilities, sample)[0]),
            metric(labels, probabilities, weights),
        )
        for name, metric in (("auc", auc), ("ap", average_precision))
    }
    for name, label in (("sen", 1), ("spe", 0)):
        right, total = called_rightly(labels, probabilities, sample, of_label=label)
        intervals[name] = exact_interval(int(right[0]), int(total[0]))
    return intervals


def _flat(intervals: dict[str, Interval]) -> dict[str, float]:
    """An interval's three numbers under the table's column names."""
    return {
        f"{metric}{bound}": number
        for metric, interval in intervals.items()
        for bound, number in (
            ("", interval.value),
            ("_low", interval.low),
            ("_high", interval.high),
        )
    }
