"""Decisions of a search on trials' folders that are written by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.search.run_search import next_work, propose, savings, write_choice
from mgmt_ray.search.scores import Results, search_table
from mgmt_ray.splits.split import Split
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.search_choice import chosen_plan
from mgmt_ray.study.study_config import StudyConfig
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import TrialInputs

SPLITS = (Split(test=("a",), folds=(("b",), ("c",)), left_out=(), seed=0, cohort="x"),)


def make_inputs(root: Path, space: dict[str, object], **search: object) -> TrialInputs:
    study = StudyConfig.model_validate(
        {
            "name": "small",
            "cohort": {"reader": "upenn", "root": "data", "modalities": ["PH"]},
            "networks": {"scratch": {"kind": "random"}},
            "training": {"epochs": 9, "schedule": "constant"},
            "search": {"method": "grid", "space": space} | search,
        }
    )
    cohort = Cohort((), ())
    return TrialInputs(study, StudyFolder(root), Resources(), cohort=cohort, splits=SPLITS)


def train(inputs: TrialInputs, trial: Trial, epochs: int, rates: tuple[float, float]) -> None:
    """Write what a training leaves that went on with epochs of these rates."""
    folder = inputs.folder
    earlier = folder.partial_trial(trial.id) / "epochs.csv"
    before = pd.read_csv(earlier).to_dict("records") if earlier.exists() else []
    finished = epochs == trial.training_config.epochs
    path = folder.trial(trial.id) if finished else folder.partial_trial(trial.id)
    path.mkdir(parents=True, exist_ok=True)
    sen, spe = rates
    rows = [
        {
            "epoch": number,
            "train_auc": 0.9,
            "validation_auc": 0.6,
            "validation_sen": sen,
            "validation_spe": spe,
            "validation_m": 0.5,
            "seconds": 2.0,
        }
        for number in range(len(before) + 1, epochs + 1)
    ]
    pd.DataFrame([*before, *rows]).to_csv(path / "epochs.csv", index=False)
    if finished:
        (path / "trial.json").write_text(json.dumps({"status": "finished"}))
    else:
        folder.record_pause(trial.id, epochs)


def test_a_search_trains_the_best_third_further_and_chooses_by_qualifying_folds(
    tmp_path: Path,
) -> None:
    rates = [1e-1, 1e-2, 1e-3, 1e-4]
    inputs = make_inputs(tmp_path, {"learning_rate": {"values": rates}}, stop_early=True)
    results, search = Results(inputs.folder), inputs.study.search
    assert search is not None
    candidates = propose(inputs, results, None)
    work = next_work(candidates, results, search)
    assert {*work.pause_at.values()} == {1} and len(work.trials) == 4 * 2
    for number, candidate in enumerate(candidates):
        for trial in candidate.trials:
            # of the second each fold qualifies, the others call everybody methylated
            train(inputs, trial, 1, (0.6, 0.6) if number == 1 else (1.0, 0.1 * number))
    work = next_work(candidates, results, search)
    promoted = [*candidates[1].trials, *candidates[3].trials]
    assert [t.id for t in work.trials] == [t.id for t in promoted]
    assert {*work.pause_at.values()} == {3}
    for trial in promoted:
        train(inputs, trial, 3, (0.7, 0.7) if trial in candidates[3].trials else (0.6, 0.6))
    work = next_work(candidates, results, search)
    assert [t.id for t in work.trials] == [t.id for t in candidates[3].trials]
    assert not work.pause_at
    for trial in candidates[3].trials:
        train(inputs, trial, 9, (0.8, 0.8))
    assert not next_work(candidates, results, search).trials
    assert savings(candidates, results) == (2 * (1 + 3 + 1 + 9), 4 * 2 * 9)

    with pytest.raises(MgmtError, match="search: is not finished"):
        chosen_plan(inputs.study, inputs.folder, SPLITS)
    write_choice(inputs, candidates, results)
    plan = chosen_plan(inputs.study, inputs.folder, SPLITS)
    assert [t.id for t in plan] == [t.id for t in candidates[3].trials]
    table = pd.read_csv(inputs.folder.search_table)
    assert table["state"].tolist() == ["stopped", "stopped", "stopped", "finished"]
    assert table["chosen"].tolist() == [0, 0, 0, 1]
    assert table["epochs_trained"].tolist() == [2, 6, 2, 18]
    assert table["m"].round(6).tolist()[3] == table["m_fold0"].round(6).tolist()[3]


def test_trainings_that_differ_in_epochs_are_one(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, {"epochs": {"values": [3, 9, 6]}})
    results, search = Results(inputs.folder), inputs.study.search
    assert search is not None
    candidates = propose(inputs, results, None)
    work = next_work(candidates, results, search)
    assert [t.id for t in work.trials] == [t.id for t in candidates[1].trials]
    of_longest = work.shorter[candidates[1].trials[0].id]
    assert {t.training_config.epochs for t in of_longest} == {3, 6}
    # one that has passed the end of another, which was added later, can't finish it any more
    train(inputs, candidates[1].trials[0], 4, (0.6, 0.6))
    work = next_work(candidates, results, search)
    assert candidates[0].trials[0].id in {t.id for t in work.trials}
    assert {t.training_config.epochs for t in work.shorter[candidates[1].trials[0].id]} == {6}


def test_a_cosine_has_no_beginning_in_common(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, {"epochs": {"values": [3, 9]}})
    training = inputs.study.training.model_copy(update={"schedule": "cosine"})
    study = inputs.study.model_copy(update={"training": training})
    inputs = TrialInputs(
        study, inputs.folder, inputs.resources, cohort=inputs.cohort, splits=SPLITS
    )
    results, search = Results(inputs.folder), study.search
    assert search is not None
    work = next_work(propose(inputs, results, None), results, search)
    assert len(work.trials) == 4 and not work.shorter


def test_the_table_of_a_search_that_has_not_begun_is_whole(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, {"learning_rate": {"values": [0.1, 0.2]}})
    results = Results(inputs.folder)
    table = search_table(propose(inputs, results, None), results)
    assert table["state"].tolist() == ["to do", "to do"]
    assert table["num_qualified"].tolist() == table["chosen"].tolist() == [0, 0]
