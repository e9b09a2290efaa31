from __future__ import annotations

import pandas as pd

from mgmt_ray.report.headline import against_chance, chance_words, verdict_on_planted
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
