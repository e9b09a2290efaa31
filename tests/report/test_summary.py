from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.report.sections.summary_section import auc_picture, calls_section
from mgmt_ray.report.study_results import read_study_results
from mgmt_ray.report.summary import (
    answers,
    baseline_sentences,
    chance_cell,
    chance_sentences,
    chance_words,
    external_sentence,
    pair_sentences,
    planted_sentence,
)
from mgmt_ray.selection.best_on_validation import BEST_OVERALL
from mgmt_ray.statistics.intervals import Interval
from mgmt_ray.statistics.planted_signal import PlantedVerdict


def model(
    network: str, ensemble: str, auc: tuple[float, float, float], p: float
) -> dict[str, object]:
    value, low, high = auc
    return {
        **{"network": network, "ensemble": ensemble, "copy_of": "", "num_subjects": 30},
        **{"auc": value, "auc_low": low, "auc_high": high, "auc_p_holm": p},
    }


@pytest.mark.parametrize(
    ("auc", "p", "words"),
    [
        ((0.6, 0.45, 0.7), 0.001, "better than chance is not shown"),
        ((0.6, 0.5, 0.7), 0.001, "better than chance is not shown"),
        ((0.7, 0.55, 0.8), 0.049, "better than chance"),
        (
            (0.7, 0.55, 0.8),
            0.05,
            "better than chance by its interval alone, but not after correction for 2 tests: not "
            "shown",
        ),
        ((0.3, 0.1, 0.45), 0.01, "worse than chance"),
        (
            (0.7, 0.55, 0.8),
            float("nan"),
            "its interval alone would be better than chance, which was not tested",
        ),
    ],
)
def test_a_verdict_on_chance_needs_the_interval_and_the_corrected_test(
    auc: tuple[float, float, float], p: float, words: str
) -> None:
    assert chance_words(model("spottune", "DSC", auc, p), 2) == words


def test_each_networks_best_ensemble_is_named_by_what_it_takes() -> None:
    auc = (0.6, 0.45, 0.7)
    rows = [
        model("spottune", "DTI", auc, float("nan")) | {"copy_of": BEST_OVERALL},
        model("spottune", BEST_OVERALL, auc, 0.4),
        model("random", "DTI", auc, 0.4),
        model("random", BEST_OVERALL, auc, 0.4),
    ]
    first, second = chance_sentences(pd.DataFrame(rows))
    assert first == (
        "From DTI, SpotTune told methylated from unmethylated in 30 patients with an AUC of 0.60 "
        "(0.45 to 0.70): better than chance is not shown."
    )
    # over several splits it is none of the others
    assert second.startswith("From scratch, from the scans that validation chose in each split: ")
    # without a choice all distinct ensembles of networks are told, and no baseline
    rows = [model("ours", "PH+FA", auc, 0.4), model("age_sex", "age_sex", auc, 0.4)]
    (only,) = chance_sentences(pd.DataFrame(rows))
    assert only.startswith("From PH+FA, ours told")


def pair(comparison: str, b: str, difference: float, p: float) -> dict[str, object]:
    return {
        **{"comparison": comparison, "network_a": "spottune", "network_b": b},
        **{"auc_difference": difference, "auc_difference_low": difference - 0.1},
        **{"auc_difference_high": difference + 0.1, "delong_p_holm": p},
    }


def test_only_corrected_differences_are_called_better() -> None:
    rows = [pair(BEST_OVERALL, "random", -0.2, 0.04), pair(BEST_OVERALL, "transfer", 0.2, 0.05)]
    table = pd.DataFrame([*rows, pair("DSC", "random", 0.3, 0.01)])
    assert pair_sentences(table) == [
        "From scratch is better than SpotTune: its AUC is 0.20 (0.10 to 0.30) higher.",
        "In the other 1 of 2 comparisons it is not shown.",
    ]
    (text,) = pair_sentences(table.iloc[1:2])
    assert text.startswith("Not shown: the AUCs do not differ significantly")
    assert pair_sentences(table.iloc[:0]) == []
    assert pair_sentences(table.assign(delong_p_holm=float("nan"))) == []


def test_a_baseline_is_beaten_only_after_correction() -> None:
    rows = [
        pair("against age_sex", "age_sex", 0.2, 0.01),
        pair("against tumour_volume", "tumour_volume", 0.2, 0.2),
        pair("against prevalence", "prevalence", 0.2, float("nan")),
        pair("against first_order", "first_order", -0.2, 0.01),
    ]
    assert baseline_sentences(pd.DataFrame(rows)) == [
        "SpotTune: better than “age and sex”; worse than “first-order features”; not shown to be "
        "better than “tumour volume”."
    ]


