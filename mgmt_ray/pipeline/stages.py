"""The stages of a study, each bringing its own files up to date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from mgmt_ray.base import MgmtError, write_json
from mgmt_ray.baselines.baseline_inputs import gather_comparisons, refuse_unfit_comparisons
from mgmt_ray.cluster.progress import say, stage
from mgmt_ray.cohort.cohort import Cohort, read_cohort
from mgmt_ray.cohort.covariates import read_covariates
from mgmt_ray.data.prepare_stores import prepare_stores
from mgmt_ray.nets.build import build_any
from mgmt_ray.pipeline.printing import show_diverged, show_results
from mgmt_ray.pipeline.provenance import provenance
from mgmt_ray.pipeline.select_cohorts import Selected, select_cohorts, show_cohorts
from mgmt_ray.prediction.external_cohorts import predict_external, refuse_unfit_external
from mgmt_ray.prediction.mask_comparison import measure_mask_effect
from mgmt_ray.prediction.new_patients import predict_patients
from mgmt_ray.prediction.test_set import run_ensemble
from mgmt_ray.report.html import write_report
from mgmt_ray.report.sections.cohort_section import write_cohort_figures
from mgmt_ray.splits.draw import make_splits
from mgmt_ray.splits.split import Split, read_splits, write_splits
from mgmt_ray.study.plan import make_plan
from mgmt_ray.study.study_config import StudyConfig, load_study, write_study
from mgmt_ray.study.trial import Trial
from mgmt_ray.tracking.mlflow_tracker import Tracker, local_store
from mgmt_ray.trials.context import Job, TrialInputs
from mgmt_ray.trials.run_trial import checkpoint_checksum, trial_files
from mgmt_ray.trials.tune import run_trials, watched
from mgmt_ray.trials.warm_start import find_start, refuse_start_on_external, refuse_unfit_start


def refuse_unfit_networks(study: StudyConfig, trials: Sequence[Trial], inputs: TrialInputs) -> None:
    """Refuse networks that could not be built, or that must not start from where they would.

    Args:
        study: its networks and checkpoint.
        trials: the whole plan.
        inputs: of the study; volumes need not be there.

    Raises:
        MgmtError: there is no checkpoint, it does not fit a network, or a trial's start is not
            there, of another network, or has seen whom the trial is judged by.
    """
    _refuse_missing_checkpoint(study)
    left = [t for t in trials if not inputs.folder.is_finished(t.id)]
    # networks of the same configuration differ only in their number of channels
    different = {(t.network, t.stage, len(t.channels)): t for t in left}
    for trial in different.values():
        build_any(trial.network_config, len(trial.channels), 1.0, study.checkpoint)
    for trial in trials:
        start = find_start(trial)
        if start:
            split, checkpoint = inputs.splits[trial.outer], checkpoint_checksum(trial, inputs)
            refuse_unfit_start(trial, start, split, inputs.cohort, checkpoint)


def _refuse_missing_checkpoint(study: StudyConfig) -> None:
    pretrained = [name for name, network in study.networks.items() if network.pretrained]
    if pretrained and (study.checkpoint is None or not study.checkpoint.is_file()):
        fault = f"{study.checkpoint} is not there" if study.checkpoint else "none are given"
        raise MgmtError(
            f"{', '.join(pretrained)} start from pretrained weights, and {fault}. "
            "Give MedicalNet's .pth file with --checkpoint FILE."
        )


def select(job: Job) -> Selected:
    """Read the data sets and look at every file; write who is in and who is out."""
    return select_cohorts(job.study, job.folder, job.placement)


def draw_cohort(job: Job, selected: Selected) -> None:
    """Draw what was seen of the files, and the augmentations of a few subjects."""
    root, study = job.folder.root, job.study
    recipe = study.recipe if study.takes_volumes else None
    for path in write_cohort_figures(root, selected.cohort, recipe, study.modalities):
        say(f"figure: {path}")


def prepare(job: Job, selected: Selected, *, verify: bool = True) -> None:
    """Bring the stores of volumes and slices up to date, the external cohorts' not augmented.

    Args:
        job: of the study.
        selected: its cohorts.
        verify: whether every voxel is compared with its checksum.
    """
    study, placement = job.study, job.placement
    prepare_stores(
        "prepare", selected.cohort, study, job.folder, placement, augmented=True, verify=verify
    )
    for name, cohort in selected.external.items():
        folder = job.folder.external(name)
        prepare_stores(f"prepare {name}", cohort, study, folder, placement, verify=verify)
    gather_comparisons(study, selected.cohort, job.folder, placement)


def split_cohort(job: Job, cohort: Cohort) -> tuple[Split, ...]:
    """Draw the splits, and write them unless they are there; a changed cohort changes them."""
    splits = make_splits(cohort, job.study.split, job.study.modalities)
    if not job.folder.splits.exists() or read_splits(job.folder.splits) != splits:
        write_splits(splits, job.folder.splits)
    return splits


def plan_study(job: Job, selected: Selected) -> tuple[tuple[Split, ...], list[Trial]]:
    """Everything that is known before volumes are made; writes the splits."""
    for name, external in selected.external.items():
        refuse_unfit_external(name, external, selected.cohort, job.study.model_inputs)
    names = {name for network in job.study.networks.values() for name in network.covariates}
    for cohort in (selected.cohort, *selected.external.values()):
        read_covariates(cohort.subjects, sorted(names))  # an unreadable value ends it here
    splits = split_cohort(job, selected.cohort)
    refuse_unfit_comparisons(job.study.comparisons, selected.cohort, splits)
    trials = make_plan(job.study, splits)
    for name, external in selected.external.items():
        refuse_start_on_external(name, external, trials)
    return splits, trials


def train(job: Job, trials: Sequence[Trial], inputs: TrialInputs) -> None:
    """Run the trials that are not finished.

    Raises:
        MgmtError: some ended without a result, or were trained from other files, or the run was
            interrupted.
    """
    for trial in trials:
        trial_files(trial, inputs)
    waiting = [t for t in trials if not job.folder.is_finished(t.id)]
    if not waiting:
        say(f"trials: up to date ({len(trials)} finished)")
        show_diverged(job.folder, trials)
        return
    with stage("trials") as step, watched(trials, job.folder, step):
        run_trials(waiting, inputs, job.placement)
    show_diverged(job.folder, trials)
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
    for trial in (t for t in trials if t.needs):
        trial_files(trial, inputs)  # a segmentation that it needs may have been trained anew


def ensemble(
    job: Job, trials: Sequence[Trial], inputs: TrialInputs, external: Mapping[str, Cohort]
) -> None:
    """Open the test set for the chosen models, then the external cohorts; write the results.

    Where the study names segmentations, test subjects are predicted with their other mask too.
    """
    study, placement = job.study, job.placement
    comparisons = gather_comparisons(study, inputs.cohort, job.folder, placement)
    with stage("ensemble") as step:
        if not run_ensemble(trials, inputs, study.evaluation, placement, step, comparisons):
            say("ensemble: up to date")
    measure_mask_effect(trials, inputs, study, placement)
    for name, cohort in external.items():
        with stage(f"predict {name}") as step:
            if not predict_external(
                name, cohort, trials, inputs, study.evaluation, placement, step
            ):
                say(f"predict {name}: up to date")
    write_study(study, job.folder.evaluated_study)


def predict_new(job: Job, scans: Path, to: Path) -> None:
    """Predict the patients of a folder with the finished models (see ``predict_patients``)."""
    selected, splits, trials = existing(job)
    predict_patients(job, job.inputs(selected.cohort, splits), trials, scans, to)


def report(job: Job) -> Path:
    """Write the report of the files that are there."""
    return write_report(job.folder.root)


def bring_up_to_date(job: Job) -> None:
    """Do whatever of cohort, volumes, trials, ensembles and report is missing."""
    started = datetime.now(UTC)
    selected = select(job)
    show_cohorts(job.study, selected)
    splits, trials = plan_study(job, selected)
    refuse_unfit_networks(job.study, trials, job.inputs(selected.cohort, splits))
    content = provenance(job.study, job.placement, started)
    write_json(job.folder.provenance, content)
    unfinished = any(not job.folder.is_finished(t.id) for t in trials)
    with _tracked(job, trials):
        prepare(job, selected, verify=unfinished)
        inputs = job.inputs(selected.cohort, splits)
        train(job, trials, inputs)
        ensemble(job, trials, inputs, selected.external)
        path = report(job)
    show_results(job.study, job.folder)
    say(f"report: {path}")
    if job.tracking_uri is None:
        say(f"MLflow: mlflow ui --backend-store-uri {local_store(job.folder)}")
        say("        then open http://localhost:5000/#/experiments/1/runs; + unfolds the trials")


def existing(job: Job) -> tuple[Selected, tuple[Split, ...], list[Trial]]:
    """Cohorts, splits and plan as an earlier run left them.

    Raises:
        MgmtError: there was no earlier run, or the study has changed since.
    """
    cohort = read_cohort(job.folder.root)
    names = job.study.external
    for name in names:
        if not (job.folder.external(name).root / "cohort.csv").exists():
            raise MgmtError(
                f"external.{name}: was not read yet. Run `mgmt-ray run STUDY` with the same --out."
            )
    external = {name: read_cohort(job.folder.external(name).root) for name in names}
    if not job.folder.splits.exists():
        raise MgmtError(f"{job.folder.splits}: not there yet. Run `mgmt-ray run STUDY` first.")
    splits = read_splits(job.folder.splits)
    if splits != make_splits(cohort, job.study.split, job.study.modalities):
        raise MgmtError(
            f"{job.folder.splits}: is not the split of this study and cohort any more. "
            "Run `mgmt-ray run STUDY`, or use the study file that the folder was made with."
        )
    _refuse_other_masks(job)
    return Selected(cohort, external), splits, make_plan(job.study, splits)


def _refuse_other_masks(job: Job) -> None:
    """Raise MgmtError where the folder's volumes were cut with masks of another kind or source."""
    made, now = (_masks(study) for study in (load_study(job.folder.study_file), job.study))
    if made != now:
        raise MgmtError(
            f"{job.folder.study_file}: its cohort.mask or mask_source is not this study's. Run "
            "`mgmt-ray run STUDY`, or use the study file that the folder was made with."
        )


def _masks(study: StudyConfig) -> tuple[object, ...]:
    """Whose masks cut the volumes; who predicts some matters where any are taken."""
    source = study.mask_source
    kinds = {name: c.mask for name, c in {"": study.cohort, **study.external}.items()}
    if source is None or {*kinds.values()} == {"given"}:
        return (kinds,)
    return kinds, source.study.resolve(), source.network, source.modality


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
