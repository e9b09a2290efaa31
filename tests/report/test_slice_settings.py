from __future__ import annotations

from dataclasses import replace
from typing import Any

from mgmt_ray.report.gather import StudyResults, has_only_slice_networks, slice_networks
from mgmt_ray.report.paper_settings import settings_table, slice_settings_table, slice_statements
from mgmt_ray.report.study_facts import study_statements
from mgmt_ray.study.study_config import SlicePipelineConfig


def configured(results: StudyResults, **networks: Any) -> StudyResults:
    config = dict(results.config) | {"networks": networks}
    return replace(results, config=config)


def rows(results: StudyResults) -> dict[str, tuple[str, ...]]:
    table = slice_settings_table(results)
    return {row[0]: row[1:] for row in table.rows} if table else {}


def test_of_the_programs_defaults_cross_fitting_alone_is_not_the_papers(
    sliced_results: StudyResults,
) -> None:
    default = SlicePipelineConfig(kind="slices").model_dump(mode="json")
    found = rows(configured(sliced_results, chen=default))
    assert found == {"networks.chen.cross_fitted": ("True", "False")}
    papers = configured(sliced_results, chen=default | {"cross_fitted": False})
    assert slice_settings_table(papers) is None


def test_settings_that_differ_stand_beside_the_papers(sliced_results: StudyResults) -> None:
    found = rows(
        replace(sliced_results, config=dict(sliced_results.config) | {"split": {"folds": 3}})
    )
    assert found["networks.chen.width"] == ("8", "32")
    assert found["networks.chen.segmentation.learning_rate"] == ("0.0005", "0.0001")
    assert found["split.folds"] == ("3", "10")
    assert "networks.chen.classification.learning_rate" not in found
    assert settings_table(sliced_results) is None


def test_a_study_of_both_kinds_tells_of_both(sliced_results: StudyResults) -> None:
    chen = sliced_results.config["networks"]["chen"]
    both = configured(sliced_results, chen=chen, random={"kind": "random", "depth": 10})
    assert list(slice_networks(both)) == ["chen"] and not has_only_slice_networks(both)
    assert settings_table(both) is not None
    statements = study_statements(both)
    for name in ("training", "preprocessing", "selection"):
        alone = study_statements(sliced_results)[name].text
        assert (
            statements[name].text.endswith(alone) and len(statements[name].text) > len(alone) + 20
        )
    assert "chen: slices" not in statements["model"].text


def test_a_study_of_volumes_has_no_facts_of_slices(sliced_results: StudyResults) -> None:
    volumes = configured(sliced_results, random={"kind": "random"})
    assert slice_statements(volumes) == {} and slice_settings_table(volumes) is None
    assert "slice" not in study_statements(volumes)["preprocessing"].text


def test_how_slices_were_trained_follows_from_the_study(sliced_results: StudyResults) -> None:
    statements = slice_statements(sliced_results)
    assert "learning rate 0.0005; classification" in statements["training"]
    assert "the same for 10 epochs" in statements["training"]
    assert "48 × 48 pixels of 2 × 2 voxels" in statements["preprocessing"]
    assert "by networks that did not train on the patient" in statements["model"]


def test_nested_and_repeated_splits_are_not_the_papers(sliced_results: StudyResults) -> None:
    config = dict(sliced_results.config) | {"split": {"outer_folds": 5, "repeats": 2}}
    found = rows(replace(sliced_results, config=config))
    assert found["split.outer_folds"] == ("5", "0")
    assert found["split.repeats"] == ("2", "1")
    plain = dict(sliced_results.config) | {"split": {"outer_folds": 0, "repeats": 1}}
    assert not any("split" in key for key in rows(replace(sliced_results, config=plain)))


def test_each_of_several_networks_says_how_it_was_trained(sliced_results: StudyResults) -> None:
    first = SlicePipelineConfig(
        kind="slices", segmentation={"learning_rate": 0.003}, classification={"balance": "weight"}
    )
    second = SlicePipelineConfig(
        kind="slices", segmentation={"learning_rate": 0.007}, classification={"balance": "none"}
    )
    networks = {"one": first.model_dump(mode="json"), "two": second.model_dump(mode="json")}
    statements = slice_statements(configured(sliced_results, **networks))
    one, two = statements["training"].split("; two: ")
    assert one.startswith("one: segmentation") and "learning rate 0.003" in one
    assert two.startswith("segmentation") and "learning rate 0.007" in two
    assert statements["imbalance"] == (
        "one: the loss of slice classifiers is weighted by class; two: slices of both classes are "
        "left as they are"
    )
    alone = slice_statements(configured(sliced_results, one=networks["one"]))
    assert f"one: {alone['training']}" == one