def cell(low: float, high: float, p: float = 0.5) -> str:
    row = {"auc": (low + high) / 2, "auc_low": low, "auc_high": high, "auc_p_holm": p}
    return chance_cell(row | {"copy_of": ""})


def test_an_interval_that_ends_at_one_half_contains_it() -> None:
    assert cell(0.5, 0.7) == "contains 0.5"
    assert cell(0.501, 0.7) == "above 0.5,\nnot after Holm"
    assert cell(0.3, 0.499) == "below 0.5,\nnot after Holm"


def test_a_cell_says_whether_a_finding_remains_after_holms_correction() -> None:
    assert cell(0.6, 0.7, 0.049) == "above 0.5,\nalso after Holm"
    assert cell(0.6, 0.7, 0.05) == "above 0.5,\nnot after Holm"
    assert cell(0.6, 0.7, float("nan")) == "above 0.5,\nnot after Holm"


def verdict(ensemble: str, matches_planted: bool) -> PlantedVerdict:
    return PlantedVerdict("spottune", ensemble, (), Interval(0.5, 0.4, 0.6), matches_planted, "")


def test_one_wrong_verdict_is_named() -> None:
    verdicts = [verdict("DSC", True), verdict("DTI", False)]
    assert "1 of 2 ensembles tested do NOT agree with it: DTI" in planted_sentence(verdicts, True)
    assert (
        planted_sentence(verdicts[:1], True)
        == "All 1 ensembles tested agree with the planted signal."
    )


def test_without_a_signal_the_expected_misses_are_reported() -> None:
    verdicts = [verdict("DSC", True)] * 19 + [verdict("DTI", False)]
    text = planted_sentence(verdicts, False)
    assert "19 of 20 AUC intervals contain 0.5. About 1.0 of 20" in text


def test_the_summary_mentions_external_cohorts_and_splits(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    found = answers(results)
    (tested,) = found["Who was tested?"]
    assert "in 2 splits, each by models that were trained without them" in tested
    (text,) = found["Does it hold in another cohort?"]
    assert "Is it better than a simple baseline?" not in found  # the study has none
    metrics = results.external["elsewhere"].metrics
    struct = metrics[metrics["ensemble"] == "Struct"].iloc[0]
    assert text.startswith(
        "External cohort elsewhere (up to 80 subjects, 32 methylated; nothing was chosen or fitted "
        "on it): 2 of 2 AUC intervals lie above 0.5, 2 of them after Holm’s correction (p < 0.05): "
        f"SpotTune Struct {struct['auc']:.3f} [{struct['auc_low']:.3f}, {struct['auc_high']:.3f}]; "
    )
    chance = replace(results.external["elsewhere"], metrics=metrics.assign(auc_low=0.4))
    none = external_sentence(replace(results, external={"elsewhere": chance}), "elsewhere")
    assert none.endswith(
        "0 of 2 AUC intervals lie above 0.5, so better than chance is not shown there."
    )


def test_each_test_patient_has_its_calls_and_a_link_to_its_pictures(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    predictions = results.predictions
    subject = predictions["subject"].iloc[0]
    table = calls_section(results, {subject: ()}).content["calls"]
    assert table.header == ("Patient", "Label", "SpotTune", "From scratch")
    assert len(table.rows) == predictions["subject"].nunique()
    assert table.links == {subject: f"#saliency-{subject.lower()}"}
    (row,) = [row for row in table.rows if row[0] == subject]
    of_best = predictions[predictions["ensemble"] == BEST_OVERALL].set_index(["network", "subject"])
    for network, cell in zip(("spottune", "random"), row[2:], strict=True):
        probability, label = of_best.loc[(network, subject), ["probability", "label"]]
        assert row[1] == ("methylated" if label else "unmethylated")
        verdict = "right" if (probability >= 0.5) == (label == 1) else "wrong"
        assert cell == f"{probability:.2f} {verdict}"


def test_the_papers_values_are_drawn_only_beside_its_patients(
    nested_study: Path, figures: FigureFolder
) -> None:
    real = read_study_results(nested_study)
    assert "the paper’s best" in auc_picture(real, figures).caption
    other = replace(real, config={**real.config, "cohort": {"reader": "ucsf"}})
    for results in (other, replace(real, planted={"signal": {}})):
        assert "paper" not in auc_picture(results, figures).caption
