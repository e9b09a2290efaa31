"""The search: propose configurations, train them, write the table, choose on validation alone."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd

from mgmt_ray.base import MgmtError, write_json
from mgmt_ray.cluster.progress import log, show_progress
from mgmt_ray.search.rungs import rung_epochs, survivors
from mgmt_ray.search.scores import (
    Candidate,
    Results,
    beginning_of,
    best_candidate,
    by_unit,
    check_some_complete,
    search_table,
    state_of,
)
from mgmt_ray.search.suggestions import Result, key_of, suggest
from mgmt_ray.selection.predictions import write_table
from mgmt_ray.study.plan import Unit, unit_trials
from mgmt_ray.study.search_choice import search_fingerprint
from mgmt_ray.study.search_config import SearchConfig, Values, affects
from mgmt_ray.study.study_config import StudyConfig
from mgmt_ray.study.trial import Trial
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.resume import set_aside_if_damaged
from mgmt_ray.trials.run_trial import input_checksums, state_file

TABLE_SECONDS = 30.0
"""Least time between two tables that are written while trainings run."""


def search_units(inputs: TrialInputs) -> list[Unit]:
    """Return what the search makes a choice for, in the order of the study."""
    study = inputs.study
    units = {
        Unit.of(study, network, channels, split.outer_fold): None
        for network in study.networks
        for channels in study.model_inputs
        for split in inputs.splits
    }
    return [*units]


def propose(inputs: TrialInputs, results: Results, limit: int | None) -> list[Candidate]:
    """Return every configuration that is known so far; see :func:`suggest`.

    Args:
        limit: of configurations of each unit; None: all.
    """
    study = inputs.study
    assert study.search is not None
    candidates: list[Candidate] = []
    for unit in search_units(inputs):
        make = partial(_candidate, inputs, unit)

        def result_of(values: Values, make: Callable[..., Candidate] = make) -> Result | None:
            return _result(make(values), results)

        made: dict[str, Candidate] = {}
        for generation, configurations in enumerate(suggest(study, unit.network, limit, result_of)):
            for values in configurations:
                made.setdefault(key_of(values), make(values, len(made) + 1, generation))
        candidates += made.values()
    return candidates


def _candidate(
    inputs: TrialInputs, unit: Unit, values: Values, number: int = 0, generation: int = 0
) -> Candidate:
    study = inputs.study
    trials = unit_trials(study, inputs.splits, unit, values, range(study.num_seeds))
    return Candidate(unit, number, generation, values, tuple(trials))


def first_limit(search: SearchConfig) -> int | None:
    """Return how many configurations a search begins with; None: all of a grid."""
    return search.configurations if search.hours is None else search.generation


def _result(candidate: Candidate, results: Results) -> Result | None:
    """Return what Optuna is told of a configuration; None before it has trained."""
    of_trials = [results.of(trial) for trial in candidate.trials]
    state = state_of(of_trials)
    if state == "diverged":
        return Result("diverged", math.nan, 0, 0)
    if state not in ("finished", "stopped"):
        return None
    num_qualified, mean_m = results.rank(candidate)
    epochs = min(result.epochs for result in of_trials)
    kind = "finished" if state == "finished" else "stopped"
    return Result(kind, mean_m, len(of_trials) - num_qualified, epochs)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Work:
    """What is trained next.

    Attributes:
        trials: those that are run.
        pause_at, shorter: see :class:`TrialInputs`.
    """

    trials: list[Trial]
    pause_at: dict[str, int]
    shorter: dict[str, tuple[Trial, ...]]


def next_work(candidates: Sequence[Candidate], results: Results, search: SearchConfig) -> Work:
    """Return what trains next; nothing where all is done.

    Without early stopping all that is not finished; with it, of each generation of a unit, what the
    lowest rung which is not complete still waits for. Configurations that differ in their epochs
    alone are one training where its first epochs are those of a shorter one.
    """
    pending: dict[str, Trial] = {}
    rungs: dict[str, int] = {}
    for group in _generations(candidates):
        longest = max(c.epochs for c in group)
        families = _families(group) if search.method != "optuna" else [(c,) for c in group]

        def has_reached(family: tuple[Candidate, ...], rung: int) -> bool:
            return results.has_reached(family[-1], rung) and all(
                results.has_reached(c, rung) for c in family if c.epochs <= rung
            )

        def rank(family: tuple[Candidate, ...], rung: int) -> tuple[int, float]:
            return results.rank(family[-1], rung)

        steps = rung_epochs(longest) if search.stop_early else (longest,)
        waiting, rung = survivors(families, steps, has_reached, rank)
        for trial in (t for family in waiting for c in family for t in c.all_trials):
            if not results.folder.is_finished(trial.id):
                pending[trial.id] = trial
                rungs[trial.id] = rung
    return _share_beginnings(pending, rungs, results)


def _generations(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Return the configurations that are compared at rungs: of one unit and generation."""
    groups: dict[tuple[Unit, int], list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault((candidate.unit, candidate.generation), []).append(candidate)
    return [*groups.values()]


def _families(group: Sequence[Candidate]) -> list[tuple[Candidate, ...]]:
    """Return the configurations that differ in their epochs alone together, the longest last."""
    families: dict[object, list[Candidate]] = {}
    for candidate in group:
        families.setdefault(beginning_of(candidate.trials[0]), []).append(candidate)
    return [tuple(sorted(family, key=lambda c: c.epochs)) for family in families.values()]


def _share_beginnings(pending: dict[str, Trial], rungs: dict[str, int], results: Results) -> Work:
    """Let the longest of the trainings that begin alike finish the others on its way."""
    families: dict[object, list[Trial]] = {}
    for trial in pending.values():
        families.setdefault(beginning_of(trial), []).append(trial)
    work = Work([], {}, {})
    for family in families.values():
        longest = max(family, key=lambda trial: trial.training_config.epochs)
        done = len(results.rows(longest))
        others = [trial for trial in family if trial is not longest]
        ahead = tuple(trial for trial in others if trial.training_config.epochs > done)
        if ahead:
            work.shorter[longest.id] = ahead
        for trial in [longest, *(trial for trial in others if trial not in ahead)]:
            work.trials.append(trial)
            if trial.training_config.epochs > rungs[trial.id]:
                work.pause_at[trial.id] = rungs[trial.id]
    return work


def run_search(inputs: TrialInputs) -> None:
    """Train the configurations of a study's search, and choose among them.

    What was tried follows from the trials' folders alone, so that a search which was killed at any
    moment continues with the same command, and trains nothing again. The test set is not read.

    Raises:
        MgmtError: trainings ended without a result, or all configurations of a network diverged.
    """
    study = inputs.study
    assert study.search is not None
    for line in partial_effects(study):
        log(line)
    results = Results(inputs.folder)
    limit = first_limit(study.search)
    candidates = propose(inputs, results, limit)
    checked: set[str] = set()
    while candidates:
        for trial in all_trials(candidates):
            if trial.id not in checked:
                input_checksums(trial, inputs)
                checked.add(trial.id)
        work = next_work(candidates, results, study.search)
        if work.trials:
            running = replace(inputs, pause_at=work.pause_at, shorter=work.shorter)
            _train(work.trials, running, candidates, results)
            write_search_table(candidates, results)
            continue
        if study.search.hours is not None and _hours(candidates, results) < study.search.hours:
            limit = (limit or 0) + study.search.generation
        before, candidates = candidates, propose(inputs, results, limit)
        if len(candidates) == len(before):
            break
    write_choice(inputs, candidates, results)


def _hours(candidates: Sequence[Candidate], results: Results) -> float:
    """Return the hours that the configurations' trainings took, one after another."""
    return sum(results.of(t).seconds for t in all_trials(candidates)) / 3600


def partial_effects(study: StudyConfig) -> list[str]:
    """Return a line for each key of the space that has an effect on some networks only."""
    lines = []
    assert study.search is not None
    for key in study.search.space:
        names = [n for n, c in study.networks.items() if affects(key, n, c.kind)]
        if len(names) < len(study.networks) and not key.startswith("networks."):
            lines.append(f"search: {key} has an effect on {', '.join(names)} only")
    return lines


def all_trials(candidates: Iterable[Candidate]) -> list[Trial]:
    """Return the trials of all configurations, each once; some share segmentations."""
    return [*{trial.id: trial for c in candidates for trial in c.all_trials}.values()]


def _train(
    trials: Sequence[Trial],
    inputs: TrialInputs,
    candidates: Sequence[Candidate],
    results: Results,
) -> None:
    """Train the given trials, up to where they pause, and show the search's progress.

    Raises:
        MgmtError: some ended without a result.
    """
    for trial in trials:
        set_aside_if_damaged(state_file(trial, inputs))
    from mgmt_ray.trials.tune import run_trials, watch_trials  # imports Ray's libraries

    with show_progress("search") as show:
        watch = _Watch(candidates, results, show, frozenset(t.id for t in trials))
        with watch_trials(trials, inputs.folder, watch):
            run_trials(trials, inputs)
        watch.update()
    outcomes = {t.id: inputs.folder.outcome(t.id) for t in trials}
    failed = {name: outcome for name, outcome in outcomes.items() if outcome.failed}
    for name, outcome in failed.items():
        log(f"trial {name} ended without a result: {outcome.message}")
    waiting = [
        t.id for t in trials if not inputs.folder.is_finished(t.id) and t.id not in inputs.pause_at
    ]
    if failed or waiting:
        write_search_table(candidates, results)
        raise MgmtError(
            f"{len({*failed, *waiting})} of {len(trials)} trainings are not finished "
            f"({len(failed)} failed, see above). Fix this and rerun the command: it continues "
            "where it stopped."
        )


class _Watch:
    """Shows a search's progress while its trainings run; called every second."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        results: Results,
        show: Callable[..., None],
        running: frozenset[str],
    ) -> None:
        self.candidates, self.results, self.show = candidates, results, show
        self.running = running
        self.started = time.monotonic()
        self.epochs_before = self._epochs()
        self.finished, self.written = -1, self.started

    def __call__(self, finished: int, total: int) -> None:
        """Update the line when a training has finished, and the table now and then."""
        if finished != self.finished:
            self.finished = finished
            self.update()
        if time.monotonic() - self.written > TABLE_SECONDS:
            write_search_table(self.candidates, self.results)
            self.written = time.monotonic()

    def _epochs(self) -> int:
        return sum(self.results.of(t).epochs for c in self.candidates for t in c.trials)

    def _state(self, candidate: Candidate) -> str:
        state = state_of([self.results.of(trial) for trial in candidate.trials])
        begun = state == "stopped" and any(
            trial.id in self.running and not self.results.folder.paused_at(trial.id)
            for trial in candidate.trials
        )
        return "running" if begun else state

    def update(self) -> None:
        """Show how many configurations are in which state, the best so far and the time left."""
        states = Counter(self._state(candidate) for candidate in self.candidates)
        done = states["finished"] + states["diverged"]
        parts = [f"{number} {state}" for state, number in sorted(states.items())]
        best = [best_candidate(group, self.results) for group in by_unit(self.candidates).values()]
        ranked = sorted(
            ((self.results.rank(c)[1], c) for c in best if c), key=lambda pair: -pair[0]
        )
        if ranked:
            m, candidate = ranked[0]
            parts.append(f"best {name_of(candidate)} with M {m:.3f}")
        trained = self._epochs() - self.epochs_before
        if trained:
            left = sum(c.epochs * len(c.trials) for c in self.candidates) - self._epochs()
            minutes = (time.monotonic() - self.started) / trained * left / 60
            parts.append(f"at most {minutes:.0f} min left")
        self.show(done, len(self.candidates), ", ".join(parts))


def name_of(candidate: Candidate) -> str:
    """Return a configuration's unit, number and values, to be printed."""
    values = " ".join(f"{key} {value}" for key, value in candidate.values.items())
    unit = candidate.unit
    where = " ".join(
        [
            unit.network,
            *(("+".join(unit.channels),) if unit.channels else ()),
            *((f"split {unit.outer_fold}",) if unit.outer_fold else ()),
        ]
    )
    return f"{where} {candidate.number} ({values or 'nothing to search'})"


def write_search_table(candidates: Sequence[Candidate], results: Results) -> pd.DataFrame:
    """Write ``search/search.csv``; return it."""
    table = search_table(candidates, results)
    write_table(table, results.folder.search_table)
    return table


def write_choice(inputs: TrialInputs, candidates: Sequence[Candidate], results: Results) -> None:
    """Choose a configuration for each unit, and write and print the choice.

    Raises:
        MgmtError: all configurations of a unit diverged.
    """
    check_some_complete(candidates, results)
    table = write_search_table(candidates, results)
    choices = [
        _choose(unit, of_unit, table, results) for unit, of_unit in by_unit(candidates).items()
    ]
    trained, full = savings(candidates, results)
    if trained < full:
        log(
            f"{trained} of {full} epochs trained: {1 - trained / full:.0%} saved by stopping early "
            "and by epochs that trainings share"
        )
    write_json(
        inputs.folder.search_choice,
        {
            "fingerprint": search_fingerprint(inputs.study, inputs.splits),
            "choices": choices,
            "num_configurations": len(candidates),
            "num_trainings": len(all_trials(candidates)),
            "epochs_trained": trained,
            "epochs_without_stopping": full,
        },
    )
    log(f"search: {inputs.folder.search_table}")


def _choose(
    unit: Unit, candidates: Sequence[Candidate], table: pd.DataFrame, results: Results
) -> dict[str, object]:
    """Return and print the best configuration of a unit."""
    best = best_candidate(candidates, results)
    assert best is not None
    rows = table[
        (table["network"] == unit.network)
        & (table["modality"] == ("+".join(unit.channels) or "all"))
        & (table["outer_fold"] == unit.outer_fold)
    ]
    row = rows[rows["chosen"] == 1].iloc[0]
    others = int(rows["as_good"].sum()) - 1
    num_complete = int((rows["state"] == "finished").sum())
    log(
        f"best of {len(candidates)}: {name_of(best)}: M {row['m']:.3f} "
        f"({row['m_low']:.3f} to {row['m_high']:.3f} over folds and seeds), "
        f"{row['num_qualified']} of {row['num_trainings']} trainings qualify; "
        f"{others} of {num_complete - 1} others that trained to their end can't be told from it"
    )
    return {
        "network": unit.network,
        "channels": [*unit.channels],
        "outer_fold": unit.outer_fold,
        "configuration": best.number,
        "values": best.values,
        "m": float(row["m"]),
        "m_interval": [_known(row["m_low"]), _known(row["m_high"])],
        "num_qualified": int(row["num_qualified"]),
        "num_trainings": int(row["num_trainings"]),
        "num_configurations": len(candidates),
        "num_complete": num_complete,
        "num_as_good": others,
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def savings(candidates: Sequence[Candidate], results: Results) -> tuple[int, int]:
    """Return the epochs that were trained, and those of every training on its own to its end.

    Epochs that trainings share count once.
    """
    trained: dict[object, int] = {}
    full = 0
    for trial in {t.id: t for c in candidates for t in c.trials}.values():
        result, key = results.of(trial), beginning_of(trial)
        trained[key] = max(trained.get(key, 0), result.epochs)
        full += result.epochs if result.state == "diverged" else trial.training_config.epochs
    return sum(trained.values()), full
