"""The results of a finished study, read and checked from its folder for the report."""

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
from mgmt_ray.report.ensemble_tables import CHOSEN
from mgmt_ray.report.study_files import (
    check_tables,
    missing_file_error,
    read_config,
    read_json,
    read_json_lines,
    read_text,
)
from mgmt_ray.selection.ensembles import group_ensembles
from mgmt_ray.selection.predictions import read_table
from mgmt_ray.splits.split import Split, check_group_leakage, read_splits
from mgmt_ray.statistics.result_tables import read_existing_results, read_result
from mgmt_ray.study.baseline_config import BASELINES
from mgmt_ray.study.folder import StudyFolder, check_trial_tables, openings_by_purpose

SHOWN_TABLES = (
    *("best_ensembles", "forward_selection", "operating_points", "calibration", "reliability"),
    *("decision", "variance", "subgroups", "mask_effect", "policies", "routing"),
    *("slice_overlap", "slice_seconds", "slice_classification", "slice_best"),
)
"""Tables of results that sections of the report show, and that may be missing."""


@dataclass(frozen=True, slots=True)
class ExternalResults:
    """Results of the finished models on another cohort.

    Attributes:
        predictions: of the ensembles, columns as in ``predictions.csv``.
        metrics: with intervals, columns as in ``metrics.csv``.
        openings: a record of each time the cohort was predicted, in the order logged.
        tables: by name, those of :data:`SHOWN_TABLES` that exist.
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
        seed: the study's, from its configuration; None if it has none.
        config_text: resolved configuration as YAML.
        config: the same, parsed.
        planted: signals that a synthetic cohort was given; None for real subjects.
        members: a row per model in the ensembles, without baselines.
        trials: trial.json of each member, by trial id.
        needed: trial.json of each segmentation that a member needs, by trial id.
        epochs: the members' epochs.csv, with a column ``trial``.
        diverged: trial.json of each training whose loss became NaN or infinite.
        predictions: of the test subjects by the ensembles.
        metrics: of the ensembles, with intervals.
        comparisons: paired tests between models; may be empty.
        tables: by name, those of :data:`SHOWN_TABLES` that exist.
        audit: content of audit.json; None if ``mgmt-ray audit`` has not run.
        evaluated: checksum of ``ensembles/evaluated.json``; None without that file.
        openings: the test-set access log, in the order logged.
        protocol: what was decided before the first of them; None if it was not recorded.
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
    protocol: Mapping[str, Any] | None
    external: Mapping[str, ExternalResults]
    provenance: Mapping[str, Any]

    @property
    def networks(self) -> tuple[str, ...]:
        """Networks that were evaluated, in the order of the metrics, without baselines."""
        evaluated = dict.fromkeys(self.metrics["network"])
        return tuple(name for name in evaluated if name not in self.baselines)

    @property
    def baselines(self) -> tuple[str, ...]:
        """Baselines that were evaluated; the ensemble of each has the baseline's name."""
        return tuple(n for n in BASELINES if n in set(self.metrics["network"]))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Inputs of the members: modalities in the paper's order, then multi-channel inputs."""
        inputs = list(dict.fromkeys(self.members["modality"]))
        return tuple(sorted(inputs, key=lambda m: (*MODALITIES, *inputs).index(m)))

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Modalities by group ensemble; empty if all members take several channels."""
        evaluated = set(self.metrics["ensemble"])
        return {n: m for n, m in group_ensembles(self.inputs).items() if n in evaluated}

    @property
    def main_ensembles(self) -> tuple[str, ...]:
        """Ensembles that tables and figures show first: the groups, else all of networks."""
        others = {*CHOSEN, *self.baselines}
        evaluated = dict.fromkeys(self.metrics["ensemble"])
        return tuple(self.groups) or tuple(name for name in evaluated if name not in others)


def read_study_results(out: Path) -> StudyResults:
    """Read a finished study.

    Raises:
        MgmtError: a stage has not run yet (the error names its command), a table was changed, a
            trial was trained with another split than the folder's, or a split has a person in
            both training and test.
    """
    folder = StudyFolder(out)
    check_tables(folder.evaluated)
    config_text, config = _read_study(folder)
    cohort = read_cohort(out)
    splits = _read_splits(folder, cohort)
    evaluate = f"mgmt-ray ensemble STUDY --out {out}"
    members = _read_members(folder, evaluate)
    trials = {name: _read_trial(folder, name, splits) for name in members["trial"]}
    segmentations = [name for trial in trials.values() for name in trial.get("needs") or ()]
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
        needed={name: _read_trial(folder, name, splits) for name in segmentations},
        epochs=_read_epochs(folder, list(trials)),
        diverged=_read_diverged(folder),
        predictions=read_table(folder.ensembles / "predictions.csv", evaluate),
        metrics=read_result(folder.ensembles, "metrics"),
        comparisons=read_result(folder.ensembles, "comparisons"),
        tables=read_existing_results(folder.ensembles, SHOWN_TABLES),
        audit=read_json(out / "audit.json"),
        evaluated=file_checksum(folder.evaluated) if folder.evaluated.is_file() else None,
        openings=read_json_lines(folder.test_openings),
        protocol=read_json(folder.protocol),
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
    """Read the members without baselines, which have no trial."""
    members = read_table(folder.ensembles / "members.csv", command)
    return members[~members["network"].isin(BASELINES)].reset_index(drop=True)


def _read_external(folder: StudyFolder, command: str) -> ExternalResults:
    return ExternalResults(
        cohort=read_cohort(folder.root),
        predictions=read_table(folder.ensembles / "predictions.csv", command),
        metrics=read_result(folder.ensembles, "metrics"),
        openings=read_json_lines(folder.test_openings),
        tables=read_existing_results(folder.ensembles, SHOWN_TABLES),
    )


def _read_trial(folder: StudyFolder, name: str, splits: tuple[Split, ...]) -> Mapping[str, Any]:
    path = folder.trial(name) / "trial.json"
    if not folder.is_finished(name):
        raise missing_file_error(path, f"mgmt-ray run STUDY --out {folder.root}")
    trial = folder.read_trial(name)
    check_trial_tables(folder.trial(name), trial)
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
    names = sorted(path.parent.name for path in folder.trials.glob("*/trial.json"))
    return tuple(folder.read_trial(name) for name in names if folder.outcome(name).diverged)


def slice_networks(results: StudyResults) -> dict[str, Mapping[str, Any]]:
    """Return the configurations of the networks of kind slices, by name."""
    networks: Mapping[str, Any] = results.config.get("networks") or {}
    return {
        name: network
        for name, network in networks.items()
        if network and network.get("kind") == "slices"
    }


def has_only_slice_networks(results: StudyResults) -> bool:
    """Return whether the study has networks and all of them take slices."""
    networks = slice_networks(results)
    return bool(networks) and len(networks) == len(results.config.get("networks") or {})


def is_of_paper(results: StudyResults) -> bool:
    """Return whether results of Schmitz et al. 2024 may stand beside this study's.

    They are of the patients of UPENN-GBM and of networks that take volumes.
    """
    reader = (results.config.get("cohort") or {}).get("reader")
    is_real = results.planted is None
    return is_real and reader == "upenn" and not has_only_slice_networks(results)


def results_time(results: StudyResults) -> datetime | None:
    """Return when the test set was last accessed for results; None if that was not recorded."""
    return _last(openings_by_purpose(results.openings)[0])


def explain_time(results: StudyResults) -> datetime | None:
    """Return when the test set was last accessed for saliency pictures; None if not recorded."""
    return _last(openings_by_purpose(results.openings)[1])


def read_time(record: Mapping[str, Any]) -> datetime | None:
    """Return the time of a record, UTC where it names no zone; None where it has no valid time.

    >>> read_time({"time": "2024-11-21T09:00:00"}).isoformat()
    '2024-11-21T09:00:00+00:00'
    """
    try:
        time = datetime.fromisoformat(str(record.get("time")))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def is_before(first: datetime | None, second: datetime | None) -> bool:
    """Return whether both times are known and the first is the earlier one."""
    return first is not None and second is not None and first < second


def _last(openings: Iterable[Mapping[str, Any]]) -> datetime | None:
    return max(filter(None, map(read_time, openings)), default=None)
