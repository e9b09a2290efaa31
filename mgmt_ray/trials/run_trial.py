"""Running one trial, from its inputs to its finished folder, in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from mgmt_ray.base import MgmtError, file_checksum, fingerprint, stream_seed
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.covariates import Covariate, read_covariates
from mgmt_ray.nets.build import build_network
from mgmt_ray.nets.network import Network
from mgmt_ray.study.folder import StudyFolder, check_trial_tables
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.checkpoint import StateWriter, load_weights
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.distributed import World
from mgmt_ray.training.gpu_memory import gpu_use, restart_peak_memory
from mgmt_ray.training.loop import Diverged, Epoch, TrainingState, fit
from mgmt_ray.training.out_of_memory import raise_oom_with_hint
from mgmt_ray.training.precision import resolve_auto
from mgmt_ray.training.training_config import DEVICE_KEYS, auto_keys
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.memory_estimate import oom_hint
from mgmt_ray.trials.pipelines import pipeline_of
from mgmt_ray.trials.resume import TrainingHistory, resume_training, save_training
from mgmt_ray.trials.trial_data import TrialSets, fold_subjects
from mgmt_ray.trials.trial_folder import (
    Tables,
    covariate_scaling,
    finish_trial,
    training_sizes,
    write_rows,
)
from mgmt_ray.trials.warm_start import (
    InitialWeights,
    check_initial_weights,
    find_initial_weights,
    subjects_seen,
)


def run_trial(
    trial: Trial,
    inputs: TrialInputs,
    device: str,
    world: World | None = None,
    report: Callable[[dict[str, float]], None] | None = None,
) -> None:
    """Train a trial and write its folder; continue from a saved state if there is one.

    Does nothing if the folder exists. The test set is not touched: only the trial's training and
    validation subjects are read. A training that diverges gets a folder too, with the status
    "diverged", the epochs before and no weights. Where the inputs say so it pauses at an epoch, and
    finishes trials of fewer epochs on its way.

    Args:
        device: in torch's notation, for instance "cpu" or "cuda:0".
        world: the workers that share the trial, of which rank 0 writes; None for one worker.
        report: called with each epoch's row of ``epochs.csv``.

    Raises:
        MgmtError: inputs changed since the trial was finished, a full disk, too little memory.
    """
    files = input_checksums(trial, inputs)
    if inputs.folder.is_finished(trial.id):
        return
    world, started = world or World(), time.perf_counter()
    split, saved = inputs.splits[trial.outer_fold], state_file(trial, inputs)
    initial, history = find_initial_weights(trial), TrainingHistory()
    metadata: dict[str, Any] = {}
    pause, shorter = inputs.pause_at.get(trial.id), inputs.shorter.get(trial.id, ())
    result: Callable[[str], Tables] | Diverged
    restart_peak_memory(device)
    settings = resolve_auto(trial.training_config, torch.device(device), world.size)
    # what auto became is part of what a saved state continues
    auto = {n: getattr(settings, n) for n in auto_keys(trial.training_config)}
    trial = replace(trial, training_config=settings)

    def finish(done: Trial, result: Callable[[str], Tables] | Diverged) -> None:
        persons = {"persons": subjects_seen(trial, split, inputs.cohort, initial)}
        seconds = {"seconds": round(time.perf_counter() - started, 3)}
        start = {"started_from": str(initial.folder)} if initial else {}
        more = metadata | files | persons | seconds | start | gpu_use(device)
        more |= pipeline_of(trial).describe(trial)
        done = replace(done, training_config=done.training_config.model_copy(update=auto))
        finish_trial(done, inputs.folder, split, history, result, more)

    with raise_oom_with_hint(*oom_hint(trial, inputs.folder.volumes, device, "trains")):
        try:
            sets = pipeline_of(trial).load_sets(trial, inputs, fold_subjects(trial, inputs), device)
            network = _initial_network(trial, inputs, initial, sets.training).to(device)
            metadata = (
                training_sizes(network, sets.training) | covariate_scaling(network) | sets.metadata
            )
            state = TrainingState(network, trial.training_config)
            history = resume_training(state, saved, files | auto)
            with StateWriter() as writer:
                save = partial(_save_progress, state, history, saved, files | auto, inputs, writer)
                for epoch in _epochs(trial, inputs, state, sets, world):
                    history.add(trial, epoch, network, sets.validation.labels)
                    if world.rank == 0:
                        for other in _ending(shorter, epoch.number, epoch.number, inputs.folder):
                            finish(other, partial(_tables_of, other, sets.tables, history, network))
                        save(must=epoch.number == pause)
                    if report:
                        report(history.rows[-1])
            if pause is not None and state.epoch >= pause:
                if world.rank == 0:
                    inputs.folder.record_pause(trial.id, state.epoch)
                return
            result = partial(sets.tables, history, network)
        except Diverged as error:
            result = error
        if world.rank == 0:
            if isinstance(result, Diverged):
                for other in _ending(shorter, result.epoch, None, inputs.folder):
                    finish(other, result)
            finish(trial, result)


def _epochs(
    trial: Trial, inputs: TrialInputs, state: TrainingState, sets: TrialSets, world: World
) -> Iterator[Epoch]:
    """Train to the end, or up to the epoch at which the trial pauses."""
    pause = inputs.pause_at.get(trial.id, math.inf)
    if state.epoch >= pause:
        return
    data = (sets.training, sets.validation)
    for epoch in fit(state, *data, trial.training_config, trial.seed, world):
        yield epoch
        if epoch.number >= pause:
            return


def _ending(
    trials: tuple[Trial, ...], first: int, last: int | None, folder: StudyFolder
) -> list[Trial]:
    """Return the unfinished trials whose last epoch is between two, the last one included."""
    return [
        trial
        for trial in trials
        if first <= trial.training_config.epochs <= (last or trial.training_config.epochs)
        and not folder.is_finished(trial.id)
    ]


def _tables_of(
    trial: Trial,
    tables: Callable[[TrainingHistory, Network, str], Tables],
    history: TrainingHistory,
    network: Network,
    checksum: str,
) -> Tables:
    """Return the tables of a trial that another one, of more epochs, trained."""
    return {
        name: [row | {"trial": trial.id} if "trial" in row else row for row in rows]
        for name, rows in tables(history, network, checksum).items()
    }


def _save_progress(
    state: TrainingState,
    history: TrainingHistory,
    file: Path,
    files: dict[str, Any],
    inputs: TrialInputs,
    writer: StateWriter,
    must: bool = False,
) -> None:
    """Write the epochs so far, and the large state if it is time for it, or if it must be."""
    write_rows(file.parent / "epochs.csv", history.rows)
    if must or time.monotonic() - history.saved_at >= inputs.state_seconds:
        save_training(state, history, file, files, writer)
        history.saved_at = time.monotonic()


def state_file(trial: Trial, inputs: TrialInputs) -> Path:
    """Return the file of the state that an interrupted training continues from."""
    return inputs.folder.partial_trial(trial.id) / "state.pt"


def input_checksums(trial: Trial, inputs: TrialInputs) -> dict[str, Any]:
    """Return checksums of the files that a trial is trained from.

    Raises:
        MgmtError: the trial is finished, but was trained from other files, or its own were changed;
            or starting it from the weights in its ``start_from`` would leak test or validation
            subjects.
    """
    files: dict[str, Any] = {
        **pipeline_of(trial).input_checksums(trial, inputs.folder),
        "checkpoint_checksum": _checkpoint_checksum(trial, inputs),
    }
    if trial.network_config.covariates:
        names = trial.network_config.covariates
        files["covariates_checksum"] = covariates_checksum(inputs.cohort, names)
    initial = checked_initial_weights(trial, inputs)
    if initial:
        files["start_checksum"] = file_checksum(initial.weights)
    if inputs.folder.is_finished(trial.id):
        metadata = inputs.folder.read_trial(trial.id)
        check_trial_tables(inputs.folder.trial(trial.id), metadata)
        _check_device_settings(trial, inputs, metadata)
        # a deleted segmentation may be retrained to the same bits: it is compared afterwards
        deleted = {need.id for need in trial.needs if not inputs.folder.is_finished(need.id)}
        kept = {n: c for n, c in metadata.get("segmentations", {}).items() if n not in deleted}
        recorded = metadata | {"segmentations": kept}
        changed = [name for name, value in files.items() if recorded.get(name) != value]
        if changed:
            raise MgmtError(
                f"{inputs.folder.trial(trial.id)}: was trained from other files "
                f"({', '.join(changed)} differ). Choose another folder with --out, or delete this "
                "trial's folder to train it again."
            )
    return files


def _check_device_settings(trial: Trial, inputs: TrialInputs, metadata: dict[str, Any]) -> None:
    """Raise MgmtError if ``auto`` became something else than the study now asks for."""
    recorded, asked = metadata["training_config"], trial.training_config.model_dump(mode="json")
    for name in asked.keys() & {*DEVICE_KEYS}:
        if asked[name] not in ("auto", recorded[name]):
            raise MgmtError(
                f"{inputs.folder.trial(trial.id)}: was trained with {name}: {recorded[name]}, "
                f"and the study asks for {asked[name]}. Ask for auto, which keeps it, choose "
                "another folder with --out, or delete this trial's folder to train it again."
            )


@lru_cache(maxsize=8)
def covariates_checksum(cohort: Cohort, names: tuple[Covariate, ...]) -> str:
    """Return the checksum of all subjects' values, made once for all trials of a study."""
    covariates = read_covariates(cohort.subjects, names)
    return fingerprint({s: [repr(value) for value in values] for s, values in covariates.items()})


