"""Results of configurations on validation folds, from the trials' folders, and the choice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mgmt_ray.base import MgmtError, fingerprint
from mgmt_ray.selection.members import DIVERGED, FALLBACK, rank_configuration
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.plan import Unit
from mgmt_ray.study.search_config import Values
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.training_config import TrainingConfig
from mgmt_ray.trials.resume import select_epoch

LEVEL = 0.95
"""Of intervals."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration of a unit, with its trainings.

    Attributes:
        number: in the order of trying, from 1.
        generation: index of the generation that it belongs to.
        trials: those that predict methylation; ``all_trials`` has also what these need.
    """

    unit: Unit
    number: int
    generation: int
    values: Values
    all_trials: tuple[Trial, ...]

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Trainings that predict methylation."""
        return tuple(trial for trial in self.all_trials if trial.is_classifier)

    @property
    def epochs(self) -> int:
        """Epochs of its trainings."""
        return max(trial.training_config.epochs for trial in self.trials)


@dataclass(frozen=True, slots=True)
class TrialResult:
    """A training's validation result.

    Attributes:
        state: as :class:`~mgmt_ray.study.outcome.Outcome` has it.
        rule: how its epoch was chosen; see :mod:`mgmt_ray.selection.epoch_choice`.
        m: criterion M of the chosen epoch, NaN if undefined.
        gap: AUC of the training rows less that of the validation rows, in the chosen epoch.
        last_m, last_gap: of the last epoch so far, which more epochs can make worse.
        epochs: trained so far.
        seconds: of these epochs.
    """

    state: str
    rule: str = DIVERGED
    m: float = math.nan
    auc: float = math.nan
    gap: float = math.nan
    last_m: float = math.nan
    last_gap: float = math.nan
    epochs: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Results:
    """Reads trials' results, those of finished trials once."""

    folder: StudyFolder
    _rows: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    _finished: dict[str, TrialResult] = field(default_factory=dict)

    def rows(self, trial: Trial) -> list[dict[str, float]]:
        """Return a trial's rows of ``epochs.csv`` so far."""
        if trial.id in self._rows:
            return self._rows[trial.id]
        finished = self.folder.is_finished(trial.id)
        of_trial = self.folder.trial if finished else self.folder.partial_trial
        path = of_trial(trial.id) / "epochs.csv"
        try:
            rows: list[dict[str, float]] = pd.read_csv(path).to_dict("records")  # type: ignore[assignment]
        except (FileNotFoundError, pd.errors.EmptyDataError):
            rows = []  # moved to its place in the meantime, or not begun
        if finished:
            self._rows[trial.id] = rows
        return rows

    def of(self, trial: Trial, until_epoch: int | None = None) -> TrialResult:
        """Return a trial's result, by its epochs so far or those up to a rung."""
        if until_epoch is None and trial.id in self._finished:
            return self._finished[trial.id]
        outcome = self.folder.outcome(trial.id)
        rows = [r for r in self.rows(trial) if until_epoch is None or r["epoch"] <= until_epoch]
        seconds, epochs = sum(row["seconds"] for row in rows), len(rows)
        diverged = outcome.diverged and (until_epoch is None or epochs < until_epoch)
        if diverged or not rows:
            state = outcome.status
            result = TrialResult(state, epochs=epochs, seconds=seconds)
        else:
            choice = select_epoch(trial, rows)
            kept = next(row for row in rows if row["epoch"] == choice.epoch)
            result = TrialResult(
                outcome.status,
                choice.rule,
                choice.m,
                kept.get("validation_auc", math.nan),
                _gap(kept),
                rows[-1].get("validation_m", math.nan),
                _gap(rows[-1]),
                epochs,
                seconds,
            )
        if until_epoch is None and outcome.is_final:
            self._finished[trial.id] = result
        return result

    def has_reached(self, candidate: Candidate, epoch: int) -> bool:
        """Return whether all trainings of a configuration have trained so far, or ended before."""
        return all(
            self.folder.is_finished(trial.id)
            or (
                trial.training_config.epochs > epoch
                and self.folder.paused_at(trial.id) >= epoch
                and len(self.rows(trial)) >= epoch  # fewer where it had to start over
            )
            for trial in candidate.all_trials
        )

    def rank(self, candidate: Candidate, until_epoch: int | None = None) -> tuple[int, float]:
        """Return a configuration's rank: higher is better; one that diverged is below all."""
        results = [self.of(trial, until_epoch) for trial in candidate.trials]
        rules = [result.rule for result in results]
        return rank_configuration(rules, [result.m for result in results])


def _gap(row: dict[str, float]) -> float:
    return row.get("train_auc", math.nan) - row.get("validation_auc", math.nan)


