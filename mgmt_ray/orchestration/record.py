"""What a trial has so far, what it leaves, and how it continues after an interruption."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mgmt_ray.base import file_checksum, write_csv, write_json
from mgmt_ray.nets.build import Network
from mgmt_ray.selection.criterion import EpochChoice, EpochScore, choose_epoch
from mgmt_ray.selection.predictions import PREDICTION_COLUMNS
from mgmt_ray.splits.split import Split
from mgmt_ray.study.folder import WEIGHTS, StudyFolder
from mgmt_ray.study.plan import Trial
from mgmt_ray.training.checkpoint import load_state, save_state, save_weights, trained_weights
from mgmt_ray.training.config import TrainingConfig
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.loop import Diverged, Epoch, TrainingState
from mgmt_ray.training.metrics import criterion_m


@dataclass(slots=True)
class TrialRecord:
    """What a trial has so far; all of it is in its saved state."""

    rows: list[dict[str, float]] = field(default_factory=list)
    choice: EpochChoice | None = None
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    probability: list[float] = field(default_factory=list)
    deviation: list[float] = field(default_factory=list)

    def add(self, epoch: Epoch, network: Network) -> None:
        """Take in an epoch; keep its weights if the selection rule now prefers it."""
        self.rows.append(_epoch_row(epoch))
        self.choice = choose_epoch(
            [
                EpochScore(int(r["epoch"]), r["validation_sen"], r["validation_spe"])
                for r in self.rows
            ]
        )
        if self.choice.epoch == epoch.number:
            self.weights = trained_weights(network)
            self.probability = epoch.predictions.probability.tolist()
            self.deviation = epoch.predictions.deviation.tolist()


def resume(state: TrainingState, path: Path, files: dict[str, Any]) -> TrialRecord:
    """Continue a training from its saved state, or begin a record if there is none.

    A state that was trained from other files than the present ones is not continued.
    """
    saved = load_state(path) if path.is_file() else None
    if saved is None or saved["files"] != files:
        return TrialRecord()
    state.load_state_dict(saved["training"])
    choice = EpochChoice(**saved["choice"])
    return TrialRecord(
        saved["rows"], choice, saved["weights"], saved["probability"], saved["deviation"]
    )


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
            "probability": record.probability,
            "deviation": record.deviation,
        },
        path,
    )


def finish(
    trial: Trial,
    folder: StudyFolder,
    split: Split,
    record: TrialRecord,
    validation: VolumeSet,
    facts: dict[str, Any],
) -> None:
    """Complete the partial folder of a trained trial and rename it into place."""
    assert record.choice is not None
    partial = folder.partial_trial(trial.id)
    save_weights(record.weights, partial / WEIGHTS)
    checksum = file_checksum(partial / WEIGHTS)
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
            "probability": record.probability[row],
            "deviation": record.deviation[row],
            "label": labels[row],
            "weights": checksum,
            "prior": facts["prior"],
        }
        for row, subject in enumerate(validation.subjects)
    ]
    assert tuple(predictions[0]) == PREDICTION_COLUMNS
    write_rows(partial / "validation.csv", predictions)
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
    return {
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


def prior(training: VolumeSet, config: TrainingConfig) -> float:
    """The share of methylated that a training makes its network believe in, in [0, 1].

    Args:
        training: the volumes that train: a subject has equally many, unless classes were pruned
            to equal numbers.
        config: weighted classes count as equally many.
    """
    return 0.5 if config.balance == "weight" else training.labels.double().mean().item()


def sizes(network: Network, training: VolumeSet) -> dict[str, Any]:
    """Numbers of parameters, subjects and volumes of a training."""
    return {
        "num_parameters": sum(p.numel() for p in network.parameters()),
        "trained_parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "num_train_subjects": len(set(training.subjects)),
        "num_train_volumes": len(training),
    }


def scaling(network: Network) -> dict[str, Any]:
    """Mean and deviation by which each covariate is scaled; sex is coded, so 0 and 1."""
    head = network.covariate_head
    if head is None:
        return {}
    values = zip(head.covariates, head.mean.tolist(), head.deviation.tolist(), strict=True)
    return {"covariates": {name: {"mean": m, "deviation": d} for name, m, d in values}}


def _epoch_row(epoch: Epoch) -> dict[str, float]:
    row: dict[str, float] = {"epoch": epoch.number}
    for name in ("loss", "auc", "ap", "sen", "spe"):
        row[f"train_{name}"] = getattr(epoch.train, name)
        row[f"validation_{name}"] = getattr(epoch.validation, name)
    for part, scores in (("train", epoch.train), ("validation", epoch.validation)):
        row[f"{part}_m"] = criterion_m(scores.sen, scores.spe)
    row["lr_network"] = epoch.learning_rates["network"]
    row["lr_agent"] = epoch.learning_rates.get("agent", float("nan"))
    row["seconds"] = round(epoch.seconds, 4)
    return row


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows with the same keys as a CSV table."""
    write_csv(path, [list(rows[0]), *(list(row.values()) for row in rows)])
