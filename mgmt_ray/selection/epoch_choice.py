"""The choice of a training's epoch, by criterion M of Schmitz et al. 2024 or another one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mgmt_ray.training.metrics import criterion_m
from mgmt_ray.training.training_config import LEAST_RATE

Rule = Literal["best_m", "best_accuracy_auc", "last_epoch", "lowest_loss", "best_accuracy"]


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
        rule: "best_m" (or "best_accuracy_auc") when an epoch qualified, "last_epoch" when none did;
            for slices "lowest_loss" of a segmentation, "best_accuracy" of a classifier.
        m: the kept epoch's criterion, in [0, 1]; NaN where sen or spe is.
    """

    epoch: int
    rule: Rule
    m: float
    sen: float
    spe: float


@dataclass(frozen=True, slots=True)
class Gate:
    """The rates that an epoch exceeds if it qualifies; both 0.5 in the paper's public code."""

    sen: float = LEAST_RATE
    spe: float = LEAST_RATE


def qualifies(sen: float, spe: float, gate: Gate = Gate()) -> bool:
    """Return whether an epoch may be chosen: both rates above the gate (NaN never is).

    Example:
        >>> qualifies(0.51, 0.51), qualifies(0.9, 0.5), qualifies(0.9, 0.5, Gate(spe=0.4))
        (True, False, True)
    """
    return sen > gate.sen and spe > gate.spe


def choose_epoch(
    history: Sequence[EpochScore],
    gate: Gate = Gate(),
    accuracy_plus_auc: Mapping[int, float] | None = None,
) -> EpochChoice:
    """Return the qualifying epoch with the highest M, the earliest on a tie; else the last epoch.

    Args:
        history: at least one epoch, in any order; validation scores only.
        gate: which epochs qualify.
        accuracy_plus_auc: by epoch, what decides instead of M.

    Example:
        >>> history = [EpochScore(1, 0.9, 0.4), EpochScore(2, 0.7, 0.6), EpochScore(3, 0.6, 0.7)]
        >>> choice = choose_epoch(history)
        >>> choice.epoch, choice.rule, round(choice.m, 2)
        (2, 'best_m', 0.66)
    """
    assert history, "no epochs to choose from"
    candidates = [score for score in history if qualifies(score.sen, score.spe, gate)]
    if candidates and accuracy_plus_auc is not None:
        values = accuracy_plus_auc
        best = max(candidates, key=lambda s: (round(values[s.epoch], 12), -s.epoch))
        return _choice(best, "best_accuracy_auc")
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