def checked_initial_weights(trial: Trial, inputs: TrialInputs) -> InitialWeights | None:
    """Return the weights that a trial starts from; raise MgmtError if they leak a subject."""
    initial = find_initial_weights(trial)
    if initial:
        split, checkpoint = inputs.splits[trial.outer_fold], _checkpoint_checksum(trial, inputs)
        check_initial_weights(trial, initial, split, inputs.cohort, checkpoint)
    return initial


def _checkpoint_checksum(trial: Trial, inputs: TrialInputs) -> str | None:
    """Return the checksum of MedicalNet's weights, or None if the trial does not use them."""
    if not trial.network_config.pretrained or inputs.checkpoint is None:
        return None
    return _checksum_once(inputs.checkpoint)


@cache
def _checksum_once(path: Path) -> str | None:
    """Return the checksum of a file that does not change while a study runs; None if missing."""
    return file_checksum(path) if path.is_file() else None


def _initial_network(
    trial: Trial, inputs: TrialInputs, initial: InitialWeights | None, training: VolumeSet
) -> Network:
    """Build the network with its initial weights, and scale age by its training subjects."""
    config = trial.network_config
    torch.manual_seed(stream_seed(trial.seed, "initial weights"))
    checkpoint = inputs.checkpoint if config.pretrained else None
    network = build_network(config, len(trial.channels), trial.temperature, checkpoint)
    if initial:
        load_weights(network, initial.weights, partial=True)
    rows = {subject: row for row, subject in enumerate(training.subjects)}  # one per subject
    for head in network.covariate_heads:
        assert training.covariates is not None
        head.fit_scaling(training.covariates[[*rows.values()]].cpu())
    return network
