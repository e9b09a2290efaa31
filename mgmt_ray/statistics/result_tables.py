"""The tables of a study: :func:`evaluate_ensembles` writes all, :func:`metrics_table` makes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import read_cohort
from mgmt_ray.selection.best_on_validation import (
    Choices,
    Ensembles,
    add_chosen_ensembles,
    make_ensembles,
)
from mgmt_ray.selection.ensembles import ensemble, group_ensembles, mean_over_splits
from mgmt_ray.selection.predictions import (
    check_labels,
    read_complete_table,
    read_predictions,
    write_table,
)
from mgmt_ray.statistics.calibration import calibration_table
from mgmt_ray.statistics.calibrators import Recalibrated, recalibrate
from mgmt_ray.statistics.comparisons import comparisons_table, holm, permutation_p, permuted_labels
from mgmt_ray.statistics.curves import decision_table
from mgmt_ray.statistics.delong import delong_interval
from mgmt_ray.statistics.intervals import (
    Interval,
    column_names,
    exact_interval,
    interval_columns,
)
from mgmt_ray.statistics.operating_points import operating_points_table
from mgmt_ray.statistics.paired_bootstrap import BOOTSTRAPPED, ResampledModel, resample_models
from mgmt_ray.statistics.reliability import reliability_table
from mgmt_ray.statistics.slice_classification import write_slice_tables
from mgmt_ray.statistics.subgroups import subgroups_table
from mgmt_ray.statistics.variance import variance_table
from mgmt_ray.training.metrics import count_correct, unit_weights

TABLES_VERSION = 2
"""Incremented where the meaning of a table changes, so that finished studies are re-evaluated."""

TargetSet: TypeAlias = Literal["test", "external"]
"""The subjects of predictions: a study's test subjects, or an external cohort."""

_ONE_CLASS_REMEDY: dict[TargetSet, str] = {
    "test": "Enlarge the test set (split.test_fraction) or the cohort.",
    "external": "List fewer modalities of that cohort, or remove it from `external`.",
}

METRIC_COLUMNS: tuple[str, ...] = (
    "network",
    "ensemble",
    "num_members",
    "num_subjects",
    "num_methylated",
    *column_names(*BOOTSTRAPPED, "sen", "spe"),
    "auc_delong_low",
    "auc_delong_high",
    "auc_p",
    "auc_p_holm",
)


def evaluate_ensembles(
    out: Path, target: TargetSet = "test", modalities: Sequence[str] | None = None
) -> pd.DataFrame:
    """Average a study's members into ensembles and write all tables of their predictions.

    Reads ``ensembles/member_predictions.csv`` and writes ``predictions.csv``, ``metrics.csv`` and
    ``comparisons.csv`` to the same folder. Of a study it also reads ``validation_members.csv``,
    ``members.csv`` and ``cohort.csv``, and writes the choices made on validation, calibration,
    operating points, decision curves, variance and subgroups. For networks of slices it writes
    their tables too (see :func:`write_slice_tables`).

    Args:
        out: the study's folder, or that of an external cohort.
        target: the subjects that the predictions must be of.
        modalities: the study's, which make its groups; None for those of the predictions.

    Returns:
        The metrics table (see :func:`metrics_table`).

    Raises:
        MgmtError: a table that is read is missing, faulty, or of other subjects.
    """
    folder = out / "ensembles"
    command = f"mgmt-ray ensemble STUDY --out {out}"
    members = _read_members(folder / "member_predictions.csv", target, command)
    groups = group_ensembles(modalities or list(dict.fromkeys(members["modality"])))
    if target == "external":
        predictions = ensemble(members, groups)
    else:
        validation = _read_members(folder / "validation_members.csv", "validation", command)
        ensembles = make_ensembles(validation, members, groups)
        predictions = mean_over_splits(ensembles.test)
        _write_choices(ensembles, folder)
        _write_recalibrated(recalibrate(ensembles.validation, ensembles.test), folder)
        _write_breakdowns(predictions, members, groups, ensembles.choices, out)
    metrics = metrics_table(predictions, target)
    write_table(predictions, folder / "predictions.csv")
    write_table(metrics, folder / "metrics.csv")
    write_table(comparisons_table(predictions), folder / "comparisons.csv")
    write_slice_tables(out)
    return metrics


def _write_choices(ensembles: Ensembles, folder: Path) -> None:
    """Write what was chosen on validation, and the predictions and scores it was chosen by."""
    validation = mean_over_splits(ensembles.validation)
    write_table(validation, folder / "validation_predictions.csv")
    write_table(ensembles.choices.best, folder / "best_ensembles.csv")
    write_table(ensembles.choices.forward, folder / "forward_selection.csv")


def _write_recalibrated(recalibrated: Recalibrated, folder: Path) -> None:
    """Write the tables about the values of probabilities, not only their order."""
    write_table(operating_points_table(recalibrated), folder / "operating_points.csv")
    write_table(calibration_table(recalibrated), folder / "calibration.csv")
    write_table(reliability_table(recalibrated), folder / "reliability.csv")
    write_table(decision_table(recalibrated), folder / "decision.csv")


