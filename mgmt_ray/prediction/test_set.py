"""Evaluate on the test set: the models chosen on validation predict it and are averaged."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mgmt_ray.base import MgmtError, file_checksum, fingerprint
from mgmt_ray.baselines.baseline_inputs import NO_BASELINES, Baselines
from mgmt_ray.baselines.fit_baselines import (
    describe_baselines,
    fit_baselines,
    predict_test,
    predict_validation,
)
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.prediction.access_log import (
    ResultKey,
    invalidate_results,
    is_evaluated,
    is_predicted,
    log_access,
    mark_results,
)
from mgmt_ray.prediction.predict_members import predict_members
from mgmt_ray.prediction.predict_slices import log_unannotated
from mgmt_ray.prediction.prediction_files import write_policies, write_slice_predictions
from mgmt_ray.selection.members import DIVERGED, choose_members
from mgmt_ray.selection.predictions import read_predictions, write_table
from mgmt_ray.splits.split import check_group_leakage, resolve_labels
from mgmt_ray.statistics.result_tables import TABLES_VERSION, evaluate_ensembles
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.held_out_set import HeldOutSet
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.training_config import EvaluationConfig
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.run_trial import input_checksums


@dataclass(frozen=True, slots=True)
class Members:
    """The trained models chosen on validation, in one order in all attributes.

    Attributes:
        table: a row per member: its trial, hyperparameters, epoch and validation result.
        trials: the members' trials.
        files: checksums of the files that each member was trained from.
    """

    table: pd.DataFrame
    trials: tuple[Trial, ...]
    files: tuple[dict[str, Any], ...]

    @property
    def dependencies(self) -> dict[str, Any]:
        """Everything that the members' predictions depend on, for a fingerprint."""
        weights = self.table[["trial", "weights_sha256"]].to_dict("list")
        return {"members": weights, "files": list(self.files)}

    @property
    def log_entry(self) -> dict[str, Any]:
        """Their number and the fingerprint of their names, for the test-set access log."""
        names = sorted(self.table["trial"])
        return {"num_members": len(names), "members": fingerprint(names)}


def select_members(trials: Sequence[Trial], inputs: TrialInputs) -> Members:
    """Choose the members on validation alone, out of all trials of a study.

    Raises:
        MgmtError: a trial is not finished, or was trained from other volumes or another checkpoint.
    """
    table = choose_members(_trial_table(trials, inputs))
    by_id = {trial.id: trial for trial in trials}
    chosen = tuple(by_id[name] for name in table["trial"])
    return Members(table, chosen, tuple(input_checksums(trial, inputs) for trial in chosen))


def run_ensemble(
    trials: Sequence[Trial],
    inputs: TrialInputs,
    evaluation: EvaluationConfig,
    resources: Resources,
    progress: Callable[[int, int], None],
    baselines: Baselines = NO_BASELINES,
) -> bool:
    """Choose members on validation, predict the test set with them, and write the tables.

    A member predicts only the test subjects of the split that it was trained in. Baseline models
    are fitted before the test set is read.

    Args:
        trials: all trials of the study.
        inputs: the study's folder, cohort and splits.
        evaluation: how often SpotTune's policy is drawn on the test set.
        resources: backend, and CPUs and GPUs per model.
        progress: called with (models done, members and baseline models in total).
        baselines: the study's baseline models.

    Returns:
        False if the tables were up to date and nothing was done.

    Raises:
        MgmtError: a trial is not finished, its weights were changed since it ended, or the volumes
            or the checkpoint that it was trained from were.
    """
    folder = inputs.folder
    members = select_members(trials, inputs)
    key = _result_key(members, inputs, evaluation, baselines)
    if is_evaluated(folder, key):
        return False
    has_predictions = is_predicted(folder, key)
    invalidate_results(folder)
    folder.mask_effect_table.unlink(missing_ok=True)  # it compares with the tables written here
    if not has_predictions:
        check_weights(members, inputs)
        _predict_all(members, inputs, evaluation, resources, progress, baselines)
    evaluate_ensembles(folder.root)
    mark_results(folder, key)
    return True


def _result_key(
    members: Members, inputs: TrialInputs, evaluation: EvaluationConfig, baselines: Baselines
) -> ResultKey:
    settings = {"evaluation": evaluation.model_dump(mode="json")}
    hashes = {"splits": [split.hash for split in inputs.splits]}
    covariates = {s.id: dict(s.covariates) for s in inputs.cohort.subjects}
    return ResultKey(
        fingerprint(members.dependencies | baselines.dependencies | hashes | settings),
        fingerprint({"version": TABLES_VERSION, "covariates": covariates}),
    )


