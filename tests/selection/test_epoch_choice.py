from __future__ import annotations

import math

import pytest

from mgmt_ray.selection.epoch_choice import EpochScore, Gate, choose_epoch, qualifies
from mgmt_ray.training.metrics import criterion_m


@pytest.mark.parametrize(
    ("sen", "spe", "expected"),
    [
        (0.51, 0.51, True),
        (0.5, 0.9, False),
        (0.9, 0.5, False),
        (math.nan, 0.9, False),
        (0.9, math.nan, False),
    ],
)
def test_an_epoch_qualifies_only_with_both_rates_above_one_half(
    sen: float, spe: float, expected: bool
) -> None:
    assert qualifies(sen, spe) is expected


def test_the_best_qualifying_epoch_wins_over_a_higher_m_that_does_not_qualify() -> None:
    history = [EpochScore(1, 1.0, 0.4), EpochScore(2, 0.6, 0.6), EpochScore(3, 0.55, 0.6)]
    choice = choose_epoch(history)
    assert (choice.epoch, choice.rule) == (2, "best_m")
    assert choice.m == pytest.approx(0.6)
    assert (choice.sen, choice.spe) == (0.6, 0.6)


def test_the_earliest_of_equal_epochs_wins_whatever_their_order() -> None:
    history = [EpochScore(4, 0.7, 0.7), EpochScore(2, 0.7, 0.7), EpochScore(3, 0.6, 0.6)]
    assert choose_epoch(history).epoch == 2


def test_equal_m_of_different_rates_is_a_tie_in_spite_of_rounding_errors() -> None:
    first, second = EpochScore(1, 0.6, 0.9), EpochScore(2, 0.8, 0.6)
    assert criterion_m(first.sen, first.spe) == pytest.approx(criterion_m(second.sen, second.spe))
    assert choose_epoch([first, second]).epoch == 1
    alternate = [EpochScore(1, 0.8, 0.6), EpochScore(2, 0.6, 0.9)]
    assert choose_epoch(alternate).epoch == 1


def test_without_a_qualifying_epoch_the_last_one_is_kept() -> None:
    history = [EpochScore(2, 0.9, 0.2), EpochScore(3, 0.3, 0.8), EpochScore(1, 1.0, 0.5)]
    choice = choose_epoch(history)
    assert (choice.epoch, choice.rule, choice.sen) == (3, "last_epoch", 0.3)


def test_a_fold_without_methylated_subjects_falls_back_with_an_undefined_m() -> None:
    choice = choose_epoch([EpochScore(1, math.nan, 0.9), EpochScore(2, math.nan, 0.8)])
    assert (choice.epoch, choice.rule) == (2, "last_epoch")
    assert math.isnan(choice.m)


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        (Gate(), (2, "best_m")),
        (Gate(spe=0.3), (1, "best_m")),
        (Gate(sen=0.7, spe=0.5), (4, "last_epoch")),
        (Gate(0.0, 0.0), (1, "best_m")),
    ],
)
def test_the_gate_decides_which_epochs_may_be_chosen(gate: Gate, expected: tuple[int, str]) -> None:
    history = [
        EpochScore(1, 1.0, 0.4),
        EpochScore(2, 0.7, 0.6),
        EpochScore(3, 0.0, 1.0),
        EpochScore(4, 0.6, 0.55),
    ]
    choice = choose_epoch(history, gate)
    assert (choice.epoch, choice.rule) == expected


def test_accuracy_and_auc_decide_among_epochs_that_qualify_the_earliest_on_a_tie() -> None:
    history = [EpochScore(1, 0.9, 0.9), EpochScore(2, 0.6, 0.6), EpochScore(3, 0.6, 0.6)]
    history.append(EpochScore(4, 1.0, 0.3))
    sums = {1: 1.2, 2: 1.1 + 0.2, 3: 1.3, 4: 2.0}  # 1.1 + 0.2 is above 1.3 in floating point
    choice = choose_epoch(history, Gate(), sums)
    assert (choice.epoch, choice.rule, choice.m) == (2, "best_accuracy_auc", pytest.approx(0.6))
    assert choose_epoch(history[3:], Gate(), sums).rule == "last_epoch"
