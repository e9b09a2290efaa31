from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.nets.build import NetworkConfig
from mgmt_ray.report.ensemble_tables import CHOSEN
from mgmt_ray.report.model_card import OPEN, card_markdown, model_card
from mgmt_ray.report.study_facts import study_statements
from mgmt_ray.report.study_results import read_study_results


def test_what_is_fitted_on_training_subjects_is_described(study: Path, whole_study: Path) -> None:
    plain, whole = read_study_results(study), read_study_results(whole_study)
    text = study_statements(plain)["preprocessing"]
    assert text.startswith("tumour mask applied, window [[0, 140]")
    assert text.endswith("; nothing is fitted over subjects")
    networks = {"n": {"kind": "random", "covariates": ["sex", "age"]}}
    with_covariates = replace(plain, config={**plain.config, "networks": networks})
    text = study_statements(with_covariates)["preprocessing"]
    assert "a network's age and sex are scaled by mean and" in text
    text = study_statements(whole)["preprocessing"]
    assert "inputs of the baseline regressions are scaled" in text


def test_the_source_of_data_is_known_by_reader(whole_study: Path) -> None:
    results = read_study_results(whole_study)
    assert study_statements(results)["source"].startswith("synthetic cohort")
    real = study_statements(replace(results, planted=None))
    assert real["source"].startswith("UPENN-GBM")
    assert "availability" not in real


def test_tests_are_named_if_their_tables_have_them(whole_study: Path, nested_study: Path) -> None:
    three, two = (study_statements(read_study_results(p)) for p in (whole_study, nested_study))
    assert three["uncertainty"].endswith("DeLong, Friedman, Nemenyi, Holm’s correction")
    assert two["uncertainty"].endswith("permutation of labels, DeLong, Holm’s correction")


def test_the_card_says_what_it_does_not_know_and_never_for_the_clinic(study: Path) -> None:
    results = read_study_results(study)
    parts = {part.title: part.lines for part in model_card(results, study_statements(results))}
    assert parts["Ethical considerations"] == (OPEN,)
    assert any("Not for clinical use" in line for line in parts["Intended use"])
    assert any("synthetic" in line for line in parts["Caveats"])


def test_the_card_says_what_each_network_is(study: Path) -> None:
    results = read_study_results(study)
    parts = {part.title: part.lines for part in model_card(results, study_statements(results))}
    described = "; ".join(
        f"{network_label(kind)}: {NetworkConfig(kind=kind).description}"
        for kind in ("spottune", "random", "transfer")
    )
    assert f"{described}." in parts["Model"]


def test_policies_are_named_only_where_some_were_drawn(study: Path, whole_study: Path) -> None:
    without, with_agent = (study_statements(read_study_results(s)) for s in (study, whole_study))
    assert without["ensembles"] == "mean probability over folds, seeds and modalities"
    assert with_agent["ensembles"] == (
        "mean probability over policy draws, folds, seeds and modalities"
    )


def test_without_a_choice_the_card_has_all_groups(study: Path) -> None:
    results = read_study_results(study)
    metrics = results.metrics[~results.metrics["ensemble"].isin(CHOSEN)]
    parts = model_card(replace(results, metrics=metrics), study_statements(results))
    (lines,) = [part.lines for part in parts if part.title == "Results on the test set"]
    assert len(lines) == 7 * 3


def test_the_card_leads_with_what_was_chosen_on_validation(whole_study: Path) -> None:
    results = read_study_results(whole_study)
    parts = {part.title: part.lines for part in model_card(results, study_statements(results))}
    lines = parts["Results on the test set"]
    assert [line.partition(":")[0] for line in lines] == [
        "SpotTune, best overall",
        "From scratch, best overall",
        "Transfer, best overall",
    ]


def test_the_cards_file_escapes_markup(study: Path) -> None:
    results = read_study_results(study)
    text = card_markdown("<b>x</b>_y", model_card(results, study_statements(results)))
    assert text.startswith("# Model card: \\<b\\>x\\</b\\>\\_y\n")
    assert "\n## Caveats\n" in text