def state_of(results: Sequence[TrialResult]) -> str:
    """Return the state of a configuration whose trainings have these results."""
    states = {result.state for result in results}
    for state in ("failed", "lost", "diverged"):
        if state in states:
            return state
    if states == {"finished"}:
        return "finished"
    return "to do" if states == {"to do"} else "stopped"


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return Student's interval of a mean over trainings; NaN for one.

    Folds share most of their training subjects, so it is narrower than for new subjects.

    >>> [round(end, 3) for end in interval([0.5, 0.6, 0.7])]
    [0.352, 0.848]
    """
    cells = np.asarray(values, dtype=float)
    if len(cells) < 2:
        return math.nan, math.nan
    half = stats.t.ppf((1 + LEVEL) / 2, len(cells) - 1) * cells.std(ddof=1) / math.sqrt(len(cells))
    mean = cells.mean()
    return float(mean - half), float(mean + half)


def interval_of_m(values: Sequence[float]) -> tuple[float, float]:
    """Return the interval of a mean M, within [0, 1]."""
    low, high = interval(values)
    return (low, high) if math.isnan(low) else (max(low, 0.0), min(high, 1.0))


def cells(results: Sequence[tuple[Trial, TrialResult]]) -> dict[tuple[int, int], float]:
    """Return M by fold and seed, averaged over inputs; an undefined M counts as 0."""
    values: dict[tuple[int, int], list[float]] = {}
    for trial, result in results:
        m = 0.0 if math.isnan(result.m) else result.m
        values.setdefault((trial.repeat, trial.fold), []).append(m)
    return {key: float(np.mean(ms)) for key, ms in sorted(values.items())}


def as_good(best: dict[tuple[int, int], float], other: dict[tuple[int, int], float]) -> bool:
    """Return whether a configuration cannot be told from the best: by paired folds and seeds.

    >>> as_good({(0, 0): 0.6, (0, 1): 0.7}, {(0, 0): 0.7, (0, 1): 0.5})
    True
    """
    if best.keys() != other.keys():
        return False
    low, high = interval([best[key] - other[key] for key in best])
    return not (low > 0 or high < 0)


def beginning_of(trial: Trial) -> object:
    """Return what trainings share that differ in their number of epochs alone, if at all.

    With a cosine, or a schedule of τ, the first epochs depend on the number of epochs.
    """
    config = trial.training_config
    if (
        not isinstance(config, TrainingConfig)
        or config.schedule == "cosine"
        or config.temperature_end is not None
    ):
        return trial.id
    key = (trial.network, trial.channels, trial.outer_fold, trial.fold, trial.repeat)
    settings = trial.network_config.model_dump(mode="json"), config.model_dump(exclude={"epochs"})
    return (*key, fingerprint(list(settings)))


def search_table(candidates: Sequence[Candidate], results: Results) -> pd.DataFrame:
    """Return a row per configuration of each unit.

    Columns: the unit; the number and values; ``state``; ``m_foldK``, mean M by fold over inputs and
    seeds; ``m`` with its interval over folds and seeds; trainings and how many qualified; AUC and
    train-validation gap of the kept epochs; M and gap of the last epochs; epochs and seconds so
    far; ``as_good``, 1 where it can't be told from the best by paired folds; ``chosen``.
    """
    rows = []
    keys = list(dict.fromkeys(key for c in candidates for key in c.values))
    folds = sorted({trial.fold for c in candidates for trial in c.trials})
    waits = {
        (c.unit, beginning_of(c.trials[0]))
        for c in candidates
        if state_of([results.of(t) for t in c.trials]) == "stopped"
    }
    best = {unit: best_candidate(of_unit, results) for unit, of_unit in by_unit(candidates).items()}
    for candidate in candidates:
        pairs = [(trial, results.of(trial)) for trial in candidate.trials]
        of_trials = [result for _, result in pairs]
        state = state_of(of_trials)
        if state == "to do" and (candidate.unit, beginning_of(candidate.trials[0])) in waits:
            state = "stopped"  # as the longer training that it is the beginning of
        by_cell = cells(pairs) if any(result.epochs for result in of_trials) else {}
        low, high = interval_of_m([*by_cell.values()])
        winner = best[candidate.unit]
        row: dict[str, Any] = {
            "network": candidate.unit.network,
            "modality": "+".join(candidate.unit.channels) or "all",
            "outer_fold": candidate.unit.outer_fold,
            "configuration": candidate.number,
            **{key: candidate.values.get(key) for key in keys},
            "state": state,
        }
        for fold in folds:
            row[f"m_fold{fold}"] = _mean([m for (_, f), m in by_cell.items() if f == fold])
        row |= {
            "m": _mean([*by_cell.values()]),
            "m_low": low,
            "m_high": high,
            "num_trainings": len(pairs),
            "num_qualified": sum(r.rule not in (FALLBACK, DIVERGED) for r in of_trials),
            **{
                name: _mean([getattr(result, name) for result in of_trials])
                for name in ("auc", "gap", "last_m", "last_gap")
            },
            "epochs_trained": sum(result.epochs for result in of_trials),
            "seconds": round(sum(result.seconds for result in of_trials), 3),
            "as_good": int(
                winner is not None
                and state == "finished"
                and as_good(cells([(t, results.of(t)) for t in winner.trials]), by_cell)
            ),
            "chosen": int(candidate is winner),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def by_unit(candidates: Sequence[Candidate]) -> dict[Unit, list[Candidate]]:
    """Return the configurations of each unit, in order."""
    units: dict[Unit, list[Candidate]] = {}
    for candidate in candidates:
        units.setdefault(candidate.unit, []).append(candidate)
    return units


def best_candidate(candidates: Sequence[Candidate], results: Results) -> Candidate | None:
    """Return the best complete configuration of a unit; of equal ones the first tried."""
    complete = [
        candidate
        for candidate in candidates
        if state_of([results.of(trial) for trial in candidate.trials]) == "finished"
    ]
    # max returns the first of equal ones
    return max(complete, key=results.rank) if complete else None


def check_some_complete(candidates: Sequence[Candidate], results: Results) -> None:
    """Raise MgmtError for a unit of which all configurations diverged."""
    for unit, of_unit in by_unit(candidates).items():
        if best_candidate(of_unit, results) is None:
            what = " ".join([unit.network, *(("+".join(unit.channels),) if unit.channels else ())])
            raise MgmtError(
                f"{what}: a training of each configuration diverged. Add lower learning rates to "
                "search.space (and agent_learning_rate); finished trainings are kept."
            )
