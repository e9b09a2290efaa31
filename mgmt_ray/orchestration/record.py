"""What a trial has so far, what it leaves, and how it continues after an interruption."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from mgmt_ray.base import file_checksum, write_csv, write_json
from mgmt_ray.nets.build import AnyNetwork, SegmentationConfig, SliceClassifierConfig
from mgmt_ray.selection.criterion import EpochChoice, EpochScore, choose_best, choose_epoch
from mgmt_ray.selection.predictions import PREDICTION_COLUMNS
from mgmt_ray.splits.split import Split
from mgmt_ray.study.folder import WEIGHTS, StudyFolder
from mgmt_ray.study.plan import Trial
from mgmt_ray.training.checkpoint import load_state, save_state, save_weights, trained_weights
from mgmt_ray.training.config import AnyTraining, SegmentationTraining
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.loop import Diverged, Epoch, TrainingState

Tables: TypeAlias = dict[str, list[dict[str, Any]]]
"""Rows by file name."""

STATE = ("files", "training", "rows", "choice", "weights")
"""Keys of a saved state; all others are columns of the validation rows."""


@dataclass(slots=True)
class TrialRecord:
    """What a trial has so far; all of it is in its saved state.

    Attributes:
        rows: of ``epochs.csv``.
        choice: the epoch that is kept.
        weights: of that epoch.
        columns: what it said of the validation rows, by name.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    choice: EpochChoice | None = None
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    columns: dict[str, list[float]] = field(default_factory=dict)

    def add(self, trial: Trial, epoch: Epoch, network: AnyNetwork) -> None:
        """Take in an epoch; keep its weights if the selection rule now prefers it."""
        self.rows.append(_epoch_row(epoch))
        self.choice = _choose(trial, self.rows)
        if self.choice.epoch == epoch.number:
            self.weights = trained_weights(network)
            self.columns = epoch.predictions.columns


def resume(state: TrainingState, path: Path, files: dict[str, Any]) -> TrialRecord:
    """Continue a training from its saved state, or begin a record if there is none.

    A state that was trained from other files than the present ones is not continued.
    """
    saved = load_state(path) if path.is_file() else None
    if saved is None or saved["files"] != files:
        return TrialRecord()
    state.load_state_dict(saved["training"])
    choice = EpochChoice(**saved["choice"])
    columns = {name: saved[name] for name in saved if name not in STATE}
    return TrialRecord(saved["rows"], choice, saved["weights"], columns)


def save(state: TrainingState, record: TrialRecord, path: Path, files: dict[str, Any]) -> None:
    """Write all that :func:`resume` needs."""
    assert record.choice is not None
    choice = {name: getattr(record.choice, name) for name in record.choice.__slots__}
    save_state(
        {
            "files": files,
            "training": state.state_dict(),
            "rows": record.rows,
            "choice": choice,
            "weights": record.weights,
            **record.columns,
        },
        path,
    )


def finish(
    trial: Trial,
    folder: StudyFolder,
    split: Split,
    record: TrialRecord,
    tables: Callable[[str], Tables],
    facts: dict[str, Any],
) -> None:
    """Complete the partial folder of a trained trial and rename it into place.

    Args:
        trial: that ended.
        folder: the study's.
        split: of the trial.
        record: what it has.
        tables: its own ones, given the checksum of its weights.
        facts: what else ``trial.json`` says.
    """
    assert record.choice is not None
    partial = folder.partial_trial(trial.id)
    save_weights(record.weights, partial / WEIGHTS)
    checksum = file_checksum(partial / WEIGHTS)
    for name, rows in tables(checksum).items():
        write_rows(partial / name, rows)
    write_rows(partial / "epochs.csv", record.rows)
    choice = record.choice
    outcome = {
        "status": "finished",
        "selection": {
            "rule": choice.rule,
            "epoch": choice.epoch,
            "m": _number(choice.m),
            "sen": _number(choice.sen),
            "spe": _number(choice.spe),
        },
        "weights": checksum,
    }
    _put_in_place(trial, folder, _description(trial, split) | outcome | facts)


def validation_rows(
    trial: Trial, record: TrialRecord, validation: VolumeSet, checksum: str, prior: float
) -> Tables:
    """``validation.csv``: what a trial said of its validation subjects."""
    labels = validation.labels.int().tolist()
    predictions = [
        {
            "subject": subject,
            "split": "validation",
            "outer": trial.outer,
            "fold": trial.fold,
            "network": trial.network,
            "modality": trial.modality,
            "trial": trial.id,
            "probability": record.columns["probability"][row],
            "deviation": record.columns["deviation"][row],
            "label": labels[row],
            "weights": checksum,
            "prior": prior,
        }
        for row, subject in enumerate(validation.subjects)
    ]
    assert tuple(predictions[0]) == PREDICTION_COLUMNS
    return {"validation.csv": predictions}


