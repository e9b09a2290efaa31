"""The stages of a study, each bringing its own files up to date."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread

import pandas as pd

from mgmt_ray.base import MgmtError, write_json, write_text
from mgmt_ray.cohort.cohort import Cohort, flow, read_cohort, write_cohort
from mgmt_ray.cohort.read import read
from mgmt_ray.orchestration.ensemble import run_ensemble
from mgmt_ray.orchestration.placement import Placement
from mgmt_ray.orchestration.prepare import prepare_volumes
from mgmt_ray.orchestration.progress import Step, say, stage
from mgmt_ray.orchestration.provenance import provenance
from mgmt_ray.orchestration.trial import TrialInputs, trial_files
from mgmt_ray.orchestration.trials import run_trials
from mgmt_ray.report.html import write_report
from mgmt_ray.report.terminal import summary
from mgmt_ray.selection.ensemble import group_ensembles
from mgmt_ray.splits import Split, make_split, read_split, write_split
from mgmt_ray.statistics.planted import planted_verdict
from mgmt_ray.study.config import StudyConfig, write_study
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.plan import Trial, make_plan
from mgmt_ray.tracking import Tracker, local_store


@dataclass(frozen=True, slots=True)
class Job:
    """A study, where its files are, and where its work runs."""

    study: StudyConfig
    folder: StudyFolder
    placement: Placement
    tracking_uri: str | None = None

    def inputs(self, cohort: Cohort, split: Split) -> TrialInputs:
        """What every trial reads."""
        root = StudyFolder(self.folder.root.absolute())
        return TrialInputs(root, cohort, split, self.study.checkpoint)


def select_cohort(job: Job) -> Cohort:
    """Read the data set and write who is in and who is out."""
    cohort = read(job.study.cohort)
    write_study(job.study, job.folder.study_file)
    write_cohort(cohort, job.folder.root)
    planted = job.study.cohort.root / "planted.json"
    if planted.is_file():
        write_text(job.folder.root / "planted.json", planted.read_text())
    else:
        (job.folder.root / "planted.json").unlink(missing_ok=True)
    return cohort


def show_cohort(job: Job, cohort: Cohort) -> None:
    """Print the flow of numbers."""
    say(f"data: {job.study.cohort.root}")
    lines = flow(cohort, job.study.modalities)
    width = max(len(what) for what, _ in lines)
    for what, number in lines:
        say(f"{what:<{width}}  {number:>5}")


def prepare(job: Job, cohort: Cohort) -> None:
    """Bring the volume store up to date."""
    with stage("prepare") as step:
        made = prepare_volumes(cohort, job.study, job.folder.volumes, job.placement, step)
    say(f"prepare: {made} subjects made anew" if made else "prepare: up to date")


def split_cohort(job: Job, cohort: Cohort) -> Split:
    """Draw the split, and write it unless it is there; a changed cohort changes it."""
    split = make_split(cohort, job.study.split, job.study.modalities)
    if not job.folder.splits.exists() or read_split(job.folder.splits) != split:
        write_split(split, job.folder.splits)
    return split


def plan_study(job: Job) -> tuple[Cohort, Split, list[Trial]]:
    """Everything that is known before volumes are made; writes the cohort and the split."""
    cohort = select_cohort(job)
    split = split_cohort(job, cohort)
    return cohort, split, make_plan(job.study, split)


def train(job: Job, trials: Sequence[Trial], inputs: TrialInputs) -> None:
    """Run the trials that are not finished.

    Raises:
        MgmtError: some ended without a result, or the run was interrupted.
    """
    for trial in trials:
        trial_files(trial, inputs)
    waiting = [t for t in trials if not job.folder.is_finished(t.id)]
    if not waiting:
        say(f"trials: up to date ({len(trials)} finished)")
        return
    with stage("trials") as step, _watched(trials, job.folder, step):
        run_trials(waiting, inputs, job.placement)
    failures = {t.id: job.folder.read_failure(t.id) for t in trials}
    failed = {name: message for name, message in failures.items() if message}
    for name, message in failed.items():
        say(f"trial {name} ended without a result: {message}")
    left = sum(not job.folder.is_finished(t.id) for t in trials)
    if left:
        raise MgmtError(
            f"{left} of {len(trials)} trials are not finished ({len(failed)} with a fault, see "
            "above). Mend that and repeat the command: it continues where it stopped."
        )


def ensemble(job: Job, trials: Sequence[Trial], inputs: TrialInputs) -> None:
    """Open the test set for the chosen models and write the tables of results."""
    with stage("ensemble") as step:
        done = run_ensemble(trials, inputs, job.study.evaluation, job.placement, step)
    if done:
        write_study(job.study, job.folder.evaluated_study)
    else:
        say("ensemble: up to date")


def report(job: Job) -> Path:
    """Write the report of the files that are there."""
    return write_report(job.folder.root)


def bring_up_to_date(job: Job) -> None:
    """Do whatever of cohort, volumes, trials, ensembles and report is missing."""
    started = datetime.now(UTC)
    cohort, split, trials = plan_study(job)
    show_cohort(job, cohort)
    _require_checkpoint(job.study)
    content = provenance(job.study, job.placement, started)
    write_json(job.folder.provenance, content)
    with _tracked(job, trials):
        prepare(job, cohort)
        inputs = job.inputs(cohort, split)
        train(job, trials, inputs)
        ensemble(job, trials, inputs)
        path = report(job)
    show_results(job)
    say(f"report: {path}")
    if job.tracking_uri is None:
        say(f"MLflow: mlflow ui --backend-store-uri {local_store(job.folder)}")
        say("        then open http://localhost:5000/#/experiments/1/runs; + unfolds the trials")


def _require_checkpoint(study: StudyConfig) -> None:
    """Refuse before hours of work what would fail after them."""
    pretrained = [name for name, network in study.networks.items() if network.pretrained]
    if pretrained and (study.checkpoint is None or not study.checkpoint.is_file()):
        raise MgmtError(
            f"{', '.join(pretrained)} start from pretrained weights, and "
            f"{study.checkpoint or 'no checkpoint'} is not there. "
            "Give MedicalNet's .pth file with --checkpoint FILE."
        )


def show_plan(job: Job, cohort: Cohort, split: Split, trials: Sequence[Trial]) -> None:
    """Print the split's numbers and every trial with its state."""
    complete = {m: [s.id for s in cohort.subjects if m in s.scans] for m in job.study.modalities}
    say(f"test {len(split.test)}, training {len(split.training)}, left out {len(split.left_out)}")
    for modality, ids in complete.items():
        say(f"  {modality:<8} training {len(set(ids) & set(split.training))}")
    finished = sum(job.folder.is_finished(t.id) for t in trials)
    for trial in trials:
        state = "finished" if job.folder.is_finished(trial.id) else "to do"
        say(f"{state:<8}  {trial.id}")
    say(f"{len(trials)} trials, {finished} finished")


