"""The choice of a training's epoch, by criterion M of Schmitz et al. 2024."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mgmt_ray.training.metrics import criterion_m

Rule = Literal["best_m", "last_epoch", "lowest_loss", "best_accuracy"]


@dataclass(frozen=True, slots=True)
class EpochScore:
    """One epoch's metrics on the validation fold.

    Attributes:
        epoch: counted from 1.
        sen: sensitivity at threshold 0.5, in [0, 1]; NaN when the fold has no methylated subject.
        spe: specificity at threshold 0.5, in [0, 1]; NaN when it has no unmethylated one.
    """

    epoch: int
    sen: float
    spe: float


@dataclass(frozen=True, slots=True)
class EpochChoice:
    """The epoch that is kept, and the rule that kept it.

    Attributes:
        epoch: counted from 1.
        rule: "best_m" when an epoch qualified, "last_epoch" when none did; for slices "lowest_loss"
            of a segmentation, "best_accuracy" of a classifier.
        m: the kept epoch's criterion, in [0, 1]; NaN where sen or spe is.
    """

    epoch: int
    rule: Rule
    m: float
    sen: float
    spe: float


def qualifies(sen: float, spe: float) -> bool:
    """Return whether an epoch may be chosen by its M: both rates above 0.5 (NaN never is).

    Example:
        >>> qualifies(0.51, 0.51), qualifies(0.9, 0.5)
        (True, False)
    """
    return sen > 0.5 and spe > 0.5


def choose_epoch(history: Sequence[EpochScore]) -> EpochChoice:
    """Return the qualifying epoch with the highest M, the earliest on a tie; else the last epoch.

    Args:
        history: at least one epoch, in any order; validation scores only.

    Example:
        >>> history = [EpochScore(1, 0.9, 0.4), EpochScore(2, 0.7, 0.6), EpochScore(3, 0.6, 0.7)]
        >>> choice = choose_epoch(history)
        >>> choice.epoch, choice.rule, round(choice.m, 2)
        (2, 'best_m', 0.66)
    """
    assert history, "no epochs to choose from"
    candidates = [score for score in history if qualifies(score.sen, score.spe)]
    if candidates:
        best = max(candidates, key=lambda s: (_rounded_m(s), -s.epoch))
        return _choice(best, "best_m")
    return _choice(max(history, key=lambda s: s.epoch), "last_epoch")


def choose_best(history: Sequence[EpochScore], values: Sequence[float], rule: Rule) -> EpochChoice:
    """Return the epoch with the highest value, the earliest on a tie."""
    best = max(zip(values, history, strict=True), key=lambda pair: (pair[0], -pair[1].epoch))
    return _choice(best[1], rule)


def _choice(score: EpochScore, rule: Rule) -> EpochChoice:
    return EpochChoice(score.epoch, rule, criterion_m(score.sen, score.spe), score.sen, score.spe)


def _rounded_m(score: EpochScore) -> float:
    # Different (SEN, SPE) can have the same M in exact arithmetic, but differ in the last bit.
    m = criterion_m(score.sen, score.spe)
    assert not math.isnan(m), "a qualifying epoch has both rates"
    return round(m, 12)
