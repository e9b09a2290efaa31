"""Everything that a report tells, read from a study's folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from mgmt_ray.base import MgmtError, file_checksum
from mgmt_ray.cohort.cohort import Cohort, read_cohort
from mgmt_ray.cohort.subject import MODALITIES
from mgmt_ray.report.science_tables import CHOSEN, read_result_tables
from mgmt_ray.report.study_files import (
    check_tables,
    missing_file_error,
    read_config,
    read_json,
    read_json_lines,
    read_text,
)
from mgmt_ray.selection.ensembles import group_ensembles
from mgmt_ray.selection.predictions import read_complete_table, read_table
from mgmt_ray.splits.split import Split, check_group_leakage, read_splits
from mgmt_ray.statistics.comparisons import BASELINES, COMPARISON_COLUMNS
from mgmt_ray.statistics.result_tables import METRIC_COLUMNS
from mgmt_ray.study.folder import StudyFolder, openings_by_purpose


@dataclass(frozen=True, slots=True)
class ExternalResults:
    """What the finished models said of another cohort.

    Attributes:
        cohort: its subjects and exclusions.
        predictions: the ensembles' predictions of its subjects.
        metrics: with intervals.
        openings: each time it was predicted, in the order logged.
        tables: those tables of :data:`mgmt_ray.report.science_tables.RESULT_TABLES` that it has.
    """

    cohort: Cohort
    predictions: pd.DataFrame
    metrics: pd.DataFrame
    openings: tuple[Mapping[str, Any], ...]
    tables: Mapping[str, pd.DataFrame]


@dataclass(frozen=True, slots=True)
class StudyResults:
    """One finished study.

    Attributes:
        name: the study's.
        seed: the study's, as its configuration says; None if it does not.
        config_text: its resolved configuration, YAML.
        config: the same, read.
        cohort: subjects and exclusions.
        splits: test sets and folds.
        planted: what a synthetic cohort was given; None for real subjects.
        members: the models in the ensembles.
        trials: their trial.json by trial id.
        needed: likewise of the segmentations that they need.
        epochs: their epochs.csv, with a column ``trial``.
        diverged: trial.json of each training in the folder whose loss was no longer a number.
        predictions: the ensembles' predictions of the test subjects.
        metrics: with intervals.
        comparisons: between models; may be empty.
        tables: those of :data:`mgmt_ray.report.science_tables.RESULT_TABLES` that were made.
        audit: what ``mgmt-ray audit`` found; None if it has not run.
        evaluated: checksum of the mark that the tables are whole; None without it.
        openings: of the test set, in the order logged.
        external: results on other cohorts, by their names in the study.
        provenance: versions, commit, times; empty where it was not recorded.
    """

    name: str
    seed: int | None
    config_text: str
    config: Mapping[str, Any]
    cohort: Cohort
    splits: tuple[Split, ...]
    planted: Mapping[str, Any] | None
    members: pd.DataFrame
    trials: Mapping[str, Mapping[str, Any]]
    needed: Mapping[str, Mapping[str, Any]]
    epochs: pd.DataFrame
    diverged: tuple[Mapping[str, Any], ...]
    predictions: pd.DataFrame
    metrics: pd.DataFrame
    comparisons: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    audit: Mapping[str, Any] | None
    evaluated: str | None
    openings: tuple[Mapping[str, Any], ...]
    external: Mapping[str, ExternalResults]
    provenance: Mapping[str, Any]

    @property
    def networks(self) -> tuple[str, ...]:
        """Those that were evaluated, in the order of the metrics, without comparison models."""
        found = dict.fromkeys(self.metrics["network"])
        return tuple(name for name in found if name not in self.baselines)

    @property
    def baselines(self) -> tuple[str, ...]:
        """What networks are compared with, each an ensemble of its own name."""
        return tuple(n for n in BASELINES if n in set(self.metrics["network"]))

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the models take: modalities in the paper's order, then several channels."""
        found = list(dict.fromkeys(self.members["modality"]))
        return tuple(sorted(found, key=lambda m: (*MODALITIES, *found).index(m)))

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Modalities by group ensemble; empty for a study of several channels only."""
        evaluated = set(self.metrics["ensemble"])
        return {n: m for n, m in group_ensembles(self.inputs).items() if n in evaluated}

    @property
    def main_ensembles(self) -> tuple[str, ...]:
        """The ensembles that tables and figures lead with: the groups, else all there are."""
        others = {*CHOSEN, *self.baselines}
        found = dict.fromkeys(self.metrics["ensemble"])
        return tuple(self.groups) or tuple(name for name in found if name not in others)


def read_study_results(out: Path) -> StudyResults:
    """Read a finished study.

    Args:
        out: the study's folder.

    Raises:
        MgmtError: a stage has not run yet (the error says which command runs it), a trial was
            trained with another split than the folder's, or a split puts a person on two sides.
    """
    folder = StudyFolder(out)
    check_tables(folder.evaluated)
    config_text, config = _read_study(folder)
    cohort = read_cohort(out)
    splits = _read_splits(folder, cohort)
    evaluate = f"mgmt-ray ensemble STUDY --out {out}"
    members = _read_members(folder, evaluate)
    trials = {name: _read_trial(folder, name, splits) for name in members["trial"]}
    needed = [need for trial in trials.values() for need in trial.get("needs") or ()]
    return StudyResults(
        name=str(config.get("name", out.name)),
        seed=config.get("seed"),
        config_text=config_text,
        config=config,
        cohort=cohort,
        splits=splits,
        planted=read_json(out / "planted.json"),
        members=members,
        trials=trials,
        needed={name: _read_trial(folder, name, splits) for name in needed},
        epochs=_read_epochs(folder, list(trials)),
        diverged=_read_diverged(folder),
        predictions=read_table(folder.ensembles / "predictions.csv", evaluate),
        metrics=read_complete_table(folder.ensembles / "metrics.csv", METRIC_COLUMNS),
        comparisons=read_complete_table(folder.ensembles / "comparisons.csv", COMPARISON_COLUMNS),
        tables=read_result_tables(folder.ensembles),
        audit=read_json(out / "audit.json"),
        evaluated=file_checksum(folder.evaluated) if folder.evaluated.is_file() else None,
        openings=read_json_lines(folder.test_openings),
        external={n: _read_external(folder.external(n), evaluate) for n in _external(config)},
        provenance=read_json(folder.provenance) or {},
    )


def _read_study(folder: StudyFolder) -> tuple[str, Mapping[str, Any]]:
    """The resolved study that the results are of: its text, and what that says."""
    path = folder.evaluated_study if folder.evaluated_study.is_file() else folder.study_file
    text = read_text(path, f"mgmt-ray cohort STUDY --out {folder.root}")
    return text, read_config(path, text)


def _external(config: Mapping[str, Any]) -> list[str]:
    return list(config.get("external") or {})


def _read_splits(folder: StudyFolder, cohort: Cohort) -> tuple[Split, ...]:
    if not folder.splits.exists():
        raise missing_file_error(folder.splits, f"mgmt-ray plan STUDY --out {folder.root}")
    splits = read_splits(folder.splits)
    for split in splits:
        check_group_leakage(split, cohort)
    return splits


def _read_members(folder: StudyFolder, command: str) -> pd.DataFrame:
    """Without comparison models, which have no trial."""
    members = read_table(folder.ensembles / "members.csv", command)
    return members[~members["network"].isin(BASELINES)].reset_index(drop=True)


def _read_external(folder: StudyFolder, command: str) -> ExternalResults:
    return ExternalResults(
        cohort=read_cohort(folder.root),
        predictions=read_table(folder.ensembles / "predictions.csv", command),
        metrics=read_table(folder.ensembles / "metrics.csv", command),
        openings=read_json_lines(folder.test_openings),
        tables=read_result_tables(folder.ensembles),
    )


def _read_trial(folder: StudyFolder, name: str, splits: tuple[Split, ...]) -> Mapping[str, Any]:
    path = folder.trial(name) / "trial.json"
    if not folder.is_finished(name):
        raise missing_file_error(path, f"mgmt-ray run STUDY --out {folder.root}")
    trial = folder.read_trial(name)
    if trial.get("split_hash") not in {split.hash for split in splits}:
        raise MgmtError(
            f"{path}: trained with another split than {folder.splits}. Restore that split, or "
            "delete the trial and train it again."
        )
    return trial


def _read_epochs(folder: StudyFolder, names: list[str]) -> pd.DataFrame:
    command = f"mgmt-ray run STUDY --out {folder.root}"
    tables = [
        read_table(folder.trial(name) / "epochs.csv", command).assign(trial=name) for name in names
    ]
    return pd.concat(tables, ignore_index=True)


def _read_diverged(folder: StudyFolder) -> tuple[Mapping[str, Any], ...]:
    found = sorted(path.parent.name for path in folder.trials.glob("*/trial.json"))
    return tuple(folder.read_trial(name) for name in found if folder.has_diverged(name))


def slice_networks(results: StudyResults) -> dict[str, Mapping[str, Any]]:
    """The networks of kind slices with their configurations, by name; empty if there are none."""
    networks: Mapping[str, Any] = results.config.get("networks") or {}
    return {
        name: network
        for name, network in networks.items()
        if network and network.get("kind") == "slices"
    }


def has_only_slice_networks(results: StudyResults) -> bool:
    """Whether every network of the study takes slices."""
    found = slice_networks(results)
    return bool(found) and len(found) == len(results.config.get("networks") or {})


def results_time(results: StudyResults) -> datetime | None:
    """When the test set was last opened for results; None where that was not recorded."""
    return _last(openings_by_purpose(results.openings)[0])


def explain_time(results: StudyResults) -> datetime | None:
    """When it was last opened for pictures; None where it was not, or that was not recorded."""
    return _last(openings_by_purpose(results.openings)[1])


def read_time(record: Mapping[str, Any]) -> datetime | None:
    """The time of a record, which is UTC where it names no zone; None where it has none."""
    try:
        time = datetime.fromisoformat(str(record.get("time")))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def is_before(first: datetime | None, second: datetime | None) -> bool:
    """Whether both are known and the first is the earlier."""
    return first is not None and second is not None and first < second


def _last(openings: Iterable[Mapping[str, Any]]) -> datetime | None:
    return max(filter(None, map(read_time, openings)), default=None)
