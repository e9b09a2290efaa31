from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mgmt_ray.report.card import OPEN as CARD_OPEN
from mgmt_ray.report.card import card_markdown, model_card
from mgmt_ray.report.checklist import OPEN, checklist_csv, checklist_section, read_items
from mgmt_ray.report.facts import study_facts
from mgmt_ray.report.gather import StudyResults, read_study_results
from mgmt_ray.report.science import CHOSEN


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


def known(results: StudyResults) -> set[str]:
    return set(study_facts(results))


def test_every_fact_that_an_item_names_can_be_known(whole_study: Path) -> None:
    results = read_study_results(whole_study)
    named = {item.fact for item in read_items() if item.fact}
    # the fixture has no provenance, networks' settings, or published facts of these kinds
    lacking = named - known(results)
    assert lacking <= {
        "software",
        "availability",
        "model",
        "initialisation",
        "deidentification",
        "acquisition",
    }


def test_what_the_study_does_not_know_is_open(study: Path, whole_study: Path) -> None:
    real = replace(read_study_results(whole_study), planted=None)
    few, many = (checklist_csv(study_facts(r)) for r in (read_study_results(study), real))
    status = {row[:2]: row[-1] for row in few.rows}
    assert status["CLAIM 2024", "44"] == OPEN
    assert status["CLAIM 2024", "31"] == OPEN
    assert status["TRIPOD+AI", "7"].startswith("reported: tumour mask applied, window [[0, 140]")
    assert status["CLAIM 2024", "7"].startswith("reported: synthetic cohort")
    full = {row[:2]: row[-1] for row in many.rows}
    assert full["CLAIM 2024", "31"] == "reported: policies of the agent (section agent)"
    assert full["CLAIM 2024", "7"].startswith("reported: UPENN-GBM")
    numbers = checklist_section(study_facts(read_study_results(study))).content["open"]
    assert numbers["CLAIM 2024"][1] == 44
    assert numbers["CLAIM 2024"][0] == sum(
        row[-1] == OPEN for row in few.rows if row[0] == "CLAIM 2024"
    )


def test_every_fact_points_to_a_section_of_the_report(
    whole_study: Path, whole_report: Path
) -> None:
    page = whole_report.read_text(encoding="utf-8")
    for fact in study_facts(read_study_results(whole_study)).values():
        assert f'<section id="{fact.where}"' in page


def test_the_card_says_what_it_does_not_know_and_never_for_the_clinic(study: Path) -> None:
    results = read_study_results(study)
    parts = {part.title: part.lines for part in model_card(results, study_facts(results))}
    assert parts["Ethical considerations"] == (CARD_OPEN,)
    assert any("Not for clinical use" in line for line in parts["Intended use"])
    assert any("synthetic" in line for line in parts["Caveats"])


def test_without_a_choice_the_card_tells_of_all_groups(study: Path) -> None:
    results = read_study_results(study)
    metrics = results.metrics[~results.metrics["ensemble"].isin(CHOSEN)]
    parts = model_card(replace(results, metrics=metrics), study_facts(results))
    (told,) = [part.lines for part in parts if part.title == "Results on the test set"]
    assert len(told) == 7 * 3


def test_the_card_leads_with_what_was_chosen_on_validation(whole_study: Path) -> None:
    results = read_study_results(whole_study)
    parts = {part.title: part.lines for part in model_card(results, study_facts(results))}
    lines = parts["Results on the test set"]
    assert [line.partition(":")[0] for line in lines] == [
        "SpotTune, best overall",
        "Random, best overall",
        "Transfer, best overall",
    ]


def test_the_cards_file_escapes_markup(study: Path) -> None:
    results = read_study_results(study)
    text = card_markdown("<b>x</b>_y", model_card(results, study_facts(results)))
    assert text.startswith("# Model card: \\<b\\>x\\</b\\>\\_y\n")
    assert "\n## Caveats\n" in text
