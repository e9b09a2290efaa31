from __future__ import annotations

import pandas as pd

from mgmt_ray.statistics.planted_signal import planted_verdict

GROUPS = {"DSC": ("PH",), "Struct": ("T1", "T2"), "DSC+Struct": ("PH", "T1", "T2")}


def metrics(*rows: tuple[str, str, float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["network", "ensemble", "auc", "auc_low", "auc_high"])


def test_a_signal_that_shows_where_it_was_planted_is_found() -> None:
    table = metrics(
        ("spottune", "DSC", 0.9, 0.7, 1.0),
        ("spottune", "Struct", 0.55, 0.4, 0.7),
        ("spottune", "DSC+Struct", 0.6, 0.45, 0.7),
        ("random", "DSC", 0.5, 0.4, 0.6),
    )
    dsc, struct = planted_verdict(table, {"signal": {"PH": 2.0, "T1": 0.0}}, GROUPS)
    assert (dsc.ensemble, dsc.carriers, dsc.matches_planted) == ("DSC", ("PH",), True)
    assert dsc.sentence == "above chance: found"
    assert (struct.ensemble, struct.carriers, struct.matches_planted) == ("Struct", (), True)
    assert struct.sentence == "at chance as planted: interval contains 0.5"


def test_a_missed_signal_and_a_false_one_are_both_called_out() -> None:
    table = metrics(("spottune", "DSC", 0.6, 0.45, 0.7), ("spottune", "Struct", 0.7, 0.51, 0.8))
    dsc, struct = planted_verdict(table, {"signal": {"PH": 2.0}}, GROUPS)
    assert not dsc.matches_planted
    assert dsc.sentence.startswith("NOT found")
    assert not struct.matches_planted
    assert struct.sentence.startswith("NOT at chance")


def test_a_signal_that_orders_the_few_subjects_there_are_is_found() -> None:
    table = metrics(("spottune", "DSC", 1.0, 0.158, 1.0), ("spottune", "Struct", 1.0, 0.158, 1.0))
    dsc, struct = planted_verdict(table, {"signal": {"PH": 2.0}}, GROUPS)
    assert dsc.matches_planted and dsc.sentence == "above chance: found"
    # nothing was planted here, and two subjects a class show nothing
    assert struct.matches_planted


def test_a_signal_turned_round_is_not_found() -> None:
    table = metrics(("spottune", "DSC", 0.1, 0.0, 0.3))
    (verdict,) = planted_verdict(table, {"signal": {"PH": 2.0}}, GROUPS)
    assert not verdict.matches_planted
    assert verdict.sentence == "NOT found: interval below 0.5, so predictions are inverted"


def test_without_any_signal_every_row_must_be_at_chance() -> None:
    table = metrics(
        ("spottune", "DSC", 0.5, 0.4, 0.6),
        ("random", "DSC+Struct", 0.7, 0.55, 0.8),
        ("random", "PH", 0.4, 0.2, 0.6),
        ("random", "T1", 0.2, 0.1, 0.4),
    )
    verdicts = planted_verdict(table, {"signal": {}}, GROUPS)
    assert [v.matches_planted for v in verdicts] == [True, False, True, False]


def test_the_first_network_is_judged_where_spottune_is_not_there() -> None:
    table = metrics(("transfer", "DSC", 0.9, 0.8, 1.0), ("random", "DSC", 0.5, 0.4, 0.6))
    (verdict,) = planted_verdict(table, {"signal": {"PH": 1.0}}, GROUPS)
    assert verdict.network == "transfer"


def test_models_of_several_channels_are_judged_by_their_channels() -> None:
    table = metrics(("spottune", "PH+T1", 0.9, 0.8, 1.0), ("spottune", "T1+T2", 0.5, 0.4, 0.6))
    first, second = planted_verdict(table, {"signal": {"PH": 1.0}}, {})
    assert first.carriers == ("PH",)
    assert second.carriers == ()
    assert first.matches_planted
    assert second.matches_planted
