"""Print a study's plan, diverged trials and results."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pandas as pd

from mgmt_ray.base import quantity
from mgmt_ray.cluster.progress import log
from mgmt_ray.report.cautions import first_caution
from mgmt_ray.report.summary import baseline_sentences, chance_sentences, pair_sentences
from mgmt_ray.report.terminal import summary
from mgmt_ray.search.run_search import (
    all_trials,
    first_limit,
    name_of,
    partial_effects,
    propose,
)
from mgmt_ray.search.scores import Results, state_of
from mgmt_ray.selection.ensembles import group_ensembles
from mgmt_ray.splits.split import resolve_labels
from mgmt_ray.statistics.delong import prospect
from mgmt_ray.statistics.planted_signal import planted_verdict
from mgmt_ray.statistics.result_tables import read_existing_results, read_result
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import StudyConfig
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.gpu_memory import trainings_per_card
from mgmt_ray.training.precision import cost_of_settings
from mgmt_ray.trials.context import TrialInputs


def show_plan(inputs: TrialInputs, trials: Sequence[Trial]) -> None:
    """Print each split's size and every trial with its state, in the order they run in."""
    with_modality = {
        m: [s.id for s in inputs.cohort.subjects if m in s.scans] for m in inputs.study.modalities
    }
    for split in inputs.splits:
        numbers = f"test {len(split.test)}, training {len(split.training)}"
        name = f"split {split.outer_fold}: " if len(inputs.splits) > 1 else ""
        log(f"{name}{numbers}, left out {len(split.left_out)}")
        for modality, ids in with_modality.items():
            log(f"  {modality:<8} training {len(set(ids) & set(split.training))}")
    show_prospects(inputs)
    outcomes = {t.id: inputs.folder.outcome(t.id) for t in trials}
    finished = sum(outcome.is_final for outcome in outcomes.values())
    levels = sorted({trial.dependency_level for trial in trials})
    for level in levels:
        of_level = [trial for trial in trials if trial.dependency_level == level]
        if len(levels) > 1:
            after = f", after stage {level}: classifiers use its masks" if level else ""
            log(f"stage {level + 1} of {len(levels)}: {quantity(len(of_level), 'trial')}{after}")
        for trial in of_level:
            log(f"{outcomes[trial.id].status:<8}  {trial.id}")
    log(f"{quantity(len(trials), 'trial')}, {finished} finished")
    show_setting_costs(trials, inputs.resources.device)
    show_sharing(inputs.folder, trials)


def show_setting_costs(trials: Sequence[Trial], device: str) -> None:
    """Print what settings of the trials cost on a device, each once."""
    costs = [cost for t in trials for cost in cost_of_settings(t.training_config, device)]
    for cost in dict.fromkeys(costs):
        log(cost)


def show_sharing(folder: StudyFolder, trials: Sequence[Trial]) -> None:
    """Print how many trainings fit a GPU together, once one has measured what it takes."""
    finished = [folder.read_trial(t.id) for t in trials if folder.is_finished(t.id)]
    uses = [trial["gpu"] for trial in finished if "gpu" in trial]
    if not uses:
        return
    number, largest = trainings_per_card(uses), max(uses, key=lambda use: int(use["peak_bytes"]))
    log(
        f"A training took up to {largest['peak_bytes'] / 1e9:.1f} GB of a {largest['name']} with "
        f"{largest['memory_bytes'] / 1e9:.0f} GB: {number} fit it together, with --gpus "
        f"{math.floor(100 / number) / 100:g}."
    )


def show_search_plan(inputs: TrialInputs) -> None:
    """Print the configurations of a search with their states, its trainings, and hours if known."""
    search, results = inputs.study.search, Results(inputs.folder)
    assert search is not None
    for line in partial_effects(inputs.study):
        log(line)
    candidates = propose(inputs, results, first_limit(search))
    for candidate in candidates:
        state = state_of([results.of(trial) for trial in candidate.trials])
        log(f"{state:<8}  {name_of(candidate)}")
    trials = all_trials(candidates)
    known = [results.of(trial) for trial in trials]
    epochs = sum(trial.training_config.epochs for trial in trials)
    trained, seconds = (sum(getattr(r, name) for r in known) for name in ("epochs", "seconds"))
    log(f"{len(candidates)} configurations, {len(trials)} trainings, at most {epochs} epochs")
    if search.method == "optuna" or search.hours is not None:
        log("further configurations follow from these results")
    if trained:
        hours = (epochs - trained) * seconds / trained / 3600
        log(
            f"{trained} epochs trained in {seconds / 3600:.2f} h; at most {hours:.2f} h of "
            "training are left, divided by the trainings at a time"
        )