def _write_breakdowns(
    predictions: pd.DataFrame,
    members: pd.DataFrame,
    groups: Mapping[str, tuple[str, ...]],
    choices: Choices,
    out: Path,
) -> None:
    """Write results of parts of the members, and of parts of the test subjects."""
    folder = out / "ensembles"

    def average(members: pd.DataFrame) -> pd.DataFrame:
        return mean_over_splits(add_chosen_ensembles(members, groups, choices))

    trained = read_complete_table(folder / "members.csv", ("trial", "repeat"))
    seeds = dict(zip(trained["trial"], trained["repeat"], strict=True))
    write_table(variance_table(predictions, members, seeds, average), folder / "variance.csv")
    subjects = read_cohort(out).subjects
    write_table(subgroups_table(predictions, subjects), folder / "subgroups.csv")


def _read_members(
    path: Path, target: TargetSet | Literal["validation"], command: str
) -> pd.DataFrame:
    members = read_predictions(path, command)
    if set(members["split"]) != {target}:
        subjects = {"test": "the test set", "validation": "training subjects"}.get(
            target, "external subjects"
        )
        raise MgmtError(
            f"{path}: has predictions not only of {subjects}. Delete it and run "
            "`mgmt-ray ensemble STUDY` again."
        )
    return members


def metrics_table(
    predictions: pd.DataFrame, target: TargetSet = "test", seed: int = 42
) -> pd.DataFrame:
    """Return AUC, AP, Brier, SEN and SPE of each network and ensemble, with 95 % intervals.

    AUC, AP and Brier have stratified bootstrap intervals over subjects, SEN and SPE exact ones;
    ``auc_delong_low`` and ``_high`` are :func:`delong_interval`'s. ``auc_p`` is the permutation
    test's, two-sided; ``auc_p_holm`` is Holm's over the whole table, one family of all networks,
    baseline models and ensembles.

    Args:
        predictions: as :func:`mgmt_ray.selection.ensembles.ensemble` returns them.
        target: the subjects, for error messages.
        seed: of the bootstrap and the permutations.

    Returns:
        :data:`METRIC_COLUMNS`, one row per network and ensemble, in the order given.

    Raises:
        MgmtError: a subject has two labels, or an ensemble's subjects are all of one class.

    Example:
        >>> predictions = pd.DataFrame(
        ...     {
        ...         "network": "spottune",
        ...         "ensemble": "DSC",
        ...         "subject": [f"S{i}" for i in range(8)],
        ...         "label": [0, 0, 0, 0, 1, 1, 1, 1],
        ...         "probability": [0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9],
        ...         "num_members": 5,
        ...     }
        ... )
        >>> row = metrics_table(predictions).iloc[0]
        >>> row["auc"], row["sen"], row["num_methylated"]
        (np.float64(0.9375), np.float64(0.75), np.int64(4))
    """
    check_labels(predictions, "ensemble predictions")
    _check_both_classes(predictions, target)
    models = resample_models(predictions, seed)
    num_members = predictions.groupby(["network", "ensemble"])["num_members"].first()
    p = _permutation_tests(models, seed)
    rows = [
        {
            "network": network,
            "ensemble": name,
            "num_members": int(num_members[network, name]),
            "num_subjects": len(model.labels),
            "num_methylated": int(model.labels.sum()),
            **interval_columns(_intervals(model)),
            **_delong_columns(model),
            "auc_p": p[network, name],
        }
        for (network, name), model in models.items()
    ]
    table = pd.DataFrame(rows).reindex(columns=list(METRIC_COLUMNS))
    table["auc_p_holm"] = holm(table["auc_p"].to_numpy(dtype=float))
    return table


def _check_both_classes(predictions: pd.DataFrame, target: TargetSet) -> None:
    by_model = predictions.groupby(["network", "ensemble"], sort=False)["label"]
    for (network, name), labels in by_model:
        if labels.nunique() < 2:
            raise MgmtError(
                f"{network} {name}: its {len(labels)} {target} subjects are all of one class, so "
                f"AUC is not defined. {_ONE_CLASS_REMEDY[target]}"
            )


def _permutation_tests(
    models: Mapping[tuple[str, str], ResampledModel], seed: int
) -> dict[tuple[str, str], float]:
    permuted: dict[bytes, np.ndarray] = {}
    p = {}
    for key, model in models.items():
        labels = model.labels.tobytes()
        if labels not in permuted:
            permuted[labels] = permuted_labels(model.labels, seed)
        p[key] = permutation_p(model.labels, model.probabilities, permuted[labels])
    return p


def _delong_columns(model: ResampledModel) -> dict[str, float]:
    interval = delong_interval(model.labels, model.probabilities)
    return {"auc_delong_low": interval.low, "auc_delong_high": interval.high}


def _intervals(model: ResampledModel) -> dict[str, Interval]:
    intervals = {metric: model.interval(metric) for metric in BOOTSTRAPPED}
    sample = unit_weights(len(model.labels))
    for name, label in (("sen", 1), ("spe", 0)):
        right, total = count_correct(model.labels, model.probabilities, sample, label)
        intervals[name] = exact_interval(int(right[0]), int(total[0]))
    return intervals
