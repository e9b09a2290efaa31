from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mgmt_ray.nets.build import NetworkConfig
from mgmt_ray.report.gather import StudyResults, read_study_results
from mgmt_ray.report.paper_settings import PARTS, covariates_sentence, settings_table


@pytest.fixture(scope="module")
def results(study: Path) -> StudyResults:
    return read_study_results(study)


def defaults() -> dict[str, Any]:
    """Every key that has a default, written as a resolved study is."""
    network = NetworkConfig(kind="spottune").model_dump(mode="json")
    window = {"window": [[0, 140], [39, 211], [44, 208]], "shape": [70, 86, 86]}
    parts = {
        name: kind.model_validate(window if name == "recipe" else {}).model_dump(mode="json")
        for name, kind in PARTS.items()
    }
    return parts | {"networks": {"spottune": network}, "num_seeds": 1, "sweep": {}}


def rows(results: StudyResults, **changes: Any) -> dict[str, tuple[str, ...]]:
    table = settings_table(replace(results, config=defaults() | changes))
    return {row[0]: row[1:] for row in table.rows} if table else {}


def test_the_papers_settings_are_no_table(results: StudyResults) -> None:
    assert settings_table(replace(results, config=defaults())) is None
    assert settings_table(replace(results, config={})) is None


def test_a_setting_that_differs_stands_beside_the_papers(results: StudyResults) -> None:
    training = defaults()["training"]
    changed = {**training, "batch_size": training["batch_size"] + 1}
    default = str(training["batch_size"])
    assert rows(results, training=changed) == {
        "training.batch_size": (str(training["batch_size"] + 1), default)
    }


def test_a_networks_setting_is_told_with_its_name(results: StudyResults) -> None:
    networks = {"small": {"kind": "random", "depth": 10, "covariates": ["age", "sex"]}}
    assert rows(results, networks=networks) == {
        "networks.small.depth": ("10", "50"),
        "networks.small.covariates": ("age, sex", "–"),
    }


def test_what_is_swept_and_repeated_is_told(results: StudyResults) -> None:
    swept = {"learning_rate": [1e-05, 0.001], "weight_decay": []}
    assert rows(results, sweep=swept, num_seeds=3) == {
        "sweep.learning_rate": ("1e-05, 0.001", "–"),
        "num_seeds": ("3", "1"),
    }


def test_subjects_without_age_or_sex_are_counted(results: StudyResults) -> None:
    subjects = list(results.cohort.subjects)
    for place, known in enumerate(({"sex": "F"}, {"age": "unknown", "sex": ""}, {"sex": "M"})):
        subjects[place] = replace(subjects[place], covariates=known)
    config = {"networks": {"a": {"covariates": ["age"]}, "b": {"covariates": ["sex", "age"]}}}
    cohort = replace(results.cohort, subjects=tuple(subjects))
    assert covariates_sentence(replace(results, cohort=cohort, config=config)) == (
        "Not known, and taken to be the mean of the training subjects: age of 3, sex of 1 of the "
        "120 subjects."
    )


def test_without_covariates_there_is_no_sentence(results: StudyResults) -> None:
    assert covariates_sentence(replace(results, config=defaults())) == ""
