"""The tables of results, and writing them: :func:`metrics_table` makes one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import read_cohort
from mgmt_ray.selection.best_on_validation import (
    BEST_COLUMNS,
    FORWARD_COLUMNS,
    Choices,
    add_chosen_ensembles,
    make_ensembles,
)
from mgmt_ray.selection.ensembles import (
    ENSEMBLE_COLUMNS,
    ensemble,
    group_ensembles,
    mean_over_splits,
)
from mgmt_ray.selection.members import MEMBER_COLUMNS
from mgmt_ray.selection.predictions import (
    PREDICTION_COLUMNS,
    check_labels,
    read_complete_table,
    read_predictions,
    write_table,
)
from mgmt_ray.statistics.calibration import CALIBRATION_COLUMNS, calibration_table
from mgmt_ray.statistics.calibrators import recalibrate
from mgmt_ray.statistics.comparisons import (
    COMPARISON_COLUMNS,
    comparisons_table,
    holm_by_family,
    model_family,
    permutation_p,
    permuted_labels,
)
from mgmt_ray.statistics.curves import DECISION_COLUMNS, decision_table
from mgmt_ray.statistics.intervals import column_names, interval_columns
from mgmt_ray.statistics.mask_effect import MASK_EFFECT_COLUMNS
from mgmt_ray.statistics.model_intervals import METRICS, find_copies, resample_models
from mgmt_ray.statistics.operating_points import (
    OPERATING_COLUMNS,
    classification_rates,
    operating_points_table,
)
from mgmt_ray.statistics.policy_summary import ROUTING_COLUMNS, routing_table
from mgmt_ray.statistics.reliability import RELIABILITY_COLUMNS, reliability_table
from mgmt_ray.statistics.slice_classification import (
    BEST_SLICE_COLUMNS,
    CLASSIFICATION_COLUMNS,
    SLICE_COLUMNS,
    slice_tables,
)
from mgmt_ray.statistics.slice_overlap import (
    OVERLAP_COLUMNS,
    SECONDS_COLUMNS,
    SEGMENTATION_COLUMNS,
)
from mgmt_ray.statistics.subgroups import SUBGROUP_COLUMNS, subgroups_table
from mgmt_ray.statistics.variance import VARIANCE_COLUMNS, variance_table
from mgmt_ray.training.metrics import THRESHOLD

TABLES_VERSION = 3
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
    *column_names(*METRICS, "sen", "spe"),
    "copy_of",
    "family",
    "auc_p",
    "auc_p_holm",
)


@dataclass(frozen=True, slots=True)
class ResultTable:
    """A table of results, ``ensembles/NAME.csv``.

    Attributes:
        columns: that each row has; others may follow.
        content: what is in it, for ``docs/results.md``.
        is_written: whether :func:`evaluate_ensembles` writes it; others are written as the test set
            is predicted, and are its input.
    """

    columns: tuple[str, ...]
    content: str
    is_written: bool = True


RESULT_TABLES: dict[str, ResultTable] = {
    "members": ResultTable(
        MEMBER_COLUMNS,
        "the trained models in the ensembles: which rule chose the epoch, validation M, checksum "
        "of the weights",
        is_written=False,
    ),
    "baselines": ResultTable(("network",), "the fitted baselines", is_written=False),
    "member_predictions": ResultTable(
        PREDICTION_COLUMNS, "every model's probability of each test subject", is_written=False
    ),
    "validation_members": ResultTable(
        PREDICTION_COLUMNS,
        "every model's probability of the training subjects that it validated on (out of fold)",
        is_written=False,
    ),
    "predictions": ResultTable(
        ENSEMBLE_COLUMNS,
        "the test subjects' probabilities, averaged over folds, then modalities, then outer splits",
    ),
    "validation_predictions": ResultTable(
        ENSEMBLE_COLUMNS, "the same of the training subjects, out of fold"
    ),
    "best_ensembles": ResultTable(
        BEST_COLUMNS, "validation scores of each group ensemble; the one called `best overall`"
    ),
    "forward_selection": ResultTable(
        FORWARD_COLUMNS,
        "modalities one by one, in the order in which they improved validation most",
    ),
    "metrics": ResultTable(
        METRIC_COLUMNS, "AUC, AP, Brier, SEN, SPE with intervals; p-value of the AUC"
    ),
    "comparisons": ResultTable(
        COMPARISON_COLUMNS,
        "paired tests between networks, and between networks and baselines",
    ),
    "operating_points": ResultTable(
        OPERATING_COLUMNS,
        "SEN, SPE, PPV, NPV, accuracy and F1 at 0.5, at the threshold chosen on validation, and "
        "after correction for the training prior",
    ),
    "calibration": ResultTable(CALIBRATION_COLUMNS, "Brier, slope, intercepts, ECE"),
    "reliability": ResultTable(RELIABILITY_COLUMNS, "bins of the reliability diagram"),
    "decision": ResultTable(DECISION_COLUMNS, "net benefit over thresholds"),
    "variance": ResultTable(
        VARIANCE_COLUMNS,
        "standard deviation of the AUC over policy draws, folds, seeds and test subjects",
    ),
    "subgroups": ResultTable(SUBGROUP_COLUMNS, "by sex, age and IDH"),
    "policies": ResultTable(
        # a column for each further block of the network follows
        (
            *("trial", "network", "modality", "outer_fold", "fold"),
            *("repeat", "subject", "label", "block_1"),
        ),
        "probability that the agent of each SpotTune model tunes each block, per test subject",
        is_written=False,
    ),
    "routed_predictions": ResultTable(
        (*PREDICTION_COLUMNS, "policy"),
        "every SpotTune model's probability of each test subject under other policies",
        is_written=False,
    ),
    "routing": ResultTable(
        ROUTING_COLUMNS,
        "whether routing matters: AUC of the same weights under the agent's and other policies",
    ),
    "slice_predictions": ResultTable(
        SLICE_COLUMNS,
        "for networks of kind `slices`: probability of methylation of each slice of test patients",
        is_written=False,
    ),
    "segmentations": ResultTable(
        SEGMENTATION_COLUMNS,
        "accuracy and speed of the segmentation of their tumours",
        is_written=False,
    ),
    "slice_overlap": ResultTable(
        OVERLAP_COLUMNS,
        "Dice and Hausdorff distance by slice, by patient and in 3-D, mean ± standard deviation "
        "over folds",
    ),
    "slice_seconds": ResultTable(SECONDS_COLUMNS, "seconds per slice with the device"),
    "slice_classification": ResultTable(
        CLASSIFICATION_COLUMNS,
        "accuracy, recall, precision, F1, AUC by slice and by patient on training, validation and "
        "test",
    ),
    "slice_best": ResultTable(BEST_SLICE_COLUMNS, "the models with the best validation score"),
    "mask_effect": ResultTable(
        MASK_EFFECT_COLUMNS,
        "effect of predicted instead of given masks on the AUC of 3-D networks",
        is_written=False,
    ),
}
"""Every table of results by name, which writing, reading, report and documentation share."""


def read_result(folder: Path, name: str) -> pd.DataFrame:
    """Read one of :data:`RESULT_TABLES` from a folder of ensembles.

    Raises:
        MgmtError: it does not exist, or has not all columns, so another version of the program
            wrote it.
    """
    return read_complete_table(folder / f"{name}.csv", RESULT_TABLES[name].columns)


def read_existing_results(folder: Path, names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Read those of these tables that exist, by name (see :func:`read_result`)."""
    return {name: read_result(folder, name) for name in names if (folder / f"{name}.csv").exists()}


