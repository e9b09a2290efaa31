"""One trial from its volumes to its finished folder; needs no cluster."""

from __future__ import annotations

import csv
import io
import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mgmt_ray.base import MgmtError, file_checksum, stream_seed, write_json, write_text
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.nets.build import Network, build
from mgmt_ray.preprocess.store import VolumeStore
from mgmt_ray.selection.criterion import EpochChoice, EpochScore, choose_epoch, criterion_m
from mgmt_ray.selection.predictions import PREDICTION_COLUMNS
from mgmt_ray.splits import Split
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.plan import Trial
from mgmt_ray.training.checkpoint import load_state, save_state, save_weights, trained_weights
from mgmt_ray.training.dataset import VolumeSet, volume_set
from mgmt_ray.training.distributed import World
from mgmt_ray.training.loop import Epoch, TrainingState, fit, prepare_training_rows

STATE_SECONDS = 60.0
"""How often a training's state is saved, so that a killed worker loses no more than this."""


@dataclass(frozen=True, slots=True)
class TrialInputs:
    """What every trial of a study reads besides its own description."""

    folder: StudyFolder
    cohort: Cohort
    split: Split
    checkpoint: Path | None
    state_seconds: float = STATE_SECONDS

    def volumes(
        self, channels: tuple[str, ...], ids: tuple[str, ...], device: str, *, augmented: bool
    ) -> VolumeSet:
        """Volumes of some subjects on a device: the originals, or with all augmentations."""
        stores = [VolumeStore(self.folder.volumes, channel) for channel in channels]
        versions = stores[0].versions if augmented else stores[0].versions[:1]
        labels = {s.id: s.label for s in self.cohort.subjects}
        arrays = [store.load(ids, versions) for store in stores]
        return volume_set(arrays, [labels[s] for s in ids], ids, device)


@dataclass(slots=True)
class _Record:
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


def run_trial(
    trial: Trial,
    inputs: TrialInputs,
    device: str,
    world: World | None = None,
    report: Callable[[dict[str, float]], None] | None = None,
) -> None:
    """Train one trial and leave its folder; continue it if an earlier attempt left a state.

    Nothing happens if the folder is already there. The test set is not touched: only the trial's
    training and validation subjects are read.

    Args:
        trial: what to train.
        inputs: of the study.
        device: as torch names it.
        world: the workers that share the trial; only rank 0 writes.
        report: is given each epoch's row.

    Raises:
        MgmtError: files of another study, a diverged training, a full disk.
    """
    world = world or World()
    checkpoint = inputs.checkpoint if trial.network_config.pretrained else None
    files = trial_files(trial, inputs)
    if inputs.folder.is_finished(trial.id):
        return
    started = time.perf_counter()
    training, validation = _load(trial, inputs, device)
    torch.manual_seed(stream_seed(trial.stream, "initial weights"))
    network = build(
        trial.network_config, len(trial.channels), trial.training_config.temperature, checkpoint
    ).to(device)
    state = TrainingState(network, trial.training_config)
    partial = inputs.folder.partial_trial(trial.id)
    record = _resume(state, partial / "state.pt")
    saved = time.monotonic()
    for epoch in fit(state, training, validation, trial.training_config, trial.stream, world):
        record.add(epoch, network)
        if world.rank == 0:
            write_text(partial / "epochs.csv", _csv(record.rows))
            if time.monotonic() - saved >= inputs.state_seconds:
                _save(state, record, partial / "state.pt")
                saved = time.monotonic()
        if report:
            report(record.rows[-1])
    if world.rank == 0:
        sizes = _sizes(network, training)
        _finish(trial, inputs, record, validation, files | sizes, time.perf_counter() - started)


def trial_files(trial: Trial, inputs: TrialInputs) -> dict[str, Any]:
    """Checksums of the files that a trial is trained from.

    Raises:
        MgmtError: the trial is finished, but was trained from other files.
    """
    stores = {c: VolumeStore(inputs.folder.volumes, c).checksum for c in trial.channels}
    pretrained = trial.network_config.pretrained and inputs.checkpoint is not None
    checkpoint = _checkpoint_checksum(inputs.checkpoint) if pretrained else None
    files = {"volumes_checksum": stores, "checkpoint_checksum": checkpoint}
    if inputs.folder.is_finished(trial.id):
        trained = inputs.folder.read_trial(trial.id)
        changed = [name for name, value in files.items() if trained[name] != value]
        if changed:
            raise MgmtError(
                f"{inputs.folder.trial(trial.id)}: was trained from other files "
                f"({', '.join(changed)} differ). Choose another folder with --out, or delete this "
                "trial's folder to train it anew."
            )
    return files


