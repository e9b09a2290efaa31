from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from mgmt_ray.report.study_results import read_study_results
from mgmt_ray.report.summary import (
    chance_cell,
    chance_sentence,
    external_sentence,
    planted_sentence,
    summary_sentences,
)
from mgmt_ray.statistics.intervals import Interval
from mgmt_ray.statistics.planted_signal import PlantedVerdict


def rows(*aucs: tuple[str, float, float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(aucs, columns=["ensemble", "auc", "auc_low", "auc_high", "auc_p_holm"])


def test_intervals_that_contain_one_half_show_nothing() -> None:
    text = chance_sentence(
        "SpotTune", rows(("DSC", 0.6, 0.45, 0.7, 0.4), ("DTI", 0.5, 0.4, 0.6, 1.0))
    )
    assert text == (
        "SpotTune: the AUC interval of every ensemble (2) contains 0.5, so better than chance is "
        "not shown."
    )


def test_ensembles_above_below_and_neither_are_distinguished() -> None:
    text = chance_sentence(
        "From scratch",
        rows(
            ("DSC", 0.7, 0.55, 0.8, 0.04),
            ("DTI", 0.5, 0.4, 0.6, 1.0),
            ("DSC+DTI", 0.6, 0.51, 0.7, 0.05),
            ("Struct", 0.3, 0.1, 0.45, 0.2),
        ),
    )
    assert text == (
        "From scratch: 2 of 4 ensembles above chance, 1 of them after Holm’s correction "
        "(p < 0.05): DSC 0.700 [0.550, 0.800]; DSC+DTI 0.600 [0.510, 0.700]. "
        "1 of 4 ensembles below chance, 0 of them after Holm’s correction (p < 0.05): "
        "Struct 0.300 [0.100, 0.450]. "
        "For the other 1 the AUC interval contains 0.5: better than chance is not shown."
    )


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
    first, *sentences = summary_sentences(results)
    assert "in 2 splits, each subject by models that were trained without it" in first
    (text,) = [s for s in sentences if s.startswith("External cohort")]
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
