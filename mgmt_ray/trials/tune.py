"""Running trials with Ray Tune and Ray Train, or one after another in this process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import ray
import torch
from ray import train, tune
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.connection import ensure_connected
from mgmt_ray.cluster.progress import ProgressCallback
from mgmt_ray.cluster.resources import (
    MAX_FAILURES,
    group_into_batches,
    max_concurrent_batches,
)
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.outcome import Outcome
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.distributed import World
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.run_trial import run_trial

DRIVER_MEMORY = 2**20
"""Bytes that Tune reserves for a driver, as it requires at least one resource."""


def run_trials(trials: Sequence[Trial], inputs: TrialInputs) -> None:
    """Train unfinished trials; for a trial without a result the reason is written to a file.

    Trials that need others' weights start when those are finished. With Ray, a connection to a
    cluster must exist.
    """
    resources = inputs.resources
    for trial in trials:
        inputs.folder.forget_failure(trial.id)
    for level in sorted({trial.dependency_level for trial in trials}):
        ready = [t for t in trials if t.dependency_level == level and _needs_finished(t, inputs)]
        if resources.backend == "ray" and ready:
            _run_on_ray(ready, inputs)
            continue
        torch.set_num_threads(resources.threads)
        for trial in ready:
            with _record_user_errors(trial, inputs, World()):
                run_trial(trial, inputs, resources.device)


def _needs_finished(trial: Trial, inputs: TrialInputs) -> bool:
    """Return whether the trials whose weights a trial needs are finished; record which are not."""
    missing = [need.id for need in trial.needs if not inputs.folder.is_finished(need.id)]
    if missing:
        message = f"it needs {', '.join(missing)}, not finished. Rerun the study."
        inputs.folder.record_failure(trial.id, Outcome("failed", message))
    return not missing


@contextmanager
def watch_trials(
    trials: Sequence[Trial], folder: StudyFolder, progress: ProgressCallback
) -> Iterator[None]:
    """Report the number of finished trials every second while the block runs."""
    stop = Event()

    def report() -> None:
        progress(sum(folder.is_finished(t.id) for t in trials), len(trials))

    def watch() -> None:
        while not stop.wait(1.0):
            report()

    thread = Thread(target=watch, name="progress", daemon=True)
    report()
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        report()


@contextmanager
def _record_user_errors(trial: Trial, inputs: TrialInputs, world: World) -> Iterator[None]:
    """Write an error that its user can fix to a file, and let the other trials continue."""
    try:
        yield
    except MgmtError as error:
        if world.rank == 0:
            inputs.folder.record_failure(trial.id, Outcome("failed", str(error)))
        if world.size > 1:
            raise  # the other workers may not have failed, and would wait for this one


def _run_on_ray(trials: Sequence[Trial], inputs: TrialInputs) -> None:
    """Run each batch of trials in turn on a Ray Train worker group, inside a Tune trial."""
    ensure_connected()
    resources = inputs.resources
    plan = group_into_batches(trials, resources.trials_per_batch)
    storage = str(inputs.folder.root.absolute() / "ray")
    shutil.rmtree(storage, ignore_errors=True)  # of an earlier session; the trials' folders count

    def drive(config: dict[str, Any]) -> None:
        name = config["batch"]
        _trainer(name, plan[name], inputs, storage).fit()

    # A driver only waits for its workers: a share of a core would be missing for them.
    tuner = tune.Tuner(
        tune.with_resources(drive, {"CPU": 0, "memory": DRIVER_MEMORY}),
        param_space={"batch": tune.grid_search(list(plan))},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=max_concurrent_batches(resources, ray.cluster_resources()),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=storage,
            failure_config=tune.FailureConfig(max_failures=1),  # of the driver alone
            verbose=0,
        ),
    )
    results = tuner.fit()
    for result in results:
        if result.error is not None:
            failed = plan[result.config["batch"]] if result.config else []
            for trial in failed:
                _record_failure(trial, inputs, str(result.error))


def _trainer(name: str, trials: Sequence[Trial], inputs: TrialInputs, storage: str) -> TorchTrainer:
    """Return a Ray Train worker group for one batch of trials."""
    resources = inputs.resources
    return TorchTrainer(
        _run_worker,
        train_loop_config={"trials": list(trials), "inputs": inputs},
        scaling_config=train.ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus > 0,
            resources_per_worker={"CPU": resources.cpus}
            | ({"GPU": resources.gpus} if resources.gpus else {}),
        ),
        torch_config=TorchConfig(backend="nccl" if resources.gpus else "gloo"),
        run_config=train.RunConfig(
            name=name,
            storage_path=storage,
            callbacks=[TuneReportCallback()],
            failure_config=train.FailureConfig(max_failures=MAX_FAILURES),
        ),
    )


def _run_worker(config: dict[str, Any]) -> None:
    """Run a batch of trials as one worker of a Ray Train worker group."""
    inputs: TrialInputs = config["inputs"]
    resources = inputs.resources
    context = train.get_context()
    torch.set_num_threads(resources.threads)
    device = str(train.torch.get_device()) if resources.gpus else "cpu"
    world = World(context.get_world_rank(), context.get_world_size())
    for trial in config["trials"]:
        with _record_user_errors(trial, inputs, world):
            run_trial(trial, inputs, device, world, report=train.report)


def _record_failure(trial: Trial, inputs: TrialInputs, error: str) -> None:
    """Record the last line of Ray's error for a trial whose workers died too often."""
    outcome = inputs.folder.outcome(trial.id)
    if outcome.failed or inputs.folder.is_finished(trial.id):
        return
    last_line = error.strip().splitlines()[-1] if error.strip() else "no message"
    message = f"its workers died ({last_line}). Rerun the study, which continues the trial."
    inputs.folder.record_failure(trial.id, Outcome("lost", message))