PROSPECTIVE_AUCS = (0.6, 0.65, 0.7)
"""True AUCs; large honest studies of this question report 0.55 to 0.67."""


def show_prospects(inputs: TrialInputs) -> None:
    """Print what the test set can show, from the numbers of its subjects alone."""
    labels: dict[str, int] = {}
    for split in inputs.splits:
        known = resolve_labels(split, inputs.cohort)
        labels |= {subject: known[subject] for subject in split.test}
    num_methylated = sum(labels.values())
    sizes = (num_methylated, len(labels) - num_methylated)
    if not all(sizes):
        return  # AUC is not defined; evaluation says so
    num_networks = len(inputs.study.networks)
    log(
        f"What the test set ({sizes[0]} methylated, {sizes[1]} unmethylated) can show of a network "
        "with a true AUC:"
    )
    for auc in PROSPECTIVE_AUCS:
        expected = prospect(auc, *sizes, num_networks)
        low, high = expected.interval.low, expected.interval.high
        corrected = (
            f", {expected.corrected_power:.0%} as the best of {num_networks}"
            if num_networks > 1
            else ""
        )
        log(
            f"  {auc:.2f}: expected interval {low:.2f} to {high:.2f} (width {high - low:.2f}), "
            f"p < 0.05 against 0.5 with probability {expected.power:.0%}{corrected}"
        )


def show_diverged(folder: StudyFolder, trials: Sequence[Trial]) -> None:
    """Print a line for each trial that diverged, and for each segmentation that finds no tumour."""
    for trial in trials:
        outcome = folder.outcome(trial.id)
        if not trial.is_classifier and outcome.status == "finished" and _is_empty(folder, trial):
            log(
                f"trial {trial.id} finds no tumour in any validation slice, so classifiers get "
                "empty masks from it. Lower its segmentation's learning rate, or train it longer."
            )
        if outcome.diverged:
            log(
                f"trial {trial.id} diverged, so its hyperparameters are not chosen: "
                f"{outcome.message} "
                "Or delete its folder to train it again."
            )


def _is_empty(folder: StudyFolder, trial: Trial) -> bool:
    """Return whether a finished segmentation has a Dice of 0 in every validation slice."""
    slices = pd.read_csv(folder.trial(trial.id) / "slice_validation.csv")
    return bool((slices["dice"] == 0).all())


def show_results(study: StudyConfig, folder: StudyFolder) -> None:
    """Print the results, and for a synthetic cohort whether they show the planted signal."""
    metrics = read_result(folder.ensembles, "metrics")
    planted = folder.root / "planted.json"
    comparisons = read_existing_results(folder.ensembles, ("comparisons",)).get("comparisons")
    answers = [*chance_sentences(metrics), first_caution(metrics, planted.is_file())]
    if comparisons is not None:
        answers += [*pair_sentences(comparisons), *baseline_sentences(comparisons)]
    log("")
    log(summary(metrics, [*filter(None, answers)]))
    for name in study.external:
        ensembles = folder.external(name).ensembles
        if (ensembles / "metrics.csv").is_file():
            log(f"external {name}, predicted by the same models")
            log(summary(read_result(ensembles, "metrics")))
    if planted.is_file():
        groups = group_ensembles(study.modalities)
        for verdict in planted_verdict(
            metrics, json.loads(planted.read_text(encoding="utf-8")), groups
        ):
            signal = (
                f"planted in {', '.join(verdict.carriers)}" if verdict.carriers else "no signal"
            )
            log(f"{verdict.network} {verdict.ensemble} ({signal}): {verdict.sentence}")
    log(f"All measures: {folder.ensembles / 'metrics.csv'}, and the report")
