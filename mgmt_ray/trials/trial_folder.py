"""Writing a trial's finished folder: its description, tables and weights."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from mgmt_ray.base import file_checksum, write_csv
from mgmt_ray.nets.network import Network
from mgmt_ray.splits.split import Split
from mgmt_ray.study.folder import PAUSE_FILE, WEIGHTS, StudyFolder, write_trial_file
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.checkpoint import save_weights
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.loop import Diverged
from mgmt_ray.trials.resume import TrainingHistory

Tables: TypeAlias = dict[str, list[dict[str, Any]]]
"""Rows of CSV files, by file name."""


def finish_trial(
    trial: Trial,
    folder: StudyFolder,
    split: Split,
    history: TrainingHistory,
    result: Callable[[str], Tables] | Diverged,
    metadata: dict[str, Any],
) -> None:
    """Complete the partial folder of a trial and rename it into place.

    Args:
        result: returns the trial's tables, given the checksum of its weights; or why it diverged:
            then only the epochs before are written.
        metadata: further entries of ``trial.json``.
    """
    partial = folder.partial_trial(trial.id)
    if isinstance(result, Diverged):
        outcome = {
            "status": "diverged",
            "message": str(result),
            "last_good_epoch": result.epoch - 1,  # 0: none
            "weights_sha256": None,
        }
    else:
        assert history.choice is not None
        save_weights(history.weights, partial / WEIGHTS)
        checksum = file_checksum(partial / WEIGHTS)
        for name, rows in result(checksum).items():
            write_rows(partial / name, rows)
        selection = asdict(history.choice)
        outcome = {
            "status": "finished",
            "selection": {k: None if v != v else v for k, v in selection.items()},  # NaN
            "weights_sha256": checksum,
        }
    if history.rows:
        write_rows(partial / "epochs.csv", history.rows)
    _commit_trial(trial, folder, _description(trial, split) | outcome | metadata)


def table_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows, for :data:`Tables`."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _commit_trial(trial: Trial, folder: StudyFolder, description: dict[str, Any]) -> None:
    """Write ``trial.json`` and rename the partial folder."""
    partial = folder.partial_trial(trial.id)
    write_trial_file(partial, description)
    for name in ("state.pt", PAUSE_FILE):
        (partial / name).unlink(missing_ok=True)
    try:
        os.rename(partial, folder.trial(trial.id))
    except OSError:
        if not folder.is_finished(trial.id):
            raise
        # Another worker, which lost its connection but kept running, finished first: same bits.
        shutil.rmtree(partial, ignore_errors=True)


def _description(trial: Trial, split: Split) -> dict[str, Any]:
    return {
        "id": trial.id,
        "name": trial.name,
        "network": trial.network,
        "modality": trial.modality,
        "channels": list(trial.channels),
        "outer_fold": trial.outer_fold,
        "fold": trial.fold,
        "repeat": trial.repeat,
        "seed": trial.seed,
        "hyperparameters": trial.hyperparameters,
        "network_config": trial.network_config.model_dump(mode="json"),
        "training_config": trial.training_config.model_dump(mode="json"),
        "split_hash": split.hash,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("mgmt-ray", "torch", "numpy")},
        },
    }


def training_sizes(network: Network, training: VolumeSet) -> dict[str, Any]:
    """Return numbers of parameters, subjects and volumes of a training."""
    return {
        "num_parameters": sum(p.numel() for p in network.parameters()),
        "trained_parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "num_train_subjects": len(set(training.subjects)),
        "num_train_volumes": len(training),
    }


def covariate_scaling(network: Network) -> dict[str, Any]:
    """Return mean and standard deviation by which each covariate is scaled; 0 and 1 for sex."""
    if not network.covariate_heads:
        return {}
    head = network.covariate_heads[0]  # all have the same scaling
    values = zip(head.covariates, head.mean.tolist(), head.std.tolist(), strict=True)
    return {"covariates": {name: {"mean": m, "std": d} for name, m, d in values}}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows, which have the same keys, as a CSV table."""
    write_csv(path, [list(rows[0]), *(list(row.values()) for row in rows)])
