"""Every option that the paper discusses, through whole studies, each as small as can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort, read_cohort
from mgmt_ray.pipeline.stages import bring_up_to_date, train
from mgmt_ray.prediction.predict_members import predict_members
from mgmt_ray.splits.split import read_splits
from mgmt_ray.study.held_out_set import HeldOutSet
from mgmt_ray.trials.context import StudyContext
from mgmt_ray.trials.run_trial import run_trial
from tests.run_stages import prepared

SMALL = {"depth": 10, "width": 4, "agent_width": 2}
TRAINING = {
    "epochs": 2,
    "batch_size": 12,
    "learning_rate": 0.005,
    "temperature": 1.0,
    "validation_draws": 4,
}
RECIPE = {
    "window": [[2, 22], [2, 26], [2, 26]],
    "shape": [10, 12, 12],
    "deform_sigma_voxels": 0.5,
    "noise_std": 0.02,
}


def test_a_study_with_every_option_runs_from_scans_to_report(
    make_job: Callable[..., StudyContext],
) -> None:
    options = {"dropout": 0.3, "covariates": ["age", "sex"]}
    context = make_job(
        recipe=RECIPE | {"rounds": 2},
        inputs=[["PH", "FLAIR"]],
        networks={
            "spottune": {"kind": "spottune", **SMALL, **options},
            "partly": {"kind": "transfer", **SMALL, **options, "trainable_blocks": 2},
            "scratch": {"kind": "random", **SMALL, "depth": 18, **options},
        },
        training=TRAINING | {"balance": "weight", "schedule": "cosine"},
        evaluation={"draws": 16, "kind": "sobol"},
    )
    bring_up_to_date(context)
    cohort = {s.id: s for s in read_cohort(context.folder.root).subjects}
    (split,) = read_splits(context.folder.splits)
    members = pd.read_csv(context.folder.ensembles / "members.csv")
    assert len(members) == 3 * 2
    for row in members.itertuples():
        trial = context.folder.read_trial(row.trial)
        with_scans = {name for name, s in cohort.items() if s.has_all(["PH", "FLAIR"])}
        ids, _ = split.fold(trial["fold"], with_scans)
        # the original and two rounds of four, of everybody: nothing is pruned
        assert trial["num_train_volumes"] == 9 * len(ids)
        ages = np.array([float(cohort[s].covariates["age"]) for s in ids])
        weights = load_file(context.folder.trial(row.trial) / "weights.safetensors")
        # float32 has 24 bits
        assert weights["covariate_head.mean"][0] == pytest.approx(ages.mean(), rel=1e-6)
        assert weights["covariate_head.std"][0] == pytest.approx(ages.std(), rel=1e-6)
        assert trial["covariates"]["age"]["mean"] == pytest.approx(ages.mean(), rel=1e-6)
        assert trial["covariates"]["sex"] == {"mean": 0.0, "std": 1.0}
        epochs = pd.read_csv(context.folder.trial(row.trial) / "epochs.csv")
        # half a cosine over two epochs
        assert epochs["lr_network"].tolist() == pytest.approx([0.005, 0.0025])
    predictions = pd.read_csv(context.folder.ensembles / "member_predictions.csv")
    assert set(predictions["subject"]) == set(split.test)
    assert predictions["probability"].between(0, 1).all()
    assert (predictions["probability_std"] > 0).sum() == (
        predictions["network"] == "spottune"
    ).sum()
    assert (context.folder.root / "report.html").is_file()


def test_a_trial_of_other_ages_is_not_taken_for_finished(
    make_job: Callable[..., StudyContext],
) -> None:
    network = {"kind": "transfer", **SMALL, "covariates": ["age"]}
    context = make_job(networks={"transfer": network}, inputs=[["FLAIR"]], training=TRAINING)
    inputs, (trial, *_) = prepared(context)
    run_trial(trial, inputs, "cpu")
    older = tuple(
        replace(s, covariates={**s.covariates, "age": str(number)})
        for number, s in enumerate(inputs.cohort.subjects, 30)
    )
    with pytest.raises(MgmtError, match=r"other files \(covariates_checksum differ"):
        run_trial(trial, replace(inputs, cohort=Cohort(older)), "cpu")


def test_nothing_is_learnt_from_the_age_of_those_who_do_not_train(
    make_job: Callable[..., StudyContext],
) -> None:
    network = {"kind": "transfer", **SMALL, "covariates": ["age", "sex"]}
    context = make_job(networks={"transfer": network}, inputs=[["FLAIR"]], training=TRAINING)
    inputs, (trial, *_) = prepared(context)
    training = set(inputs.splits[0].training) - set(inputs.splits[0].folds[trial.fold])
    learnt = []
    for age in ("20", "", "80"):
        changed = tuple(
            s if s.id in training else replace(s, covariates={"age": age, "sex": "F"})
            for s in inputs.cohort.subjects
        )
        other = replace(trial, hash=f"{age:0>10}", name=f"age{age}")
        run_trial(other, replace(inputs, cohort=Cohort(changed)), "cpu")
        # which epoch is kept may differ: that is what validation is for
        epochs = pd.read_csv(context.folder.trial(other.id) / "epochs.csv")
        scaling = context.folder.read_trial(other.id)["covariates"]
        learnt.append((scaling, epochs["train_loss"].tolist(), epochs["train_auc"].tolist()))
    assert learnt[0] == learnt[1] == learnt[2]
    assert epochs["validation_loss"].notna().all()


def test_a_subject_is_predicted_with_its_own_age(make_job: Callable[..., StudyContext]) -> None:
    network = {"kind": "random", **SMALL, "covariates": ["sex", "age"]}
    context = make_job(networks={"random": network}, inputs=[["FLAIR"]], training=TRAINING)
    inputs, (trial, *_) = prepared(context)
    run_trial(trial, inputs, "cpu")
    label = {s.id: s.label for s in inputs.cohort.subjects if s.id in inputs.splits[0].test}
    older = tuple(label)[1]
    aged = tuple(
        replace(s, covariates={**s.covariates, "age": "99"}) if s.id == older else s
        for s in inputs.cohort.subjects
    )
    first, second = (
        predict_members(
            [(trial, HeldOutSet("test", inputs.folder, label, cohort))],
            inputs,
            lambda done, number: None,
        )
        for cohort in (inputs.cohort, Cohort(aged))
    )
    changed = first.table["probability"] != second.table["probability"]
    assert first.table.loc[changed, "subject"].tolist() == [older]


def test_every_option_is_repeatable_to_the_bit(make_job: Callable[..., StudyContext]) -> None:
    settings = {"dropout": 0.3, "covariates": ["age", "sex"]}
    checksums = []
    for out in ("first", "second"):
        context = make_job(
            out=out,
            networks={"spottune": {"kind": "spottune", **SMALL, **settings}},
            inputs=[["FLAIR"]],
            training=TRAINING | {"balance": "weight", "monitor": "m", "patience": 0},
        )
        inputs, trials = prepared(context)
        train(trials[:1], inputs)
        checksums.append(context.folder.read_trial(trials[0].id)["weights_sha256"])
    assert checksums[0] == checksums[1]


def test_a_trial_keeps_the_epoch_of_the_highest_accuracy_plus_auc(
    make_job: Callable[..., StudyContext],
) -> None:
    choosing = {"criterion": "accuracy_auc", "min_sensitivity": 0.0, "min_specificity": 0.0}
    context = make_job(
        networks={"random": {"kind": "random", "depth": 10, "width": 4}},
        inputs=[["FLAIR"]],
        training=TRAINING | choosing | {"epochs": 4},
    )
    inputs, (trial, *_) = prepared(context)
    run_trial(trial, inputs, "cpu")
    selection = context.folder.read_trial(trial.id)["selection"]
    epochs = pd.read_csv(context.folder.trial(trial.id) / "epochs.csv")
    kept = epochs.query("epoch == @selection['epoch']").iloc[0]
    validation = pd.read_csv(context.folder.trial(trial.id) / "validation.csv")
    accuracy = ((validation["probability"] >= 0.5) == (validation["label"] == 1)).mean()
    assert kept["validation_accuracy"] == pytest.approx(accuracy, rel=1e-12)
    passing = epochs[(epochs["validation_sen"] > 0) & (epochs["validation_spe"] > 0)]
    sums = passing["validation_accuracy"] + passing["validation_auc"]
    expected = ("last_epoch", 4)
    if len(passing):
        expected = ("best_accuracy_auc", passing.loc[sums.round(12).idxmax(), "epoch"])
    assert (selection["rule"], selection["epoch"]) == expected
