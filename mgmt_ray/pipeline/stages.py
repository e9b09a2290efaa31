"""The stages of a study; each brings its own files up to date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from mgmt_ray.base import MgmtError, write_json
from mgmt_ray.baselines.baseline_inputs import check_baselines, prepare_baselines
from mgmt_ray.cluster.progress import log, show_progress
from mgmt_ray.cohort.cohort import Cohort, read_cohort
from mgmt_ray.cohort.dataset_files import missing_reason
from mgmt_ray.nets.build import build_network
from mgmt_ray.pipeline.printing import (
    show_diverged,
    show_plan,
    show_results,
    show_search_plan,
    show_setting_costs,
)
from mgmt_ray.pipeline.provenance import differs_from, provenance
from mgmt_ray.pipeline.select_cohorts import StudyCohorts, select
from mgmt_ray.prediction.external_cohorts import check_external, predict_external
from mgmt_ray.prediction.mask_comparison import measure_mask_effect
from mgmt_ray.prediction.new_patients import predict_patients
from mgmt_ray.prediction.test_set import run_ensemble
from mgmt_ray.report.report_record import REPORT, update_report
from mgmt_ray.search.run_search import all_trials, first_limit, propose, run_search
from mgmt_ray.search.scores import Results
from mgmt_ray.splits.draw import make_splits
from mgmt_ray.splits.split import Split, read_splits, write_splits
from mgmt_ray.study.search_choice import chosen_plan, is_searched
from mgmt_ray.study.study_config import StudyConfig, load_study, write_study
from mgmt_ray.study.trial import Trial
from mgmt_ray.tracking.mlflow_tracker import Tracker, local_store
from mgmt_ray.trials.context import StudyContext, TrialInputs
from mgmt_ray.trials.pipelines import prepare_stores
from mgmt_ray.trials.resume import set_aside_if_damaged
from mgmt_ray.trials.run_trial import checked_initial_weights, input_checksums, state_file
from mgmt_ray.trials.warm_start import check_external_leakage


def check_networks(trials: Sequence[Trial], inputs: TrialInputs) -> None:
    """Check that all networks can be built and that no initial weights know a held-out subject.

    Args:
        inputs: of the study; volumes need not be prepared.

    Raises:
        MgmtError: the checkpoint does not fit a network, or a trial's initial weights are missing,
            belong to another network, or were trained or chosen on a subject that the
            trial is validated or tested on.
    """
    unfinished = [t for t in trials if not inputs.folder.is_finished(t.id)]
    # networks of one configuration differ only in their number of channels
    distinct = {(t.network, t.dependency_level, len(t.channels)): t for t in unfinished}
    for trial in distinct.values():
        build_network(trial.network_config, len(trial.channels), 1.0, inputs.checkpoint)
    for trial in trials:
        checked_initial_weights(trial, inputs)


def check_checkpoint(study: StudyConfig) -> None:
    """Raise MgmtError if a network starts from pretrained weights and there are none."""
    pretrained = [name for name, network in study.networks.items() if network.pretrained]
    if pretrained and (study.checkpoint is None or not study.checkpoint.is_file()):
        fault = "none are given"
        if study.checkpoint is not None:
            found, _ = missing_reason(study.checkpoint) or ("is a folder", "")
            fault = f"{study.checkpoint}: {found}"
        raise MgmtError(
            f"{', '.join(pretrained)} start from pretrained weights, and {fault}. "
            "Give MedicalNet's .pth file with --checkpoint FILE."
        )


def plot_cohort(context: StudyContext, selected: StudyCohorts) -> None:
    """Draw contact sheets, intensity histograms, and augmentations of a few subjects."""
    from mgmt_ray.report.sections.cohort_section import write_cohort_figures

    root, study = context.folder.root, context.study
    recipe, modalities = study.volume_recipe, study.modalities
    for path in write_cohort_figures(root, selected.cohort, recipe, modalities):
        log(f"figure: {path}")


def prepare(context: StudyContext, selected: StudyCohorts, *, verify: bool = True) -> None:
    """Bring the stores of volumes and slices up to date; external cohorts are not augmented.

    Args:
        verify: compare the content of existing stores with their checksums.
    """
    study, resources = context.study, context.resources
    prepare_stores(
        "prepare", selected.cohort, study, context.folder, resources, augmented=True, verify=verify
    )
    for name, cohort in selected.external.items():
        folder = context.folder.external(name)
        prepare_stores(f"prepare {name}", cohort, study, folder, resources, verify=verify)
    prepare_baselines(context, selected.cohort)


def split_cohort(context: StudyContext, cohort: Cohort) -> tuple[Split, ...]:
    """Draw the splits, and write splits.json if it differs; a changed cohort changes the splits."""
    splits = make_splits(cohort, context.study.split, context.study.modalities)
    if not context.folder.splits.exists() or read_splits(context.folder.splits) != splits:
        write_splits(splits, context.folder.splits)
    return splits


def plan_study(context: StudyContext, selected: StudyCohorts) -> tuple[TrialInputs, list[Trial]]:
    """Draw and write the splits, and plan the trials; all checks before volumes are prepared.

    Raises:
        MgmtError: an external cohort or a baseline model cannot be evaluated, the cohort cannot be
            split, initial weights know an external subject, or a search is to be finished first.
    """
    inputs = _split_study(context, selected)
    trials = chosen_plan(context.study, context.folder, inputs.splits)
    for name, external in selected.external.items():
        check_external_leakage(name, external, trials)
    return inputs, trials


def _split_study(context: StudyContext, selected: StudyCohorts) -> TrialInputs:
    """Draw and write the splits; return what trials read."""
    for name, external in selected.external.items():
        check_external(name, external, selected.cohort, context.study.model_inputs)
    splits = split_cohort(context, selected.cohort)
    check_baselines(context.study.baselines, selected.cohort, splits)
    return context.inputs(selected.cohort, splits)


def show_study_plan(context: StudyContext) -> None:
    """Select, split and list the trials, or the configurations of a search that is not finished."""
    check_checkpoint(context.study)
    selected = select(context)
    inputs = _split_study(context, selected)
    if not is_searched(context.study, context.folder, inputs.splits):
        show_search_plan(inputs)
        return
    inputs, trials = plan_study(context, selected)
    check_networks(trials, inputs)
    show_plan(inputs, trials)


def search(context: StudyContext) -> None:
    """Search the configurations of a study, on validation alone; `run` then takes the chosen ones.

    Raises:
        MgmtError: the study has no search, or as :func:`run_search`.
    """
    if context.study.search is None:
        raise MgmtError(
            f"{context.study.name}: has no `search:` section. Write one, like `search: {{method: "
            "random, space: {learning_rate: {log: [1.0e-6, 1.0e-3]}}, configurations: 20}`."
        )
    started = datetime.now(UTC)
    check_checkpoint(context.study)
    selected = select(context)
    inputs = _split_study(context, selected)
    results = Results(inputs.folder)
    trials = all_trials(propose(inputs, results, first_limit(context.study.search)))
    for name, external in selected.external.items():
        check_external_leakage(name, external, trials)
    check_networks(trials, inputs)
    unfinished = not is_searched(context.study, context.folder, inputs.splits)
    record = provenance(context.study, context.resources, started)
    if unfinished or differs_from(context.folder.provenance, record):
        write_json(context.folder.provenance, record)
    prepare(context, selected, verify=unfinished)
    run_search(inputs)


def train(trials: Sequence[Trial], inputs: TrialInputs) -> None:
    """Run the trials that are not finished.

    Raises:
        MgmtError: trials ended without a result or were trained from other files, or the run was
            interrupted.
    """
    folder = inputs.folder
    for trial in trials:
        input_checksums(trial, inputs)
    pending = [t for t in trials if not folder.is_finished(t.id)]
    if not pending:
        log(f"trials: up to date ({len(trials)} finished)")
        show_diverged(folder, trials)
        return
    show_setting_costs(pending, inputs.resources.device)
    for trial in pending:  # here, since what a Ray worker says is not seen
        set_aside_if_damaged(state_file(trial, inputs))
    from mgmt_ray.trials.tune import run_trials, watch_trials  # imports Ray's libraries

    with show_progress("trials") as progress, watch_trials(trials, folder, progress):
        run_trials(trials, inputs)
    show_diverged(folder, trials)
    outcomes = {t.id: folder.outcome(t.id) for t in trials}
    failed = {name: outcome for name, outcome in outcomes.items() if outcome.failed}
    for name, outcome in failed.items():
        log(f"trial {name} ended without a result: {outcome.message}")
    num_unfinished = sum(not folder.is_finished(t.id) for t in trials)
    if num_unfinished:
        raise MgmtError(
            f"{num_unfinished} of {len(trials)} trials are not finished ({len(failed)} failed, see "
            "above). Fix this and rerun the command: it continues where it stopped."
        )
    for trial in (t for t in trials if t.needs):
        input_checksums(trial, inputs)  # a segmentation that it needs may have been retrained


def ensemble(trials: Sequence[Trial], inputs: TrialInputs, external: Mapping[str, Cohort]) -> None:
    """Predict the test set and the external cohorts with the chosen models; write the results.

    If the study has a ``mask_source``, test subjects are also predicted with their other mask.
    """
    baselines = prepare_baselines(inputs, inputs.cohort)
    with show_progress("ensemble") as progress:
        if not run_ensemble(trials, inputs, progress, baselines):
            log("ensemble: up to date")
    measure_mask_effect(trials, inputs)
    for name, cohort in external.items():
        with show_progress(f"predict {name}") as progress:
            if not predict_external(name, cohort, trials, inputs, progress):
                log(f"predict {name}: up to date")
    write_study(inputs.study, inputs.folder.evaluated_study)


def predict_new(context: StudyContext, scans: Path, to: Path) -> None:
    """Predict the patients of a folder with the finished models: see :func:`predict_patients`."""
    inputs, trials, _ = load_existing(context)
    predict_patients(inputs, trials, scans, to)


def report(context: StudyContext, svg: bool = False) -> Path:
    """Bring the report up to date with the files in the study's folder; return its path.

    Args:
        context: has the study's folder.
        svg: whether to write the figures as SVG too.
    """
    if not update_report(context.folder.root, svg):
        log("report: up to date")
    return context.folder.root / REPORT


def bring_up_to_date(context: StudyContext, svg: bool = False) -> None:
    """Run all stages, from the cohort to the report; each does only what is missing or outdated.

    Args:
        context: the study, its folder and resources.
        svg: whether to write the report's figures as SVG too.
    """
    started = datetime.now(UTC)
    check_checkpoint(context.study)
    selected = select(context)
    inputs, trials = plan_study(context, selected)
    check_networks(trials, inputs)
    unfinished = any(not context.folder.is_finished(t.id) for t in trials)
    record = provenance(context.study, context.resources, started)
    if unfinished or differs_from(context.folder.provenance, record):
        write_json(context.folder.provenance, record)
    with _tracking(context, trials):
        prepare(context, selected, verify=unfinished)
        train(trials, inputs)
        ensemble(trials, inputs, selected.external)
        path = report(context, svg)
    show_results(context.study, context.folder)
    log(f"report: {path}")
    if context.tracking_uri is None:
        log(f"MLflow: mlflow ui --backend-store-uri {local_store(context.folder)}")
        log("        then open http://localhost:5000/#/experiments/1/runs; + shows the trials")


def load_existing(
    context: StudyContext,
) -> tuple[TrialInputs, list[Trial], dict[str, Cohort]]:
    """Read what an earlier run wrote; return also the trials, and the external cohorts by name.

    Raises:
        MgmtError: there was no earlier run, or the study has changed since.
    """
    cohort = read_cohort(context.folder.root, context.study.cohort.conventions)
    names = context.study.external
    for name in names:
        if not (context.folder.external(name).root / "cohort.csv").exists():
            raise MgmtError(
                f"external.{name}: not selected yet. Run `mgmt-ray run STUDY` with the same --out."
            )
    external = {
        name: read_cohort(context.folder.external(name).root, config.conventions)
        for name, config in names.items()
    }
    if not context.folder.splits.exists():
        raise MgmtError(
            f"{context.folder.splits}: does not exist yet. Run `mgmt-ray run STUDY` first."
        )
    splits = current_splits(context, cohort)
    _check_mask_settings(context)
    trials = chosen_plan(context.study, context.folder, splits)
    return context.inputs(cohort, splits), trials, external


def current_splits(context: StudyContext, cohort: Cohort) -> tuple[Split, ...]:
    """Return the splits of a cohort; raise MgmtError if an earlier run wrote other ones."""
    splits = make_splits(cohort, context.study.split, context.study.modalities)
    if context.folder.splits.exists() and read_splits(context.folder.splits) != splits:
        raise MgmtError(
            f"{context.folder.splits}: is not the split of the present study and cohort. "
            "Run `mgmt-ray run STUDY`, or use the study file that the folder was created with."
        )
    return splits


def _check_mask_settings(context: StudyContext) -> None:
    """Raise MgmtError if the folder's volumes were cropped with masks of another kind or source."""
    earlier = load_study(context.folder.study_file)
    if _mask_settings(earlier) != _mask_settings(context.study):
        raise MgmtError(
            f"{context.folder.study_file}: its cohort.mask or mask_source is not this study's. Run "
            "`mgmt-ray run STUDY`, or use the study file that the folder was created with."
        )


def _mask_settings(study: StudyConfig) -> tuple[object, ...]:
    """Return the kind of masks of each cohort, and their source if any of them are predicted."""
    source = study.mask_source
    kinds = {name: c.mask for name, c in {"": study.cohort, **study.external}.items()}
    if source is None or {*kinds.values()} == {"given"}:
        return (kinds,)
    return kinds, source.study.resolve(), source.network, source.modality


@contextmanager
def _tracking(context: StudyContext, trials: list[Trial]) -> Iterator[None]:
    """Copy the study to MLflow during the ``with`` block, and end its runs with the outcome."""
    tracker = Tracker(context.study, context.folder, trials, context.tracking_uri, log)
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
