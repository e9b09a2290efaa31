from dataclasses import replace
from pathlib import Path

import pytest

from mgmt_ray.splits.split import Split
from mgmt_ray.study.plan import Unit, make_plan
from mgmt_ray.study.study_config import StudyConfig, load_study

SPLIT = Split(test=("a",), folds=(("b",), ("c",)), left_out=(), seed=0, cohort="x")
SPLITS = (SPLIT,)
STUDIES = Path(__file__).parents[2] / "jobs" / "studies"


def make_study(**changes: object) -> StudyConfig:
    content = {
        "name": "small",
        "cohort": {"reader": "upenn", "root": "data", "modalities": ["PH", "FA"]},
        "networks": {"spottune": {"kind": "spottune"}, "random": {"kind": "random"}},
        "split": {"folds": 2},
    }
    return StudyConfig.model_validate(content | changes)


def test_the_paper_is_165_trainings(tmp_path: Path) -> None:
    study = load_study(STUDIES / "schmitz2024.yaml", data=tmp_path)
    folds = tuple((name,) for name in "bcdef")
    plan = make_plan(study, (replace(SPLIT, folds=folds),))
    assert len(plan) == 165
    assert len({trial.id for trial in plan}) == 165


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("transfer2", 4 * 5),
        ("channels", 5),
        ("search", 11 * 5),
        ("scan_epochs", 11 * 5),
        ("scan_rate", 11 * 5),
        ("scan_temperature", 11 * 5),
    ],
)
def test_the_papers_other_trainings_are_as_its_165_but_for_what_they_vary(
    name: str, number: int, tmp_path: Path
) -> None:
    paper = load_study(STUDIES / "schmitz2024.yaml", data=tmp_path)
    study = load_study(STUDIES / f"schmitz2024_{name}.yaml", data=tmp_path)
    changed = {"name", "inputs", "networks", "search", "baselines"}
    assert study.model_dump(exclude=changed) == paper.model_dump(exclude=changed)
    folds = tuple((name,) for name in "bcdef")
    plan = make_plan(study, (replace(SPLIT, folds=folds),))
    assert len(plan) == len({trial.id for trial in plan}) == number


@pytest.mark.parametrize("kind", ["spottune", "slices"])
def test_an_id_does_not_depend_on_what_is_left_to_the_device(kind: str) -> None:
    def ids(settings: dict[str, object]) -> list[str]:
        network = {"kind": kind, "segmentation": settings} if kind == "slices" else {"kind": kind}
        training = {} if kind == "slices" else {"training": settings}
        study = make_study(networks={"some": network}, **training)
        return [trial.id for trial in make_plan(study, SPLITS)]

    assert ids({"precision": "auto", "compile": "auto"}) == ids({})
    assert not set(ids({"precision": "bf16"})) & set(ids({}))
    assert not set(ids({"compile": True})) & set(ids({}))


def test_an_id_holds_all_that_determines_the_result() -> None:
    base = make_study()
    first = make_plan(base, SPLITS)[0]
    changed = [
        make_study(training={"epochs": 3}),
        make_study(recipe={"noise_std": 0.2}),
        make_study(seed=1),
        *(
            make_study(networks={"spottune": {"kind": "spottune", **settings}})
            for settings in (
                {"width": 8},
                {"dropout": 0.2},
                {"covariates": ["age"]},
                {"covariates": ["sex", "age"]},
                {"start_from": "trials/one_1234"},
                {"start_from": "trials/one_5678"},
            )
        ),
        *(
            make_study(training=settings)
            for settings in (
                {"schedule": "cosine"},
                {"schedule": "constant"},
                {"monitor": "m"},
                {"balance": "weight"},
            )
        ),
        make_study(recipe={"rounds": 2}),
    ]
    other_split = Split(test=("b",), folds=(("a",), ("c",)), left_out=(), seed=0, cohort="x")
    ids = {make_plan(study, SPLITS)[0].id for study in changed}
    ids |= {first.id, make_plan(base, (other_split,))[0].id}
    assert len(ids) == len(changed) + 2