def show_results(job: Job) -> None:
    """Print the table of results, and whether it shows what was planted."""
    metrics = pd.read_csv(job.folder.ensembles / "metrics.csv")
    say("")
    say(summary(metrics))
    planted = job.folder.root / "planted.json"
    if planted.is_file():
        groups = group_ensembles(job.study.modalities)
        for verdict in planted_verdict(metrics, json.loads(planted.read_text()), groups):
            where = f"planted in {', '.join(verdict.carriers)}" if verdict.carriers else "no signal"
            say(f"{verdict.network} {verdict.ensemble} ({where}): {verdict.words}")


def existing(job: Job) -> tuple[Cohort, Split, list[Trial]]:
    """Cohort, split and plan as an earlier run left them.

    Raises:
        MgmtError: there was no earlier run, or the study has changed since.
    """
    cohort = read_cohort(job.folder.root)
    if not job.folder.splits.exists():
        raise MgmtError(f"{job.folder.splits}: not there yet. Run `mgmt-ray run STUDY` first.")
    split = read_split(job.folder.splits)
    if split != make_split(cohort, job.study.split, job.study.modalities):
        raise MgmtError(
            f"{job.folder.splits}: is not the split of this study and cohort any more. "
            "Run `mgmt-ray run STUDY`, or use the study file that the folder was made with."
        )
    return cohort, split, make_plan(job.study, split)


@contextmanager
def _watched(trials: Sequence[Trial], folder: StudyFolder, step: Step) -> Iterator[None]:
    """Show finished trials while others work."""
    stop = Event()

    def look() -> None:
        step(sum(folder.is_finished(t.id) for t in trials), len(trials))

    def watch() -> None:
        while not stop.wait(1.0):
            look()

    thread = Thread(target=watch, name="progress", daemon=True)
    look()
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        look()


@contextmanager
def _tracked(job: Job, trials: list[Trial]) -> Iterator[None]:
    """Copy the study to MLflow meanwhile; every run ends with the outcome."""
    tracker = Tracker(job.study, job.folder, trials, job.tracking_uri, say)
    tracker.start()
    outcome = "KILLED"
    try:
        yield
        outcome = "FINISHED"
    except Exception:
        outcome = "FAILED"
        raise
    finally:
        tracker.close(outcome)
