from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from mgmt_ray.report.gather import read_study_results
from mgmt_ray.report.headline import (
    ABSURD_LOSS,
    against_chance,
    cautions,
    chance_words,
    external_sentence,
    headline,
    verdict_on_planted,
)
from mgmt_ray.statistics.intervals import Interval
from mgmt_ray.statistics.planted import PlantedVerdict


def rows(*aucs: tuple[str, float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(aucs, columns=["ensemble", "auc", "auc_low", "auc_high"])


def test_intervals_that_contain_one_half_show_nothing() -> None:
    words = against_chance("SpotTune", rows(("DSC", 0.6, 0.45, 0.7), ("DTI", 0.5, 0.4, 0.6)))
    assert words == (
        "SpotTune: the AUC interval of every ensemble (2) contains 0.5, so better than chance is "
        "not shown."
    )


def test_above_below_and_open_ensembles_are_told_apart() -> None:
    words = against_chance(
        "Random",
        rows(("DSC", 0.7, 0.55, 0.8), ("DTI", 0.5, 0.4, 0.6), ("Struct", 0.3, 0.1, 0.45)),
    )
    assert words == (
        "Random: 1 of 3 ensembles above chance: DSC 0.700 [0.550, 0.800]. "
        "1 of 3 ensembles below chance: Struct 0.300 [0.100, 0.450]. "
        "For the other 1 the AUC interval contains 0.5: better than chance is not shown."
    )


def test_an_interval_that_ends_at_one_half_contains_it() -> None:
    assert chance_words(Interval(0.6, 0.5, 0.7)) == "contains 0.5"
    assert chance_words(Interval(0.6, 0.501, 0.7)) == "above 0.5"
    assert chance_words(Interval(0.4, 0.3, 0.499)) == "below 0.5"


def verdict(ensemble: str, as_planted: bool) -> PlantedVerdict:
    return PlantedVerdict("spottune", ensemble, (), Interval(0.5, 0.4, 0.6), as_planted, "")


def test_one_wrong_verdict_is_named() -> None:
    verdicts = [verdict("DSC", True), verdict("DTI", False)]
    assert "1 of 2 ensembles judged are NOT as planted: DTI" in verdict_on_planted(verdicts, True)
    assert verdict_on_planted(verdicts[:1], True) == "All 1 ensembles judged are as planted."


def test_without_a_signal_the_misses_of_chance_are_told() -> None:
    verdicts = [verdict("DSC", True)] * 19 + [verdict("DTI", False)]
    words = verdict_on_planted(verdicts, False)
    assert "19 of 20 AUC intervals contain 0.5. About 1.0 of 20" in words


def test_an_external_cohort_has_a_sentence_and_splits_are_told(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    first, *sentences = headline(results)
    assert "in 2 splits, each subject by models that were trained without it" in first
    (words,) = [s for s in sentences if s.startswith("External cohort")]
    metrics = results.external["elsewhere"].metrics
    struct = metrics[metrics["ensemble"] == "Struct"].iloc[0]
    assert words.startswith(
        "External cohort elsewhere (up to 80 subjects, 32 methylated; nothing was chosen or fitted "
        "on it): 2 of 2 AUC intervals lie above 0.5: "
        f"SpotTune Struct {struct['auc']:.3f} [{struct['auc_low']:.3f}, {struct['auc_high']:.3f}]; "
    )
    chance = replace(results.external["elsewhere"], metrics=metrics.assign(auc_low=0.4))
    none = external_sentence(replace(results, external={"elsewhere": chance}), "elsewhere")
    assert none.endswith(
        "0 of 2 AUC intervals lie above 0.5: none, so better than chance is not shown there."
    )


def test_an_external_cohort_is_cautioned_about_like_the_test_set(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    own = results.metrics.assign(auc=0.6, auc_low=0.5, auc_high=0.7)
    external = replace(results.external["elsewhere"], openings=({}, {}))
    words = " ".join(cautions(replace(results, metrics=own, external={"elsewhere": external})))
    assert "External cohort elsewhere was predicted 2 times" in words
    # the cohort's signal is far above what honest studies reach
    assert "look for leakage" in words
    assert "look for leakage" not in " ".join(cautions(replace(results, metrics=own, external={})))


def test_losses_worse_than_a_guess_are_told_of_kept_epochs_alone(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    assert not [words for words in cautions(results) if "nats" in words]
    kept = results.members.iloc[:2].set_index("trial")["epoch"]
    epochs = results.epochs.copy()
    is_kept = epochs["epoch"] == epochs["trial"].map(kept)
    other = epochs["trial"].isin(kept.index) & ~is_kept
    epochs.loc[is_kept, "validation_loss"] = [ABSURD_LOSS + 1, ABSURD_LOSS]
    epochs.loc[other, "validation_loss"] = 2 * ABSURD_LOSS
    (told,) = [words for words in cautions(replace(results, epochs=epochs)) if "nats" in words]
    assert told.startswith(f"1 of {len(results.members)} members have a validation loss above 5")


def test_openings_for_pictures_are_told_apart_from_those_for_results(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    seen = {"purpose": "explain", "subjects": ["S0001"]}
    once = [words for words in cautions(replace(results, openings=({}, seen))) if "seen" in words]
    assert len(once) == 1
    assert once[0].startswith("Test subjects were looked at once to explain")
    often = [
        words
        for words in cautions(replace(results, openings=({}, seen, {}, seen)))
        if "seen" in words
    ]
    assert often[0].startswith("The test set was opened 2 times")
    assert often[1].startswith("Test subjects were looked at 2 times")
