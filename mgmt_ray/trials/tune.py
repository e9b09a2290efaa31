"""Running trials with Ray Tune and Ray Train, or one after another in this process."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray import train, tune
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.connection import ensure_connected
from mgmt_ray.cluster.progress import ProgressCallback
from mgmt_ray.cluster.resources import MAX_FAILURES, Resources, max_worker_groups
from mgmt_ray.cluster.trial_queue import WAIT, QueuedTrial, TrialQueue, divide_trials
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.outcome import Outcome
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.distributed import World
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.run_trial import run_trial

DRIVER_MEMORY = 2**20
"""Bytes that Tune reserves for a driver, as it requires at least one resource."""

GROUP_SECONDS = 20.0
"""CPU seconds that the start of a worker group takes."""

UNKNOWN_SECONDS = 1e-6
"""Of an epoch, layer and channel where nothing was measured yet: too few for a second group."""

WAIT_SECONDS = 1.0
"""Seconds between two questions of a worker group that waits for another's trial."""

REPORT_SECONDS = 1.0
"""Between two reports of a training: one waits until the controller has fetched the one before."""

KEPT_SESSIONS = 5
"""Tune's results of this many earlier runs are kept."""

Ask = Callable[[], str | None]
"""Returns the id of the next trial, ``WAIT``, or None at the end."""

Report = Callable[[dict[str, Any]], None]


def run_trials(trials: Sequence[Trial], inputs: TrialInputs) -> None:
    """Train unfinished trials; for a trial without a result the reason is written to a file.

    A trial that needs others' weights starts when those are finished. With Ray, a connection to a
    cluster must exist.

    Args:
        trials: of the study; how long the finished ones took tells which ones begin.
        inputs: of the study.
    """
    resources = inputs.resources
    pending = {t.id: t for t in trials if not inputs.folder.is_finished(t.id)}
    for trial_id in pending:
        inputs.folder.forget_failure(trial_id)
    if not pending:
        return
    queued = _queued_trials(trials, pending, inputs)
    if resources.backend == "ray":
        _run_on_ray(queued, pending, inputs)
        return
    torch.set_num_threads(resources.threads)
    queue = TrialQueue({"here": queued}, inputs.folder, pause_at=inputs.pause_at)
    _train_in_turn(lambda: queue.next("here"), pending, inputs, resources.device, World())


def _queued_trials(
    trials: Sequence[Trial], pending: Mapping[str, Trial], inputs: TrialInputs
) -> list[QueuedTrial]:
    """Return the pending trials with the seconds that they are expected to take.

    Measured is a finished trial of the same network, input and hyper-parameters; for others
    epochs × layers × channels stand for it, in units of those that were measured.
    """

    def kind(trial: Trial) -> str:
        return f"{trial.network} {trial.modality} {trial.hyperparameters} {bool(trial.needs)}"

    def size(trial: Trial) -> float:
        layers = getattr(trial.network_config, "depth", 1)
        return float(trial.training_config.epochs * layers * len(trial.channels))

    wanted = {kind(trial) for trial in pending.values()}
    measured: dict[str, float] = {}
    ratios: list[float] = []
    for trial in trials:
        if trial.id not in pending and kind(trial) in wanted - measured.keys():
            seconds = float(inputs.folder.read_trial(trial.id).get("seconds", 0.0))
            if seconds > 0:
                measured[kind(trial)] = seconds
                ratios.append(seconds / size(trial))
    unit = statistics.median(ratios) if ratios else UNKNOWN_SECONDS
    return [
        QueuedTrial(
            trial.id,
            kind(trial),
            measured.get(kind(trial), unit * size(trial)),
            tuple(need.id for need in trial.needs),
        )
        for trial in pending.values()
    ]


