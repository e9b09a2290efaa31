"""One trial from its volumes to its finished folder; needs no cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from mgmt_ray.base import MgmtError, file_checksum, fingerprint, stream_seed
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.covariates import Covariate, read_covariates
from mgmt_ray.nets.build import Network, build
from mgmt_ray.orchestration.memory import memory_words
from mgmt_ray.orchestration.record import (
    finish,
    finish_diverged,
    prior,
    resume,
    save,
    scaling,
    sizes,
    write_rows,
)
from mgmt_ray.orchestration.warm_start import Start, find_start, persons_seen, refuse_unfit_start
from mgmt_ray.preprocess.store import VolumeStore
from mgmt_ray.splits.split import Split, label_by_training, refuse_torn_persons
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.plan import Trial
from mgmt_ray.training.checkpoint import load_weights
from mgmt_ray.training.dataset import VolumeSet, volume_set
from mgmt_ray.training.distributed import World
from mgmt_ray.training.loop import Diverged, TrainingState, fit, prepare_training_rows
from mgmt_ray.training.memory import memory_shortage_told

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
    covariates: Mapping[str, Sequence[float]] | None = None,
) -> VolumeSet:
    """Volumes of some subjects on a device: the originals, or with all augmentations.

    Args:
        folder: of the volume store.
        channels: modalities.
        label: by subject.
        ids: whom to load.
        device: as torch names it.
        augmented: whether to load all versions.
        covariates: by subject, for a network that takes any.
    """
    stores = [VolumeStore(folder, channel) for channel in channels]
    versions = stores[0].versions if augmented else stores[0].versions[:1]
    arrays = [store.load(ids, versions) for store in stores]
    known = None if covariates is None else [covariates[s] for s in ids]
    return volume_set(arrays, [label[s] for s in ids], ids, device, known)


def run_trial(
    trial: Trial,
    inputs: TrialInputs,
    device: str,
    world: World | None = None,
    report: Callable[[dict[str, float]], None] | None = None,
) -> None:
    """Train one trial and leave its folder; continue it if an earlier attempt left a state.

    Nothing happens if the folder is already there. The test set is not touched: only the trial's
    training and validation subjects are read. A training that diverges leaves its folder too: it
    says so, and has the epochs before that and no weights.

    Args:
        trial: what to train.
        inputs: of the study.
        device: as torch names it.
        world: the workers that share the trial; only rank 0 writes.
        report: is given each epoch's row.

    Raises:
        MgmtError: files of another study, a full disk, too little memory.
    """
    files = trial_files(trial, inputs)
    if inputs.folder.is_finished(trial.id):
        return
    shape = VolumeStore(inputs.folder.volumes, trial.channels[0]).volume_shape
    with memory_shortage_told(*memory_words(trial, shape, device, "trains")):
        _run(trial, inputs, files, device, world or World(), report)


def _run(
    trial: Trial,
    inputs: TrialInputs,
    files: dict[str, Any],
    device: str,
    world: World,
    report: Callable[[dict[str, float]], None] | None,
) -> None:
    started = time.perf_counter()
    training, validation = _load(trial, inputs, device)
    start = find_start(trial)
    network = _initial_network(trial, inputs, start, training).to(device)
    state = TrainingState(network, trial.training_config)
    folder = inputs.folder.partial_trial(trial.id)
    record = resume(state, folder / "state.pt", files)
    saved = time.monotonic()
    diverged: Diverged | None = None
    try:
        for epoch in fit(state, training, validation, trial.training_config, trial.stream, world):
            record.add(epoch, network)
            if world.rank == 0:
                write_rows(folder / "epochs.csv", record.rows)
                if time.monotonic() - saved >= inputs.state_seconds:
                    save(state, record, folder / "state.pt", files)
                    saved = time.monotonic()
            if report:
                report(record.rows[-1])
    except Diverged as error:
        diverged = error
    if world.rank == 0:
        seconds = round(time.perf_counter() - started, 3)
        split = inputs.splits[trial.outer]
        persons = {"persons": persons_seen(trial, split, inputs.cohort, start)}
        facts = files | sizes(network, training) | scaling(network) | persons
        facts |= {"seconds": seconds, "prior": prior(training, trial.training_config)}
        facts |= {"started_from": str(start.folder)} if start else {}
        if diverged:
            finish_diverged(trial, inputs.folder, split, record, diverged, facts)
        else:
            finish(trial, inputs.folder, split, record, validation, facts)


def trial_files(trial: Trial, inputs: TrialInputs) -> dict[str, Any]:
    """Checksums of the files that a trial is trained from.

    Raises:
        MgmtError: the trial is finished, but was trained from other files; or it would start from
            a trial that it must not start from.
    """
    stores = {c: VolumeStore(inputs.folder.volumes, c).checksum for c in trial.channels}
    checkpoint = checkpoint_checksum(trial, inputs)
    files: dict[str, Any] = {"volumes_checksum": stores, "checkpoint_checksum": checkpoint}
    if trial.network_config.covariates:
        names = trial.network_config.covariates
        files["covariates_checksum"] = covariates_checksum(inputs.cohort, names)
    start = find_start(trial)
    if start:
        refuse_unfit_start(trial, start, inputs.splits[trial.outer], inputs.cohort, checkpoint)
        files["start_checksum"] = file_checksum(start.weights)
    if inputs.folder.is_finished(trial.id):
        trained = inputs.folder.read_trial(trial.id)
        changed = [name for name, value in files.items() if trained.get(name) != value]
        if changed:
            raise MgmtError(
                f"{inputs.folder.trial(trial.id)}: was trained from other files "
                f"({', '.join(changed)} differ). Choose another folder with --out, or delete this "
                "trial's folder to train it anew."
            )
    return files


def covariates_checksum(cohort: Cohort, names: Sequence[Covariate]) -> str:
    """Of everybody's values."""
    known = read_covariates(cohort.subjects, names)
    return fingerprint({s: [repr(value) for value in values] for s, values in known.items()})


def checkpoint_checksum(trial: Trial, inputs: TrialInputs) -> str | None:
    """Of the pretrained weights that a trial begins with, if it begins with any."""
    if not trial.network_config.pretrained or inputs.checkpoint is None:
        return None
    return _checksum_once(inputs.checkpoint)


@cache
def _checksum_once(path: Path) -> str | None:
    """Of a file that does not change while a study runs; None where there is none."""
    return file_checksum(path) if path.is_file() else None


def _initial_network(
    trial: Trial, inputs: TrialInputs, start: Start | None, training: VolumeSet
) -> Network:
    """The network before its first epoch, with the scaling of its training subjects' age."""
    config = trial.network_config
    torch.manual_seed(stream_seed(trial.stream, "initial weights"))
    checkpoint = inputs.checkpoint if config.pretrained else None
    network = build(config, len(trial.channels), trial.training_config.temperature, checkpoint)
    if start:
        load_weights(network, start.weights, partial=True)
    if network.covariate_head is not None:
        assert training.covariates is not None
        row = {subject: row for row, subject in enumerate(training.subjects)}
        network.covariate_head.fit_scaling(training.covariates[[*row.values()]].cpu())
    return network


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
    names = trial.network_config.covariates
    known = read_covariates(inputs.cohort.subjects, names) if names else None
    load = partial(
        load_volumes, inputs.folder.volumes, trial.channels, label, device=device, covariates=known
    )
    training = load(ids=train, augmented=True)
    balanced = prepare_training_rows(training, trial.training_config, trial.stream)
    return balanced, load(ids=validation)