def write_results(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write all tables that follow from predictions, and delete the others of an earlier time.

    Args:
        folder: of the ensembles.
        tables: by name, with the columns of :data:`RESULT_TABLES`.
    """
    for name, table in tables.items():
        missing = {*RESULT_TABLES[name].columns} - {*table.columns}
        assert not missing, f"{name}: no column {', '.join(sorted(missing))}"
        write_table(table, folder / f"{name}.csv")
    for name, table_of in RESULT_TABLES.items():
        if table_of.is_written and name not in tables:
            (folder / f"{name}.csv").unlink(missing_ok=True)


def evaluate_ensembles(
    out: Path, target: TargetSet = "test", modalities: Sequence[str] | None = None
) -> pd.DataFrame:
    """Average a study's members into ensembles and write all tables of their predictions.

    Reads ``ensembles/member_predictions.csv``, and of a study also ``validation_members.csv``,
    ``members.csv`` and ``cohort.csv``. Of an external cohort only predictions, metrics, comparisons
    and the tables by slice and patient are written, of a study all of :data:`RESULT_TABLES`.

    Args:
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
    tables: dict[str, pd.DataFrame] = {}
    if target == "external":
        predictions = ensemble(members, groups)
    else:
        validation = _read_members(folder / "validation_members.csv", "validation", command)
        ensembles = make_ensembles(validation, members, groups)
        predictions = mean_over_splits(ensembles.test)
        recalibrated = recalibrate(ensembles.validation, ensembles.test)
        tables = {
            "validation_predictions": mean_over_splits(ensembles.validation),
            "best_ensembles": ensembles.choices.best,
            "forward_selection": ensembles.choices.forward,
            "operating_points": operating_points_table(recalibrated),
            "calibration": calibration_table(recalibrated),
            "reliability": reliability_table(recalibrated),
            "decision": decision_table(recalibrated),
            "variance": _variance(predictions, members, groups, ensembles.choices, folder),
            "subgroups": subgroups_table(predictions, read_cohort(out).subjects),
            **_routing(members, groups, folder),
        }
    tables |= {
        "predictions": predictions,
        "metrics": metrics_table(predictions, target),
        "comparisons": comparisons_table(predictions),
        **slice_tables(out),
    }
    write_results(folder, tables)
    return tables["metrics"]


def _routing(
    members: pd.DataFrame, groups: Mapping[str, tuple[str, ...]], folder: Path
) -> dict[str, pd.DataFrame]:
    """Return the table of other policies than the agent's, if members predicted under any."""
    routed = read_existing_results(folder, ["routed_predictions"]).get("routed_predictions")
    return {} if routed is None else {"routing": routing_table(members, routed, groups)}


def _variance(
    predictions: pd.DataFrame,
    members: pd.DataFrame,
    groups: Mapping[str, tuple[str, ...]],
    choices: Choices,
    folder: Path,
) -> pd.DataFrame:
    """Return the AUC's variance by source: ensembles of parts of the members are made for it."""

    def average(members: pd.DataFrame) -> pd.DataFrame:
        return mean_over_splits(add_chosen_ensembles(members, groups, choices))

    trained = read_complete_table(folder / "members.csv", ("trial", "repeat"))
    seeds = dict(zip(trained["trial"], trained["repeat"], strict=True))
    return variance_table(predictions, members, seeds, average)


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

    AUC, AP and Brier have the intervals of :meth:`.ResampledModel.interval`, SEN and SPE exact
    ones. ``auc_p`` is the permutation test's, two-sided; ``auc_p_holm`` is Holm's within the row's
    :data:`.comparisons.Family`. A row that is another one under a second name gives that one's in
    ``copy_of``, and has no p-value. One row per network and ensemble, in the order given.

    Raises:
        MgmtError: a subject has two labels, or an ensemble's subjects are all of one class.

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
    num_members = predictions.groupby(["network", "ensemble"])["num_members"].first()
    permuted: dict[bytes, np.ndarray] = {}
    rows = []
    models = resample_models(predictions, seed)
    copies = find_copies(models)
    for key, model in models.items():
        labels, p = model.labels, model.probabilities
        if labels.tobytes() not in permuted:
            permuted[labels.tobytes()] = permuted_labels(labels, seed)
        family = model_family(*key, copies[key])
        intervals = {metric: model.interval(metric) for metric in METRICS}
        rows.append(
            {
                "network": key[0],
                "ensemble": key[1],
                "num_members": int(num_members[key]),
                "num_subjects": len(labels),
                "num_methylated": int(labels.sum()),
                **interval_columns(intervals | classification_rates(labels, p >= THRESHOLD)),
                "copy_of": copies[key],
                "family": family,
                "auc_p": (
                    permutation_p(labels, p, permuted[labels.tobytes()]) if family else math.nan
                ),
            }
        )
    table = pd.DataFrame(rows).reindex(columns=list(METRIC_COLUMNS))
    table["auc_p_holm"] = holm_by_family(table["auc_p"], table["family"])
    return table


def _check_both_classes(predictions: pd.DataFrame, target: TargetSet) -> None:
    by_model = predictions.groupby(["network", "ensemble"], sort=False)["label"]
    for (network, name), labels in by_model:
        if labels.nunique() < 2:
            raise MgmtError(
                f"{network} {name}: its {len(labels)} {target} subjects are all of one class, so "
                f"AUC is not defined. {_ONE_CLASS_REMEDY[target]}"
            )