def _train_in_turn(
    ask: Ask,
    trials: Mapping[str, Trial],
    inputs: TrialInputs,
    device: str,
    world: World,
    report: _EpochReports | None = None,
) -> None:
    """Train what the queue hands out, until nothing is left for this worker group."""
    while (trial_id := ask()) is not None:
        if trial_id == WAIT:
            time.sleep(WAIT_SECONDS)
            continue
        trial = trials[trial_id]
        with _record_user_errors(trial, inputs, world):
            to_tune = None if report is None else partial(report, trial)
            run_trial(trial, inputs, device, world, to_tune)
        if inputs.resources.gpus:
            torch.cuda.empty_cache()  # of a card that other worker groups share


class _EpochReports:
    """Reports epochs to Tune, with the trial that they are of: some of short ones, and the last.

    Args:
        send: reports one to Tune.
        seconds: at least, between two reports; workers that share a trial must report alike.
    """

    def __init__(self, send: Report, seconds: float) -> None:
        self._send, self._seconds = send, seconds
        self._sent_at = -seconds

    def __call__(self, trial: Trial, row: dict[str, float]) -> None:
        """Report an epoch, if it is time for it."""
        last = row["epoch"] == trial.training_config.epochs
        if last or time.monotonic() - self._sent_at >= self._seconds:
            self._send(
                row | {"training": trial.id, "network": trial.network, "input": trial.modality}
            )
            self._sent_at = time.monotonic()


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


def _run_on_ray(
    queued: Sequence[QueuedTrial], trials: Mapping[str, Trial], inputs: TrialInputs
) -> None:
    """Train on as few Ray Train worker groups as keep the cluster busy, each in a Tune trial."""
    ensure_connected()
    session = _new_session(inputs.folder.root.absolute() / "ray")
    slots = max_worker_groups(inputs.resources, ray.cluster_resources())
    num_ready = sum(not trial.needs for trial in queued) or 1
    shares = {
        f"group_{number}": share
        for number, share in enumerate(divide_trials(queued, min(slots, num_ready)))
    }
    queue = (
        ray.remote(TrialQueue)
        .options(
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(
                ray.get_runtime_context().get_node_id(), soft=True
            ),
        )
        .remote(
            shares,
            inputs.folder,
            session / "queue.json",
            inputs.pause_at,
            # an idle GPU costs more than the start of its group
            0.0 if inputs.resources.gpus else GROUP_SECONDS,
        )
    )
    groups = _WorkerGroups(shares, trials, queue, inputs.resources)
    work = ray.put((trials, inputs))

    def drive(config: dict[str, Any]) -> None:
        _run_group(config["worker_group"], queue, work, inputs.resources, session)

    # A driver only waits for its workers: a share of a core would be missing for them.
    tuner = tune.Tuner(
        tune.with_resources(drive, {"CPU": 0, "memory": DRIVER_MEMORY}),
        tune_config=tune.TuneConfig(
            search_alg=groups,
            num_samples=-1,  # as many as the searcher asks for
            reuse_actors=True,
            trial_dirname_creator=lambda trial: str(trial.config["worker_group"]),
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(session),
            failure_config=tune.FailureConfig(max_failures=1),  # of the driver alone
            verbose=0,
        ),
    )
    errors = [str(result.error) for result in tuner.fit() if result.error is not None]
    ray.get(queue.close.remote(errors[-1] if errors else "no worker group was left"))
    ray.kill(queue)


def _new_session(folder: Path) -> Path:
    """Make a folder for the results of Tune and Train of this run; delete the oldest ones."""
    earlier = sorted(path for path in folder.glob("*") if path.is_dir())
    for path in earlier[: max(0, len(earlier) - KEPT_SESSIONS)]:
        shutil.rmtree(path, ignore_errors=True)
    session = folder / datetime.now(UTC).strftime("%Y-%m-%d_%H-%M-%S-%f")
    session.mkdir(parents=True)
    return session


