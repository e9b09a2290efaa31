from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mgmt_ray.figures.style import network_label
from mgmt_ray.nets.build import NetworkConfig
from mgmt_ray.report.checklist import IN_PART, OPEN, checklist_csv, checklist_section, read_items
from mgmt_ray.report.ensemble_tables import CHOSEN
from mgmt_ray.report.model_card import OPEN as CARD_OPEN
from mgmt_ray.report.model_card import card_markdown, model_card
from mgmt_ray.report.study_facts import study_statements
from mgmt_ray.report.study_results import read_study_results


def test_both_guidelines_have_all_their_items_in_order() -> None:
    items = read_items()
    claim = [item.number for item in items if item.guideline == "CLAIM 2024"]
    assert claim == [str(number) for number in range(1, 45)]
    tripod = [item.number for item in items if item.guideline == "TRIPOD+AI"]
    main = dict.fromkeys(int(number.rstrip("abcdefg")) for number in tripod)
    assert list(main) == list(range(1, 28))
    # 27 main items, of which some have parts (Collins et al. 2024, table 1)
    assert len(tripod) == 52
    assert all(item.topic and item.part for item in items)


def test_nearly_every_statement_that_an_item_names_exists(whole_study: Path) -> None:
    results = read_study_results(whole_study)
    named = {item.statement for item in read_items() if item.statement}
    # the fixture has no provenance and no settings of networks; the last two no study has
    missing = named - study_statements(results).keys()
    assert missing <= {
        "software",
        "availability",
        "model",
        "initialisation",
        "deidentification",
        "acquisition",
    }


def test_what_the_study_does_not_know_is_open(study: Path, whole_study: Path) -> None:
    real = replace(read_study_results(whole_study), planted=None)
    few, many = (checklist_csv(study_statements(r)) for r in (read_study_results(study), real))
    status = {row[:2]: row[-1] for row in few.rows}
    assert status["CLAIM 2024", "44"] == OPEN
    assert status["CLAIM 2024", "31"] == OPEN
    assert status["TRIPOD+AI", "7"].startswith("reported: tumour mask applied, window [[0, 140]")
    assert status["CLAIM 2024", "7"].startswith("reported: synthetic cohort")
    full = {row[:2]: row[-1] for row in many.rows}
    assert full["CLAIM 2024", "31"] == "reported: policies of the agent (section routing)"
    assert full["CLAIM 2024", "7"].startswith("reported: UPENN-GBM")


def test_items_are_counted_by_their_status(study: Path) -> None:
    statements = study_statements(read_study_results(study))
    rows = [row for row in checklist_csv(statements).rows if row[0] == "TRIPOD+AI"]
    numbers = checklist_section(statements).content["numbers"]["TRIPOD+AI"]
    # 22, 27a, 9a; 5a too, as a synthetic cohort has a source
    assert numbers == (sum(row[-1] == OPEN for row in rows), 4, 52)


def test_what_a_statement_leaves_open_is_left_to_the_authors(whole_study: Path) -> None:
    results = read_study_results(whole_study)
    provenance = {"versions": {"mgmt-ray": "1.0"}, "commit": "abc"}
    statements = study_statements(replace(results, provenance=provenance))
    status = {row[:2]: row[-1] for row in checklist_csv(statements).rows}
    in_part = {key for key, text in status.items() if text.startswith(IN_PART)}
    assert in_part == {
        ("CLAIM 2024", "43"),
        *(("TRIPOD+AI", number) for number in ("5a", "9a", "22", "27a")),
    }
    assert status["TRIPOD+AI", "22"].startswith("in part: 45 members with the SHA-256")
    assert "; open: sharing the weights themselves" in status["TRIPOD+AI", "22"]


def test_imputation_and_scaling_are_described(study: Path, whole_study: Path) -> None:
    plain, whole = read_study_results(study), read_study_results(whole_study)
    statements = study_statements(plain)
    assert statements["missing"].text.endswith("; nothing is imputed")
    assert statements["preprocessing"].text.endswith("; nothing is fitted over subjects")
    networks = {"n": {"kind": "random", "covariates": ["sex", "age"]}}
    with_covariates = study_statements(
        replace(plain, config={**plain.config, "networks": networks})
    )
    assert (
        "age and sex of a network are the mean of its training" in with_covariates["missing"].text
    )
    assert "a network's age and sex are scaled by mean and" in with_covariates["preprocessing"].text
    with_baselines = study_statements(whole)
    assert "the median and the most frequent value" in with_baselines["missing"].text
    assert "a radiomic feature of an empty region is 0" in with_baselines["missing"].text
    assert "inputs of the baseline regressions are scaled" in with_baselines["preprocessing"].text
    for described in (with_covariates, with_baselines):
        assert "nothing is imputed" not in described["missing"].text


def test_tests_are_named_if_their_tables_have_them(whole_study: Path, nested_study: Path) -> None:
    three, two = (study_statements(read_study_results(p)) for p in (whole_study, nested_study))
    assert three["uncertainty"].text.endswith("DeLong, Friedman, Nemenyi, Holm’s correction")
    assert two["uncertainty"].text.endswith("permutation of labels, DeLong, Holm’s correction")


def test_every_statement_points_to_a_section_of_the_report(
    whole_study: Path, whole_report: Path
) -> None:
    page = whole_report.read_text(encoding="utf-8")
    for statement in study_statements(read_study_results(whole_study)).values():
        assert f'<section id="{statement.where}"' in page


def test_the_card_says_what_it_does_not_know_and_never_for_the_clinic(study: Path) -> None:
    results = read_study_results(study)
    parts = {part.title: part.lines for part in model_card(results, study_statements(results))}
    assert parts["Ethical considerations"] == (CARD_OPEN,)
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
    assert without["ensembles"].text == "mean probability over folds, seeds and modalities"
    assert with_agent["ensembles"].text == (
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
