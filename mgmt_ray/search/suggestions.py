"""Which configurations a search tries, as a function of the study's seed and of earlier results."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import JsonValue

from mgmt_ray.base import MgmtError, stream, stream_seed
from mgmt_ray.study.search_config import (
    ParameterConfig,
    Values,
    affects,
    is_whole,
    typed_values,
    value_at,
)
from mgmt_ray.study.study_config import StudyConfig

if TYPE_CHECKING:
    from optuna.study import Study

DIGITS = 3
"""Significant digits of drawn numbers: what is printed is what was trained."""

MAX_REPEATED = 5
"""Generations of Optuna in a row without a new configuration, after which it ends."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One key of the space of a network.

    Attributes:
        whole: whether the key takes whole numbers.
    """

    parameter: ParameterConfig
    whole: bool

    @property
    def size(self) -> float:
        """Number of different values."""
        if self.parameter.values is not None:
            return len(self.parameter.values)
        low, high = self.parameter.range or self.parameter.log or (0.0, 0.0)
        return int(high) - int(low) + 1 if self.whole else math.inf

    def draw(self, random: np.random.Generator) -> JsonValue:
        """Draw a value."""
        if self.parameter.values is not None:
            return self.parameter.values[int(random.integers(len(self.parameter.values)))]
        low, high = self.parameter.range or self.parameter.log or (0.0, 0.0)
        if self.parameter.log is not None:
            drawn = math.exp(random.uniform(math.log(low), math.log(high)))
            return self.rounded(drawn, low, high)
        if self.whole:
            return int(random.integers(int(low), int(high) + 1))
        return self.rounded(float(random.uniform(low, high)), low, high)

    def rounded(self, value: float, low: float, high: float) -> JsonValue:
        """Return a value between two ends with few digits, or as a whole number."""
        if self.whole:
            return round(value)
        return min(max(float(f"{value:.{DIGITS}g}"), low), high)


Space = Mapping[str, Dimension]


def space_of(study: StudyConfig, network: str) -> dict[str, Dimension]:
    """Return the part of a study's search space that has an effect on a network."""
    assert study.search is not None
    kind = study.networks[network].kind
    return {
        key: Dimension(parameter, is_whole(value_at(key, study.training, study.networks)))
        for key, parameter in study.search.space.items()
        if affects(key, network, kind)
    }


@dataclass(frozen=True, slots=True)
class Result:
    """What Optuna is told of a configuration.

    Attributes:
        state: "stopped" reached ``epochs`` only; "diverged" has no value.
        value: mean M.
        num_unqualified: trainings of which no epoch qualified.
    """

    state: Literal["finished", "stopped", "diverged"]
    value: float
    num_unqualified: int
    epochs: int


ResultOf = Callable[[Values], Result | None]
"""Returns a configuration's result; None if it has none yet."""


def suggest(
    study: StudyConfig, network: str, limit: int | None, result_of: ResultOf
) -> list[list[Values]]:
    """Return the generations of configurations that are known so far, in the order of trying.

    A function of the study and of results alone: the same call continues after any interruption,
    and a higher limit gives the same configurations first.

    Args:
        network: whose space is searched; keys without effect on it are left out.
        limit: of the number of configurations; None: all (of a grid).
        result_of: of the configurations; used by Optuna alone.
    """
    search = study.search
    assert search is not None
    space = space_of(study, network)
    start = [{key: values[key] for key in space} for values in search.start]

    def typed(values: Values) -> Values:
        return typed_values(values, study.training, study.networks)

    if search.method == "optuna" and space:
        seed = stream_seed(study.seed, "search", "optuna", network)
        size = search.generation
        generations = _ask_optuna(space, seed, start, size, limit, lambda v: result_of(typed(v)))
    else:
        one_by_one = _grid(space) if search.method == "grid" else _random(space, study.seed)
        values = [*islice(_different([*start, *_nothing(space)], one_by_one), limit)]
        size = search.generation if search.hours is not None else max(len(values), 1)
        generations = [values[i : i + size] for i in range(0, len(values), size)]
    return [[typed(values) for values in generation] for generation in generations]


def _nothing(space: Space) -> list[Values]:
    """Return the one configuration of a network that no key of the space has an effect on."""
    return [] if space else [{}]