class _WorkerGroups(Searcher):
    """Tells Tune when to start a worker group, and what it is planned to train.

    The first one at once; another one where the cluster has room, and trials wait that take longer
    than its start: as it is known from finished ones, or the running ones take long.
    """

    def __init__(
        self,
        shares: Mapping[str, Sequence[QueuedTrial]],
        trials: Mapping[str, Trial],
        queue: Any,
        resources: Resources,
    ) -> None:
        super().__init__()
        self._shares, self._trials = dict(shares), trials
        self._queue, self._resources = queue, resources
        self._running: dict[str, str] = {}
        self._started = self._lost = 0
        self._refused_at = 0.0

    def set_search_properties(self, *_: object, **__: object) -> bool:
        """There is no metric to optimise."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next worker group, None for none at present, or that there will be none."""
        if self._started and not self._another_is_needed():
            return None if self._running else Searcher.FINISHED
        name = f"group_{self._started}"
        self._started += 1
        self._running[trial_id] = name
        planned = [self._trials[queued.id] for queued in self._shares.get(name, ())]
        return {
            "worker_group": name,
            "networks": sorted({trial.network for trial in planned}),
            "inputs": sorted({trial.modality for trial in planned}),
            "folds": sorted({trial.fold for trial in planned}),
            "hyperparameters": [
                json.loads(values)
                for values in sorted({json.dumps(t.hyperparameters) for t in planned})
            ],
            "trainings": [trial.id for trial in planned],
        }

    def _another_is_needed(self) -> bool:
        """Return whether trials are ready that are worth a group besides the running ones."""
        if self._running and time.monotonic() - self._refused_at < WAIT_SECONDS:
            return False
        try:
            slots = max_worker_groups(self._resources, ray.cluster_resources())
        except MgmtError:  # nodes were lost
            slots = 0
        needed = (
            len(self._running) < max(slots, 1)
            and self._lost <= MAX_FAILURES
            and bool(ray.get(self._queue.needs_another.remote(len(self._running))))
        )
        if not needed:
            self._refused_at = time.monotonic()
        return needed

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Give back what a lost group had."""
        name = self._running.pop(trial_id, None)
        if error and name is not None:
            self._lost += 1
            ray.get(self._queue.give_back.remote(name, "its worker group was lost"))

    def save(self, checkpoint_path: str) -> None:
        """Tune's own state is never read again: the study's folder says what is finished."""

    def restore(self, checkpoint_path: str) -> None:
        """See :meth:`save`."""


def _run_group(name: str, queue: Any, work: Any, resources: Resources, session: Path) -> None:
    """Run a Ray Train worker group until nothing is left for it, again after each lost trial."""
    while True:
        attempt = len(list(session.glob(f"{name}-*")))
        trainer = TorchTrainer(
            _run_worker,
            train_loop_config={"name": name, "queue": queue, "work": [work]},
            scaling_config=train.ScalingConfig(
                num_workers=resources.workers,
                use_gpu=resources.gpus > 0,
                resources_per_worker={"CPU": resources.cpus}
                | ({"GPU": resources.gpus} if resources.gpus else {}),
            ),
            torch_config=TorchConfig(backend="nccl" if resources.gpus else "gloo"),
            run_config=train.RunConfig(
                name=f"{name}-{attempt}",
                storage_path=str(session),
                callbacks=[TuneReportCallback()],
                failure_config=train.FailureConfig(max_failures=MAX_FAILURES),
            ),
        )
        try:
            trainer.fit()
            return
        except train.TrainingFailedError as error:
            if not ray.get(queue.give_back.remote(name, str(error))):
                raise


def _run_worker(config: dict[str, Any]) -> None:
    """Train what the queue hands out, as one worker of a Ray Train worker group."""
    trials, inputs = ray.get(config["work"][0])
    resources, context = inputs.resources, train.get_context()
    torch.set_num_threads(resources.threads)
    device = str(train.torch.get_device()) if resources.gpus else "cpu"
    world = World(context.get_world_rank(), context.get_world_size())

    def ask() -> str | None:
        answer = [None]
        if world.rank == 0:
            answer = [ray.get(config["queue"].next.remote(config["name"]))]
        if world.size > 1:
            dist.broadcast_object_list(answer, src=0)
        return answer[0]

    report = _EpochReports(train.report, REPORT_SECONDS if world.size == 1 else 0.0)
    _train_in_turn(ask, trials, inputs, device, world, report)