def test_an_id_does_not_hold_where_files_are_or_what_does_not_concern_it() -> None:
    ids = [t.id for t in make_plan(make_study(), SPLITS)]
    moved = make_study(cohort={"reader": "upenn", "root": "elsewhere", "modalities": ["PH", "FA"]})
    assert [t.id for t in make_plan(moved, SPLITS)] == ids
    evaluated = make_study(evaluation={"draws": 7}, checkpoint="other.pth")
    assert [t.id for t in make_plan(evaluated, SPLITS)] == ids
    started = [
        make_study(networks={"random": {"kind": "random", "start_from": f"{folder}/one_1234"}})
        for folder in ("here/trials", "there/trials")
    ]
    assert make_plan(started[0], SPLITS)[0].id == make_plan(started[1], SPLITS)[0].id
    fewer = make_study(cohort={"reader": "upenn", "root": "data", "modalities": ["PH"]})
    assert {t.id for t in make_plan(fewer, SPLITS)} <= set(ids)


CHOICES = {
    Unit("spottune", (), 0): {"learning_rate": 1e-3, "temperature": 10},
    Unit("random", (), 0): {"learning_rate": 1e-4},
}


def test_a_chosen_configuration_is_trained_as_a_study_of_its_values_would_be() -> None:
    plan = make_plan(make_study(), SPLITS, CHOICES)
    training = {"learning_rate": 1e-3, "temperature": 10}
    plain = make_plan(make_study(training=training), SPLITS)
    spottune = [t for t in plan if t.network == "spottune"]
    assert [t.hash for t in spottune] == [t.hash for t in plain if t.network == "spottune"]
    assert [t.seed for t in plan] == [t.seed for t in plain]
    assert spottune[0].name == "spottune_PH_lr1e-3_T10_fold0_seed0"
    assert plain[0].name == "spottune_PH_fold0_seed0"
    assert {t.training_config.learning_rate for t in plan if t.network == "random"} == {1e-4}


def test_an_input_may_have_its_own_configuration() -> None:
    space = {"learning_rate": {"values": [1e-3, 1e-4]}}
    study = make_study(search={"method": "grid", "space": space, "unit": "per_input"})
    choices = {Unit("random", ("PH",), 0): {"learning_rate": 1e-3}}
    plan = make_plan(study, SPLITS, choices)
    changed = {(t.network, t.modality) for t in plan if t.hyperparameters}
    assert changed == {("random", "PH")}


def test_channels_are_one_input() -> None:
    plan = make_plan(make_study(inputs=[["PH", "FA"]]), SPLITS)
    assert {t.modality for t in plan} == {"PH+FA"}


@pytest.mark.parametrize("number", [1, 3])
def test_seeds_repeat_every_training(number: int) -> None:
    plan = make_plan(make_study(num_seeds=number), SPLITS)
    assert len(plan) == 2 * 2 * 2 * number
    assert len({t.seed for t in plan}) == len(plan)


def test_every_split_has_its_own_trials_and_draws() -> None:
    study = make_study(inputs=[["PH"]], networks={"random": {"kind": "random"}})
    (first, *_) = make_plan(study, SPLITS)
    assert first.name == "random_PH_fold0_seed0"
    other = Split(
        test=("b",), folds=(("a",), ("c",)), left_out=(), seed=0, cohort="x", outer_fold=1
    )
    plan = make_plan(study, (SPLIT, other))
    assert [(t.outer_fold, t.fold) for t in plan] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [t.name for t in plan][::3] == [
        "random_PH_outer0_fold0_seed0",
        "random_PH_outer1_fold1_seed0",
    ]
    assert len({t.seed for t in plan}) == len({t.id for t in plan}) == 4
