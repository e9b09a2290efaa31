from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mgmt_ray.nets.build import NetworkConfig
from mgmt_ray.report.paper_settings import (
    PARTS,
    covariates_sentence,
    settings_table,
    slice_settings_table,
    slice_statements,
)
from mgmt_ray.report.study_facts import study_statements
from mgmt_ray.report.study_results import (
    StudyResults,
    has_only_slice_networks,
    read_study_results,
    slice_networks,
)
from mgmt_ray.study.study_config import SlicePipelineConfig


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
    return parts | {"networks": {"spottune": network}, "num_seeds": 1}


def rows(results: StudyResults, **changes: Any) -> dict[str, tuple[str, ...]]:
    table = settings_table(replace(results, config=defaults() | changes))
    return {row[0]: row[1:] for row in table.rows} if table else {}


def test_the_papers_settings_are_no_table(results: StudyResults) -> None:
    assert settings_table(replace(results, config=defaults())) is None
    assert settings_table(replace(results, config={})) is None


def test_a_setting_that_differs_is_next_to_the_papers(results: StudyResults) -> None:
    training = defaults()["training"]
    changed = {**training, "batch_size": training["batch_size"] + 1}
    default = str(training["batch_size"])
    assert rows(results, training=changed) == {
        "training.batch_size": (str(training["batch_size"] + 1), default)
    }


def test_a_networks_setting_has_its_name(results: StudyResults) -> None:
    networks = {"small": {"kind": "random", "depth": 10, "covariates": ["age", "sex"]}}
    assert rows(results, networks=networks) == {
        "networks.small.depth": ("10", "50"),
        "networks.small.covariates": ("age, sex", "–"),
        "networks.small.initialisation": ("normal", "uniform"),
    }
    papers = {"random": {"kind": "random", "initialisation": "uniform"}}
    assert rows(results, networks=papers) == {}


def test_searched_values_and_repetitions_are_listed(results: StudyResults) -> None:
    empty = {"values": None, "range": None, "log": None}
    space = {
        "learning_rate": empty | {"values": [1e-05, 0.001]},
        "temperature": empty | {"log": [1, 100]},
    }
    assert rows(results, search={"space": space}, num_seeds=3) == {
        "search.space.learning_rate": ("1e-05, 0.001", "–"),
        "search.space.temperature": ("1 to 100", "–"),
        "num_seeds": ("3", "1"),
    }


def test_subjects_without_age_or_sex_are_counted(results: StudyResults) -> None:
    subjects = list(results.cohort.subjects)
    for place, known in enumerate(({"sex": "F"}, {"age": "unknown", "sex": ""}, {"sex": "M"})):
        subjects[place] = replace(subjects[place], covariates=known)
    config = {"networks": {"a": {"covariates": ["age"]}, "b": {"covariates": ["sex", "age"]}}}
    cohort = replace(results.cohort, subjects=tuple(subjects))
    assert covariates_sentence(replace(results, cohort=cohort, config=config)) == (
        "Unknown, and set to the mean of the training subjects: age of 3, sex of 1 of the "
        "120 subjects."
    )


def test_without_covariates_there_is_no_sentence(results: StudyResults) -> None:
    assert covariates_sentence(replace(results, config=defaults())) == ""


def configured(results: StudyResults, **networks: Any) -> StudyResults:
    config = dict(results.config) | {"networks": networks}
    return replace(results, config=config)


def slice_rows(results: StudyResults) -> dict[str, tuple[str, ...]]:
    table = slice_settings_table(results)
    return {row[0]: row[1:] for row in table.rows} if table else {}


def test_of_the_programs_defaults_cross_fitting_alone_is_not_the_papers(
    sliced_results: StudyResults,
) -> None:
    default = SlicePipelineConfig(kind="slices").model_dump(mode="json")
    changed = slice_rows(configured(sliced_results, chen=default))
    assert changed == {"networks.chen.cross_fitted": ("True", "False")}
    papers = configured(sliced_results, chen=default | {"cross_fitted": False})
    assert slice_settings_table(papers) is None


def test_settings_that_differ_stand_beside_the_papers(sliced_results: StudyResults) -> None:
    changed = slice_rows(
        replace(sliced_results, config=dict(sliced_results.config) | {"split": {"folds": 3}})
    )
    assert changed["networks.chen.width"] == ("8", "32")
    assert changed["networks.chen.segmentation.learning_rate"] == ("0.0005", "0.0001")
    assert changed["split.folds"] == ("3", "10")
    assert "networks.chen.classification.learning_rate" not in changed
    assert settings_table(sliced_results) is None


def test_a_study_of_both_kinds_describes_both(sliced_results: StudyResults) -> None:
    chen = sliced_results.config["networks"]["chen"]
    both = configured(sliced_results, chen=chen, random={"kind": "random", "depth": 10})
    assert list(slice_networks(both)) == ["chen"] and not has_only_slice_networks(both)
    assert settings_table(both) is not None
    statements = study_statements(both)
    for name in ("technology", "preprocessing", "ensembles"):
        alone = study_statements(sliced_results)[name]
        assert statements[name].endswith(alone) and len(statements[name]) > len(alone) + 20
    assert "chen: slices" not in statements["model"]


def test_a_study_of_volumes_has_no_statements_on_slices(sliced_results: StudyResults) -> None:
    volumes = configured(sliced_results, random={"kind": "random"})
    assert slice_statements(volumes) == {} and slice_settings_table(volumes) is None
    assert "slice" not in study_statements(volumes)["preprocessing"]


def test_what_was_done_with_slices_follows_from_the_study(sliced_results: StudyResults) -> None:
    statements = slice_statements(sliced_results)
    assert "48 × 48 pixels of 2 × 2 voxels" in statements["preprocessing"]
    assert "by networks that did not train on the patient" in statements["model"]


def test_nested_and_repeated_splits_are_not_the_papers(sliced_results: StudyResults) -> None:
    config = dict(sliced_results.config) | {"split": {"outer_folds": 5, "repeats": 2}}
    changed = slice_rows(replace(sliced_results, config=config))
    assert changed["split.outer_folds"] == ("5", "0")
    assert changed["split.repeats"] == ("2", "1")
    plain = dict(sliced_results.config) | {"split": {"outer_folds": 0, "repeats": 1}}
    assert not any("split" in key for key in slice_rows(replace(sliced_results, config=plain)))


def test_each_of_several_networks_says_how_it_was_balanced(sliced_results: StudyResults) -> None:
    first = SlicePipelineConfig(kind="slices", classification={"balance": "weight"})
    second = SlicePipelineConfig(kind="slices", classification={"balance": "none"})
    networks = {"one": first.model_dump(mode="json"), "two": second.model_dump(mode="json")}
    statements = slice_statements(configured(sliced_results, **networks))
    assert statements["imbalance"] == (
        "one: the loss of slice classifiers is weighted by class; two: slices of both classes are "
        "left as they are"
    )
    alone = slice_statements(configured(sliced_results, one=networks["one"]))
    assert statements["imbalance"].startswith(f"one: {alone['imbalance']}; two: ")