@cache
def _checkpoint_checksum(path: Path) -> str | None:
    """Of a file that does not change while a study runs; None where there is none."""
    return file_checksum(path) if path.is_file() else None


def _load(trial: Trial, inputs: TrialInputs, device: str) -> tuple[VolumeSet, VolumeSet]:
    """The trial's training volumes, balanced, and its validation volumes."""
    available = {s.id for s in inputs.cohort.subjects if set(trial.channels) <= set(s.scans)}
    train, validation = inputs.split.fold(trial.fold, available)
    assert not set(inputs.split.test) & {*train, *validation}
    training = inputs.volumes(trial.channels, train, device, augmented=True)
    balanced = prepare_training_rows(training, trial.training_config, trial.stream)
    return balanced, inputs.volumes(trial.channels, validation, device, augmented=False)


def _resume(state: TrainingState, path: Path) -> _Record:
    if not path.is_file():
        return _Record()
    saved = load_state(path)
    state.load_state_dict(saved["training"])
    choice = EpochChoice(**saved["choice"])
    return _Record(
        saved["rows"], choice, saved["weights"], saved["probability"], saved["deviation"]
    )


def _save(state: TrainingState, record: _Record, path: Path) -> None:
    assert record.choice is not None
    choice = {name: getattr(record.choice, name) for name in record.choice.__slots__}
    save_state(
        {
            "training": state.state_dict(),
            "rows": record.rows,
            "choice": choice,
            "weights": record.weights,
            "probability": record.probability,
            "deviation": record.deviation,
        },
        path,
    )


def _finish(
    trial: Trial,
    inputs: TrialInputs,
    record: _Record,
    validation: VolumeSet,
    facts: dict[str, Any],
    seconds: float,
) -> None:
    """Complete the partial folder and rename it into place."""
    assert record.choice is not None
    partial = inputs.folder.partial_trial(trial.id)
    save_weights(record.weights, partial / "weights.safetensors")
    checksum = file_checksum(partial / "weights.safetensors")
    labels = validation.labels.int().tolist()
    predictions = [
        {
            "subject": subject,
            "split": "validation",
            "fold": trial.fold,
            "network": trial.network,
            "modality": trial.modality,
            "trial": trial.id,
            "probability": record.probability[row],
            "deviation": record.deviation[row],
            "label": labels[row],
            "weights": checksum,
        }
        for row, subject in enumerate(validation.subjects)
    ]
    assert tuple(predictions[0]) == PREDICTION_COLUMNS
    write_text(partial / "validation.csv", _csv(predictions))
    write_text(partial / "epochs.csv", _csv(record.rows))
    description = {
        **_description(trial, inputs.split, record.choice),
        **facts,
        "weights": checksum,
        "seconds": round(seconds, 3),
    }
    write_json(partial / "trial.json", description)
    (partial / "state.pt").unlink(missing_ok=True)
    try:
        os.rename(partial, inputs.folder.trial(trial.id))
    except OSError:
        if not inputs.folder.is_finished(trial.id):
            raise
        # Another attempt, cut off from the study but still alive, was first; it has the same bits.
        shutil.rmtree(partial, ignore_errors=True)


def _description(trial: Trial, split: Split, choice: EpochChoice) -> dict[str, Any]:
    return {
        "id": trial.id,
        "name": trial.name,
        "network": trial.network,
        "modality": trial.modality,
        "channels": list(trial.channels),
        "fold": trial.fold,
        "seed": trial.seed,
        "stream": trial.stream,
        "hyperparameters": trial.hyperparameters,
        "network_config": trial.network_config.model_dump(mode="json"),
        "training_config": trial.training_config.model_dump(mode="json"),
        "split_hash": split.hash,
        "selection": {
            "rule": choice.rule,
            "epoch": choice.epoch,
            "m": _number(choice.m),
            "sen": _number(choice.sen),
            "spe": _number(choice.spe),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("mgmt-ray", "torch", "numpy")},
        },
    }


def _sizes(network: Network, training: VolumeSet) -> dict[str, Any]:
    return {
        "num_parameters": sum(p.numel() for p in network.parameters()),
        "trained_parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "num_train_subjects": len(set(training.subjects)),
        "num_train_volumes": len(training),
    }


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


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
