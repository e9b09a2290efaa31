from __future__ import annotations

import math
from itertools import chain

import pytest

from mgmt_ray.search.suggestions import Result, key_of, space_of, suggest
from mgmt_ray.study.search_config import Values
from mgmt_ray.study.study_config import StudyConfig

SPACE = {
    "learning_rate": {"log": [1e-6, 1e-1]},
    "temperature": {"values": [1, 10, 100]},
    "epochs": {"range": [2, 9]},
}


def make_study(**search: object) -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "name": "small",
            "cohort": {"reader": "upenn", "root": "data", "modalities": ["PH"]},
            "networks": {"tuned": {"kind": "spottune"}, "scratch": {"kind": "random"}},
            "search": {"space": SPACE, "configurations": 6} | search,
        }
    )


def values(study: StudyConfig, network: str = "tuned", limit: int | None = 6) -> list[Values]:
    return [*chain(*suggest(study, network, limit, lambda _: None))]


def test_random_draws_are_repeatable_and_more_of_them_continue() -> None:
    study = make_study()
    few, many = values(study, limit=6), values(study, limit=40)
    assert many[:6] == few == values(make_study(), limit=6)
    assert len({key_of(v) for v in many}) == 40
    assert all(1e-6 <= v["learning_rate"] <= 1e-1 for v in many)
    assert {v["epochs"] for v in many} == {*range(2, 10)}
    # uniform in the logarithm: a third of the draws per 5/3 decades; 13 ± 4 standard errors of 3
    assert 1 <= sum(v["learning_rate"] < 10 ** (-6 + 5 / 3) for v in many) <= 25


def test_a_further_key_leaves_the_draws_of_the_others() -> None:
    fewer = make_study(space={key: SPACE[key] for key in ("learning_rate", "epochs")})
    kept = [{key: v[key] for key in ("learning_rate", "epochs")} for v in values(make_study())]
    assert values(fewer) == kept


def test_a_network_without_an_agent_has_the_rest_of_the_space() -> None:
    assert {*space_of(make_study(), "scratch")} == {"learning_rate", "epochs"}
    assert [v["learning_rate"] for v in values(make_study(), "scratch")] == [
        v["learning_rate"] for v in values(make_study())
    ]


def test_a_finite_space_ends() -> None:
    space = {"epochs": {"range": [1, 3]}, "temperature": {"values": [1, 10]}}
    study = make_study(space=space, configurations=50)
    assert len(values(study, limit=50)) == 6
    assert len(values(study, "scratch", limit=50)) == 3


def test_a_grid_is_every_combination_after_the_start() -> None:
    space = {"epochs": {"values": [1, 2]}, "temperature": {"values": [1, 10]}}
    start = [{"epochs": 2, "temperature": 10}]
    study = make_study(method="grid", space=space, start=start, configurations=None)
    given = [(v["epochs"], v["temperature"]) for v in values(study, limit=None)]
    assert given == [(2, 10), (1, 1), (1, 10), (2, 1)]


def test_hours_cut_a_search_into_generations() -> None:
    study = make_study(configurations=None, hours=1, generation=4)
    assert [len(g) for g in suggest(study, "tuned", 10, lambda _: None)] == [4, 4, 2]


def surface(given: Values) -> Result:
    """Best at a rate of 1e-3 and τ of 10."""
    value = 1 - abs(math.log10(float(given["learning_rate"])) + 3) / 4
    return Result("finished", value - 0.2 * (given["temperature"] != 10), 0, 9)


def all_told(study: StudyConfig, limit: int) -> list[Values]:
    known: list[Values] = []
    while True:
        told = {key_of(v) for v in known}

        def result_of(v: Values, told: set[str] = told) -> Result | None:
            return surface(v) if key_of(v) in told else None

        generations = suggest(study, "tuned", limit, result_of)
        if [*chain(*generations)] == known:
            return known
        known = [*chain(*generations)]


def test_optuna_is_repeatable_continues_and_finds_the_best() -> None:
    pytest.importorskip("optuna")
    study = make_study(method="optuna", generation=5)
    many = all_told(study, 40)
    assert all_told(study, 12) == many[:12]
    assert len(many) == 40
    best = max(many, key=lambda v: surface(v).value)
    assert best["temperature"] == 10
    assert 3e-4 < best["learning_rate"] < 3e-3


@pytest.mark.parametrize("network", ["tuned", "scratch"])
def test_optuna_takes_diverged_and_stopped_configurations(network: str) -> None:
    study = make_study(method="optuna", generation=2)
    results = [Result("diverged", math.nan, 0, 0), Result("stopped", 0.4, 1, 3)]
    told = {key_of(v): results[i % 2] for i, v in enumerate(values(study, network, 2))}
    generations = suggest(study, network, 4, lambda v: told.get(key_of(v)))
    assert [len(g) for g in generations] == [2, 2]
