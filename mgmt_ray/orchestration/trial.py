"""One trial from its volumes to its finished folder; needs no cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from mgmt_ray.base import MgmtError, file_checksum, stream_seed
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.nets.build import build
from mgmt_ray.orchestration.record import finish, resume, save, sizes, write_rows
from mgmt_ray.preprocess.store import VolumeStore
from mgmt_ray.splits.split import Split, label_by_training, refuse_torn_persons
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.plan import Trial
from mgmt_ray.training.dataset import VolumeSet, volume_set
from mgmt_ray.training.distributed import World
from mgmt_ray.training.loop import TrainingState, fit, prepare_training_rows

STATE_SECONDS = 60.0
"""How often a training's state is saved, so that a killed worker loses no more than this."""


@dataclass(frozen=True, slots=True)
class TrialInputs:
    """What every trial of a study reads besides its own description.

    Attributes:
        folder: the study's.
        cohort: its subjects.
        splits: all of them; a trial uses its own.
        checkpoint: MedicalNet's weights.
        state_seconds: least time between two saved states.
    """

    folder: StudyFolder
    cohort: Cohort
    splits: tuple[Split, ...]
    checkpoint: Path | None
    state_seconds: float = STATE_SECONDS


def load_volumes(
    folder: Path,
    channels: tuple[str, ...],
    label: Mapping[str, int],
    ids: tuple[str, ...],
    device: str,
    *,
    augmented: bool = False,
) -> VolumeSet:
    """Volumes of some subjects on a device: the originals, or with all augmentations.

    Args:
        folder: of the volume store.
        channels: modalities.
        label: by subject.
        ids: whom to load.
        device: as torch names it.
        augmented: whether to load all versions.
    """
    stores = [VolumeStore(folder, channel) for channel in channels]
    versions = stores[0].versions if augmented else stores[0].versions[:1]
    arrays = [store.load(ids, versions) for store in stores]
    return volume_set(arrays, [label[s] for s in ids], ids, device)


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
    record = resume(state, partial / "state.pt", files)
    saved = time.monotonic()
    for epoch in fit(state, training, validation, trial.training_config, trial.stream, world):
        record.add(epoch, network)
        if world.rank == 0:
            write_rows(partial / "epochs.csv", record.rows)
            if time.monotonic() - saved >= inputs.state_seconds:
                save(state, record, partial / "state.pt", files)
                saved = time.monotonic()
        if report:
            report(record.rows[-1])
    if world.rank == 0:
        seconds = round(time.perf_counter() - started, 3)
        facts = files | sizes(network, training) | {"seconds": seconds}
        finish(trial, inputs.folder, inputs.splits[trial.outer], record, validation, facts)


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
    split = inputs.splits[trial.outer]
    refuse_torn_persons(split, inputs.cohort)
    available = {s.id for s in inputs.cohort.subjects if s.has_all(trial.channels)}
    train, validation = split.fold(trial.fold, available)
    leaked = sorted(set(split.test) & {*train, *validation})
    if leaked:
        raise MgmtError(
            f"trial {trial.id}: test subjects {', '.join(leaked)} would train or validate. "
            "Delete splits.json and the trials made with it, then run again."
        )
    label = label_by_training(split, inputs.cohort)
    store = inputs.folder.volumes
    training = load_volumes(store, trial.channels, label, train, device, augmented=True)
    balanced = prepare_training_rows(training, trial.training_config, trial.stream)
    return balanced, load_volumes(store, trial.channels, label, validation, device)
