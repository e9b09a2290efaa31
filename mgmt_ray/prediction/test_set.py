"""Evaluate on the test set: the models chosen on validation predict it and are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from mgmt_ray.baselines.baseline_inputs import NO_BASELINES, Baselines
from mgmt_ray.baselines.fit_baselines import (
    FittedBaseline,
    describe_baselines,
    fit_baselines,
    predict_test,
    predict_validation,
)
from mgmt_ray.cluster.progress import ProgressCallback
from mgmt_ray.prediction.access_log import is_predicted
from mgmt_ray.prediction.evaluation import Target, evaluate, select_members, sets_by_split
from mgmt_ray.prediction.prediction_files import MemberPredictions, write_predictions
from mgmt_ray.prediction.protocol import declare_protocol, make_protocol
from mgmt_ray.selection.predictions import read_predictions, write_table
from mgmt_ray.statistics.result_tables import evaluate_ensembles
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import TrialInputs


def run_ensemble(
    trials: Sequence[Trial],
    inputs: TrialInputs,
    progress: ProgressCallback,
    baselines: Baselines = NO_BASELINES,
) -> bool:
    """Choose members on validation, predict the test set with them, and write the tables.

    A member predicts only the test subjects of the split that it was trained in. Before the test
    set is read, baseline models are fitted and ``protocol.json`` says what was decided.

    Returns:
        False if the tables were up to date and nothing was done.

    Raises:
        MgmtError: a trial is not finished, its weights were changed since it ended, or the volumes
            or the checkpoint that it was trained from were.
    """
    folder, cohort, splits = inputs.folder, inputs.cohort, inputs.splits
    members = select_members(trials, inputs)
    held_out = sets_by_split(inputs, folder, cohort)
    hashes = [split.hash for split in splits]
    key = members.result_key(
        inputs.study,
        baselines.dependencies | {"splits": hashes},
        {"covariates": {s.id: dict(s.covariates) for s in cohort.subjects}},
    )
    num_models = baselines.num_models(splits)
    total = num_models + len(members.trials)
    has_predictions = is_predicted(folder, key)
    fitted: list[FittedBaseline] = []
    if not has_predictions:
        fitted = fit_baselines(
            baselines, cohort, splits, inputs.resources, lambda done, _: progress(done, total)
        )
        declare_protocol(folder, make_protocol(trials, members, inputs))

    def write(predicted: MemberPredictions) -> None:
        test = [predicted.table, *predict_test(fitted, baselines, held_out)]
        validation = [
            read_predictions(folder.trial(t.id) / "validation.csv") for t in members.trials
        ]
        validation += predict_validation(fitted, baselines, cohort, splits)
        write_table(members.table, folder.ensembles / "members.csv")
        write_table(describe_baselines(fitted), folder.ensembles / "baselines.csv")
        write_table(pd.concat(validation), folder.ensembles / "validation_members.csv")
        write_predictions(replace(predicted, table=pd.concat(test)), folder)

    def summarise() -> None:
        folder.mask_effect_table.unlink(missing_ok=True)  # compares with the tables written here
        evaluate_ensembles(folder.root)

    subjects = {
        "num_subjects": len({s for split in splits for s in split.test}),
        "split_hashes": hashes,
    }
    tasks = [(t, held_out[t.outer_fold].having(t.channels)) for t in members.trials]
    target = Target("ensembles", subjects, tasks, folder, folder, key, write, summarise)
    return evaluate(target, members, inputs, lambda done, _: progress(num_models + done, total))
