from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.datasets import read_data_set
from mgmt_ray.data.prepare_stores import prepare_volumes
from mgmt_ray.prediction.external_cohorts import check_external, predict_external
from mgmt_ray.prediction.test_set import run_ensemble
from mgmt_ray.trials.context import StudyContext
from tests.prediction.conftest import Trained

SMALL = {"random": {"kind": "random", "depth": 10, "width": 4}}
NESTED = {"folds": 2, "outer_folds": 2}


def no_progress(done: int, total: int) -> None:
    pass


def elsewhere(context: StudyContext, without_ph: int = 5) -> Cohort:
    """The same scans under other names; the first few have no PH."""
    subjects = [
        replace(s, id=f"X-{s.id}", person=f"X-{s.person}")
        for s in read_data_set(context.study.cohort).subjects
    ]
    without_scan = [
        replace(s, scans={m: path for m, path in s.scans.items() if m != "PH"})
        for s in subjects[:without_ph]
    ]
    return Cohort((*without_scan, *subjects[without_ph:]))


def evaluate(
    trained: Trained, external: Cohort | None, name: str = "elsewhere"
) -> tuple[bool, bool]:
    """Evaluate the study and the external cohort; return whether each was out of date."""
    context, inputs, trials = trained
    settings = (trials, inputs, no_progress)
    own = run_ensemble(*settings)
    if external is None:
        return own, False
    recipe = context.study.recipe.model_copy(update={"rounds": 0})
    folder = context.folder.external(name).volumes
    prepare_volumes(external, external.modalities, recipe, folder, context.resources, no_progress)
    return own, predict_external(name, external, *settings)


def test_an_external_cohort_is_predicted_by_all_members_and_changes_nothing_else(
    make_trained: Callable[..., Trained],
) -> None:
    trained = make_trained(networks=SMALL, split=NESTED)
    context, inputs, _ = trained
    ensembles, external_folder = (
        context.folder.ensembles,
        context.folder.external("elsewhere").ensembles,
    )
    evaluate(trained, None)
    names = ("members.csv", "metrics.csv", "predictions.csv", "test_openings.jsonl")
    before = {name: (ensembles / name).read_bytes() for name in names}
    (ensembles / "evaluated.json").unlink()  # all of it once more, with an external cohort
    (ensembles / "test_openings.jsonl").unlink()
    external = elsewhere(context)
    assert evaluate(trained, external) == (True, True)
    for name in names[:-1]:
        assert (ensembles / name).read_bytes() == before[name], name

    members = pd.read_csv(external_folder / "member_predictions.csv")
    assert set(members["split"]) == {"external"}
    assert set(members["outer_fold"]) == {0, 1}
    assert members.groupby("modality")["trial"].nunique().to_dict() == {"FLAIR": 4, "PH": 4}
    num_ph = sum("PH" in s.scans for s in external.subjects)
    assert 0 < num_ph < len(external.subjects)
    metrics = pd.read_csv(external_folder / "metrics.csv").set_index("ensemble")
    assert metrics["num_subjects"].to_dict() == {
        "DSC": num_ph,
        "Struct": len(external.subjects),
        "DSC+Struct": num_ph,
        "PH": num_ph,
        "FLAIR": len(external.subjects),
    }
    predictions = pd.read_csv(external_folder / "predictions.csv")
    struct = predictions[predictions["ensemble"] == "Struct"].set_index("subject")["probability"]
    mean = members[members["modality"] == "FLAIR"].groupby("subject")["probability"].mean()
    # the same mean in another order of summing
    assert struct.to_dict() == pytest.approx(mean.to_dict(), abs=1e-12)
    accesses = [json.loads(line) for line in (external_folder / "test_openings.jsonl").open()]
    assert [line["purpose"] for line in accesses] == ["external elsewhere"]
    assert accesses[0]["num_subjects"] == len(external.subjects)
    own = pd.read_csv(ensembles / "predictions.csv")
    tested = {s for split in inputs.splits for s in split.test}
    assert set(own["subject"]) == tested
    assert len(own[own["ensemble"] == "PH"]) == len(tested)