def key_of(values: Mapping[str, Any]) -> str:
    """Return a text that equal configurations share."""
    return json.dumps(dict(values), sort_keys=True)


def _different(first: Sequence[Values], then: Iterator[Values]) -> Iterator[Values]:
    """Yield configurations without those that came before."""
    seen = set()
    for values in chain(first, then):
        if key_of(values) not in seen:
            seen.add(key_of(values))
            yield values


def _grid(space: Space) -> Iterator[Values]:
    """Yield every combination; the last key of the space changes fastest."""
    lists = [dimension.parameter.values or () for dimension in space.values()]
    for combination in product(*lists) if space else ():
        yield dict(zip(space, combination, strict=True))


def _random(space: Space, seed: int) -> Iterator[Values]:
    """Yield draws without end, or until every configuration of a finite space was drawn.

    Each key has its own stream, so that a further key leaves the draws of the others as they are.
    """
    size = math.prod(dimension.size for dimension in space.values())
    drawn: set[str] = set()
    number = 0
    while space and len(drawn) < size:
        values = {
            key: dimension.draw(stream(seed, "search", key, number))
            for key, dimension in space.items()
        }
        number += 1
        if key_of(values) not in drawn:
            drawn.add(key_of(values))
            yield values


def _ask_optuna(
    space: Space,
    seed: int,
    start: Sequence[Values],
    generation: int,
    limit: int | None,
    result_of: ResultOf,
) -> list[list[Values]]:
    """Return all generations that TPE asks for, replayed from the results so far.

    Optuna's study is in memory and made at every call: the results that it gets are in the trials'
    folders. A generation is asked for as a whole before any of it is told, so that the outcome
    does not depend on which training ends first.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed % 2**32)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for values in start:
        study.enqueue_trial({key: _told(space[key], value) for key, value in values.items()})
    generations: list[list[Values]] = []
    seen: dict[str, Values] = {}
    num_repeated = 0
    while (limit is None or len(seen) < limit) and num_repeated < MAX_REPEATED:
        asked = [study.ask(_distributions(space)) for _ in range(generation)]
        given = [_values(space, trial.params) for trial in asked]
        new = [v for k, v in {key_of(v): v for v in given}.items() if k not in seen]
        if limit is not None:
            new = new[: limit - len(seen)]
        num_repeated = 0 if new else num_repeated + 1
        seen |= {key_of(v): v for v in new}
        if new:
            generations.append(new)
        results = [result_of(v) for v in given]
        if any(result is None for result in results):
            break
        for trial, result in zip(asked, results, strict=True):
            assert result is not None
            _tell(study, trial, result)
    return generations


def _distributions(space: Space) -> dict[str, Any]:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    distributions: dict[str, Any] = {}
    for key, dimension in space.items():
        parameter = dimension.parameter
        log = parameter.log is not None
        if parameter.values is not None:
            distributions[key] = CategoricalDistribution([*range(len(parameter.values))])
            continue
        low, high = parameter.range or parameter.log or (0.0, 0.0)
        if dimension.whole:
            distributions[key] = IntDistribution(int(low), int(high), log=log)
        else:
            distributions[key] = FloatDistribution(low, high, log=log)
    return distributions


def _told(dimension: Dimension, value: JsonValue) -> Any:
    """Return a value of a start as Optuna knows it: of a list its index."""
    values = dimension.parameter.values
    if values is None:
        return value
    if value not in values:
        raise MgmtError(
            f"search.start: {value} is not one of {[*values]}. With method optuna add it to that "
            "list, or start from another value."
        )
    return values.index(value)


def _values(space: Space, params: Mapping[str, Any]) -> Values:
    values: Values = {}
    for key, dimension in space.items():
        parameter = dimension.parameter
        if parameter.values is not None:
            values[key] = parameter.values[int(params[key])]
        else:
            low, high = parameter.range or parameter.log or (0.0, 0.0)
            values[key] = dimension.rounded(float(params[key]), low, high)
    return values


def _tell(study: Study, trial: Any, result: Result) -> None:
    """Tell Optuna a result: trainings that do not qualify are constraints, not a lower value."""
    from optuna.trial import TrialState

    if result.state == "diverged":
        study.tell(trial, state=TrialState.FAIL)
        return
    trial.set_constraint("unqualified", result.num_unqualified)
    if result.state == "stopped":
        trial.report(result.value, result.epochs)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, result.value)