def finish_diverged(
    trial: Trial,
    folder: StudyFolder,
    split: Split,
    record: TrialRecord,
    diverged: Diverged,
    facts: dict[str, Any],
) -> None:
    """Leave the epochs before a training's loss was no longer a number, and no weights."""
    if record.rows:
        write_rows(folder.partial_trial(trial.id) / "epochs.csv", record.rows)
    outcome = {
        "status": "diverged",
        "message": str(diverged),
        "last_good_epoch": diverged.epoch - 1,  # 0: none
        "weights": None,
    }
    _put_in_place(trial, folder, _description(trial, split) | outcome | facts)


def _put_in_place(trial: Trial, folder: StudyFolder, description: dict[str, Any]) -> None:
    """Write what the trial was and became, and rename its partial folder."""
    partial = folder.partial_trial(trial.id)
    write_json(partial / "trial.json", description)
    (partial / "state.pt").unlink(missing_ok=True)
    try:
        os.rename(partial, folder.trial(trial.id))
    except OSError:
        if not folder.is_finished(trial.id):
            raise
        # Another attempt, cut off from the study but still alive, was first; it has the same bits.
        shutil.rmtree(partial, ignore_errors=True)


def _description(trial: Trial, split: Split) -> dict[str, Any]:
    description = {
        "id": trial.id,
        "name": trial.name,
        "network": trial.network,
        "modality": trial.modality,
        "channels": list(trial.channels),
        "outer": trial.outer,
        "fold": trial.fold,
        "seed": trial.seed,
        "stream": trial.stream,
        "hyperparameters": trial.hyperparameters,
        "network_config": trial.network_config.model_dump(mode="json"),
        "training_config": trial.training_config.model_dump(mode="json"),
        "split_hash": split.hash,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("mgmt-ray", "torch", "numpy")},
        },
    }
    if trial.takes_slices:
        needs = [need.id for need in trial.needs]
        description |= {"stage": trial.stage, "part": trial.part, "needs": needs}
    return description


def prior(training: VolumeSet, config: AnyTraining) -> float:
    """The share of methylated that a training makes its network believe in, in [0, 1].

    Args:
        training: the rows that train: a subject has equally many volumes, unless classes were
            pruned to equal numbers.
        config: weighted classes count as equally many.
    """
    assert not isinstance(config, SegmentationTraining), "it learns nothing of methylation"
    return 0.5 if config.balance == "weight" else training.labels.double().mean().item()


def sizes(network: AnyNetwork, training: VolumeSet) -> dict[str, Any]:
    """Numbers of parameters, subjects and volumes of a training."""
    return {
        "num_parameters": sum(p.numel() for p in network.parameters()),
        "trained_parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "num_train_subjects": len(set(training.subjects)),
        "num_train_volumes": len(training),
    }


def scaling(network: AnyNetwork) -> dict[str, Any]:
    """Mean and deviation by which each covariate is scaled; sex is coded, so 0 and 1."""
    head = getattr(network, "covariate_head", None)
    if head is None:
        return {}
    values = zip(head.covariates, head.mean.tolist(), head.deviation.tolist(), strict=True)
    return {"covariates": {name: {"mean": m, "deviation": d} for name, m, d in values}}


def _choose(trial: Trial, rows: list[dict[str, float]]) -> EpochChoice:
    """The epoch to keep: by criterion M, of slices by validation loss or accuracy."""
    nan = float("nan")
    scores = [
        EpochScore(int(r["epoch"]), r.get("validation_sen", nan), r.get("validation_spe", nan))
        for r in rows
    ]
    match trial.network_config:
        case SegmentationConfig():
            return choose_best(scores, [-row["validation_loss"] for row in rows], "lowest_loss")
        case SliceClassifierConfig():
            return choose_best(
                scores, [row["validation_accuracy"] for row in rows], "best_accuracy"
            )
        case _:
            return choose_epoch(scores)


def _epoch_row(epoch: Epoch) -> dict[str, float]:
    row: dict[str, float] = {"epoch": epoch.number}
    parts = {"train": epoch.train, "validation": epoch.validation}
    scores = {part: asdict(of_part) for part, of_part in parts.items()}
    for name in scores["train"]:
        for part, values in scores.items():
            row[f"{part}_{name}"] = values[name]
    for part, of_part in parts.items():
        if hasattr(of_part, "m"):
            row[f"{part}_m"] = of_part.m
    row["lr_network"] = epoch.learning_rates["network"]
    row["lr_agent"] = epoch.learning_rates.get("agent", float("nan"))
    row["seconds"] = round(epoch.seconds, 4)
    return row


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows with the same keys as a CSV table."""
    write_csv(path, [list(rows[0]), *(list(row.values()) for row in rows)])