def test_a_changed_external_cohort_causes_no_test_set_access(
    make_trained: Callable[..., Trained],
) -> None:
    trained = make_trained(networks=SMALL, split={"folds": 2})
    context = trained[0]
    external = elsewhere(context)
    assert evaluate(trained, external) == (True, True)
    assert evaluate(trained, external) == (False, False)
    fewer = Cohort(external.subjects[1:])
    assert evaluate(trained, fewer) == (False, True)
    assert len(context.folder.test_openings.read_text(encoding="utf-8").splitlines()) == 1
    external_folder = context.folder.external("elsewhere")
    assert len(external_folder.test_openings.read_text(encoding="utf-8").splitlines()) == 2
    metrics = external_folder.ensembles / "metrics.csv"
    whole = metrics.read_bytes()
    metrics.unlink()
    assert evaluate(trained, fewer) == (False, True)
    assert metrics.read_bytes() == whole


def test_a_cohort_without_dsc_gets_the_structural_ensembles(
    make_trained: Callable[..., Trained],
) -> None:
    trained = make_trained(networks=SMALL, split={"folds": 2})
    evaluate(trained, elsewhere(trained[0], without_ph=1000))
    external_folder = trained[0].folder.external("elsewhere").ensembles
    assert pd.read_csv(external_folder / "metrics.csv")["ensemble"].tolist() == ["Struct", "FLAIR"]


def test_a_member_knows_and_predicts_the_subjects_of_its_own_split_only(
    make_trained: Callable[..., Trained],
) -> None:
    trained = make_trained(networks=SMALL, split={"folds": 2, "repeats": 2})
    context, inputs, trials = trained
    evaluate(trained, None)
    members = pd.read_csv(context.folder.ensembles / "member_predictions.csv")
    assert len(trials) == 2 * 2 * 2
    for trial in trials:
        tested = set(members.loc[members["trial"] == trial.id, "subject"])
        split = inputs.splits[trial.outer_fold]
        assert tested == set(split.test)
        validation = pd.read_csv(context.folder.trial(trial.id) / "validation.csv")
        assert set(validation["outer_fold"]) == {trial.outer_fold}
        assert set(validation["subject"]) <= set(split.folds[trial.fold])
        assert inputs.folder.read_trial(trial.id)["split_hash"] == split.hash
        assert f"_outer{trial.outer_fold}_" in trial.id
    (access,) = map(json.loads, context.folder.test_openings.open())
    assert access["split_hashes"] == [split.hash for split in inputs.splits]


def test_a_person_on_two_sides_of_a_split_prevents_test_set_access(
    make_trained: Callable[..., Trained],
) -> None:
    context, inputs, trials = make_trained(networks=SMALL, split={"folds": 2})
    both = (inputs.splits[0].test[0], inputs.splits[0].training[0])
    leaking = Cohort(
        tuple(replace(s, person="P" if s.id in both else "") for s in inputs.cohort.subjects)
    )
    with pytest.raises(MgmtError, match="person P would have two roles"):
        evaluate((context, replace(inputs, cohort=leaking), trials), None)
    assert not context.folder.test_openings.exists()


INPUTS = (("PH",), ("FLAIR",))


@pytest.fixture
def own(make_job: Callable[..., StudyContext]) -> Cohort:
    return Cohort(read_data_set(make_job().study.cohort).subjects)


def renamed(cohort: Cohort) -> list:
    return [replace(s, id=f"X-{s.id}", person=f"X-{s.person}") for s in cohort.subjects]


def test_a_person_of_the_study_is_not_predicted_as_external(own: Cohort) -> None:
    subjects = renamed(own)
    check_external("x", Cohort(tuple(subjects)), own, INPUTS)
    subjects[3] = replace(subjects[3], person=own.subjects[3].person)
    with pytest.raises(MgmtError, match=rf"external.x: {subjects[3].id} \(here .*x.exclude"):
        check_external("x", Cohort(tuple(subjects)), own, INPUTS)


def test_labels_that_must_be_fitted_are_not_external(own: Cohort) -> None:
    subjects = renamed(own)
    subjects[0] = replace(subjects[0], score=0.2)
    with pytest.raises(MgmtError, match=r"Set external\.x\.rule: stp27"):
        check_external("x", Cohort(tuple(subjects)), own, INPUTS)


def test_an_external_cohort_of_one_class_is_an_error_before_anything_is_trained(
    own: Cohort,
) -> None:
    subjects = [s if s.label else replace(s, scans={"FLAIR": Path("f")}) for s in renamed(own)]
    with pytest.raises(MgmtError, match="with PH are all of one class"):
        check_external("x", Cohort(tuple(subjects)), own, INPUTS)
    with pytest.raises(MgmtError, match="no subject has the scans"):
        check_external("x", Cohort(tuple(subjects)), own, (("T1",),))