def _predict_all(
    members: Members,
    inputs: TrialInputs,
    evaluation: EvaluationConfig,
    resources: Resources,
    progress: Callable[[int, int], None],
    baselines: Baselines,
) -> None:
    """Fit baseline models, read the test set, and write all models' predictions."""
    folder = inputs.folder
    num_models = baselines.num_models(inputs.splits)
    total = num_models + len(members.trials)
    cohort, splits = inputs.cohort, inputs.splits
    fitted = fit_baselines(
        baselines, cohort, splits, resources, lambda done, _: progress(done, total)
    )
    held_out = _open_test_sets(inputs, members)
    tasks = [(trial, held_out[trial.outer_fold]) for trial in members.trials]
    predicted = predict_members(
        tasks, inputs, evaluation, resources, lambda done, _: progress(num_models + done, total)
    )
    test = [predicted.table, *predict_test(fitted, baselines, held_out)]
    validation = _read_validation(members, folder)
    validation += predict_validation(fitted, baselines, cohort, splits)
    write_table(members.table, folder.ensembles / "members.csv")
    write_table(describe_baselines(fitted), folder.ensembles / "baselines.csv")
    write_table(pd.concat(test), folder.ensembles / "member_predictions.csv")
    write_table(pd.concat(validation), folder.ensembles / "validation_members.csv")
    write_policies(predicted.policies, folder)
    write_slice_predictions(predicted, folder)
    log_unannotated(predicted.slices, folder)


def check_weights(members: Members, inputs: TrialInputs) -> None:
    """Check that the members' weights are those that their trainings wrote.

    For slice classifiers, those of the segmentation of their fold are checked too.

    Raises:
        MgmtError: a file of weights is missing or has another checksum.
    """
    segmentations = [needed for trial in members.trials for needed in trial.needs[:1]]
    checksums = [
        *members.table["weights_sha256"],
        *(inputs.folder.read_trial(trial.id)["weights_sha256"] for trial in segmentations),
    ]
    for trial, checksum in zip([*members.trials, *segmentations], checksums, strict=True):
        path = inputs.folder.weights(trial.id)
        if not path.is_file() or file_checksum(path) != checksum:
            raise MgmtError(
                f"{path}: its checksum is not the one in trial.json, so it was changed or lost. "
                "Delete the trial's folder and rerun the study."
            )


def _read_validation(members: Members, folder: StudyFolder) -> list[pd.DataFrame]:
    """Return the members' predictions of their validation subjects, written by their trainings."""
    return [read_predictions(folder.trial(t.id) / "validation.csv") for t in members.trials]


def _trial_table(trials: Sequence[Trial], inputs: TrialInputs) -> pd.DataFrame:
    """Return a row per trial with its validation result; raise MgmtError if one is unfinished."""
    missing = [t for t in trials if not inputs.folder.is_finished(t.id)]
    if missing:
        raise MgmtError(
            f"{len(missing)} of {len(trials)} trials are not finished, the first is "
            f"{missing[0].id}. Run `mgmt-ray run` with the same study and --out."
        )
    diverged = {"rule": DIVERGED, "epoch": 0, "m": None}
    rows = []
    for trial in (t for t in trials if t.is_classifier):
        result = inputs.folder.read_trial(trial.id)
        selection = result.get("selection", diverged)
        rows.append(
            {
                "network": trial.network,
                "modality": trial.modality,
                "repeat": trial.repeat,
                "outer_fold": trial.outer_fold,
                "fold": trial.fold,
                "trial": trial.id,
                "hyperparameters": json.dumps(trial.hyperparameters),
                "rule": selection["rule"],
                "epoch": selection["epoch"],
                "validation_m": float("nan") if selection["m"] is None else selection["m"],
                "weights_sha256": result["weights_sha256"],
            }
        )
    return pd.DataFrame(rows)


def _open_test_sets(inputs: TrialInputs, members: Members) -> list[HeldOutSet]:
    """Log the access to the test set, and return each split's test subjects."""
    held_out = []
    for split in inputs.splits:
        check_group_leakage(split, inputs.cohort)
        label = resolve_labels(split, inputs.cohort)
        test = {subject: label[subject] for subject in split.test}
        held_out.append(HeldOutSet("test", inputs.folder, test, inputs.cohort))
    log_access(
        inputs.folder,
        {
            "purpose": "ensembles",
            "num_subjects": len({s for split in inputs.splits for s in split.test}),
            "split_hashes": [split.hash for split in inputs.splits],
            **members.log_entry,
        },
    )
    return held_out
