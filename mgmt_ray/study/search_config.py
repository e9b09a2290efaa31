"""The section ``search`` of a study: which values are tried, how many, and how they are chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

from pydantic import Field, JsonValue, ValidationError, model_validator

from mgmt_ray.base import Config, did_you_mean
from mgmt_ray.training.training_config import TrainingConfig

AGENT_KEYS = (
    "agent_depth",
    "agent_width",
    "agent_learning_rate",
    "temperature",
    "temperature_schedule",
    "temperature_end",
    "validation_draws",
)
"""Keys of networks and training that have no effect on a network without an agent."""

MEASURES = ("criterion", "min_sensitivity", "min_specificity")
"""Keys of training that say what configurations are compared by."""

Values: TypeAlias = dict[str, JsonValue]
"""What a configuration sets, by key: one of ``training``, or ``networks.NAME.KEY``."""


class ParameterConfig(Config):
    """The values of one key that are tried."""

    values: tuple[JsonValue, ...] | None = Field(
        None, min_length=1, description="each of these, alike probable"
    )
    range: tuple[float, float] | None = Field(
        None, description="from, to; drawn evenly, whole numbers where the key takes these"
    )
    log: tuple[float, float] | None = Field(
        None, description="from, to, above 0; drawn evenly in the logarithm"
    )

    @model_validator(mode="after")
    def _check_one(self) -> ParameterConfig:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "give one of {values: [...]}, {range: [from, to]} and {log: [from, to]}"
            )
        if self.values is not None and len({repr(v) for v in self.values}) < len(self.values):
            raise ValueError("a value is listed twice")
        ends = self.range or self.log
        if ends and not ends[0] < ends[1]:
            raise ValueError("the first number must be the lower one")
        if self.log and self.log[0] <= 0:
            raise ValueError("log: both numbers must be above 0")
        return self

    @property
    def examples(self) -> tuple[JsonValue, ...]:
        """Return the values, or the ends of the range."""
        return self.values or self.range or self.log or ()


class SearchConfig(Config):
    """A search over configurations, chosen on validation folds alone."""

    method: Literal["random", "grid", "optuna"] = Field(
        "random", description="random draws, every combination, or Optuna's TPE"
    )
    space: dict[str, ParameterConfig] = Field(
        min_length=1, description="by key of training, or networks.NAME.KEY: what is tried"
    )
    start: tuple[Values, ...] = Field((), description="configurations that are tried first")
    configurations: int | None = Field(
        None, ge=1, description="how many; grid without it: all. More continues a search"
    )
    hours: float | None = Field(
        None,
        gt=0,
        description="instead of configurations: hours of training, summed over all trainings, "
        "after which no further generation starts",
    )
    generation: int = Field(
        8, ge=2, description="optuna, or hours: configurations that are trained at a time"
    )
    unit: Literal["shared", "per_input"] = Field(
        "shared", description="one configuration of a network for all inputs, or one for each"
    )
    stop_early: bool = Field(
        False,
        description="successive halving: at 1/9 and 1/3 of the epochs the best third goes on",
    )

    @model_validator(mode="after")
    def _check_consistent(self) -> SearchConfig:
        if self.configurations is not None and self.hours is not None:
            raise ValueError("give configurations or hours, not both")
        if self.method == "grid":
            continuous = [key for key, p in self.space.items() if p.values is None]
            if continuous:
                raise ValueError(f"method grid: list {{values: [...]}} of {', '.join(continuous)}")
        elif self.configurations is None and self.hours is None:
            raise ValueError(f"method {self.method}: say how many configurations, or hours")
        for values in self.start:
            if {*values} != {*self.space}:
                raise ValueError(
                    f"start: each configuration has a value of {', '.join(self.space)}, no others"
                )
        return self


N = TypeVar("N", bound=Config)


def replace_values(
    training: TrainingConfig, networks: Mapping[str, N], values: Mapping[str, Any]
) -> tuple[TrainingConfig, dict[str, N]]:
    """Return the training and the networks of a study with other values.

    Args:
        values: by key of training, or ``networks.NAME.KEY``.

    Raises:
        ValueError: there is no such key, or it does not take the value.

    >>> replace_values(TrainingConfig(), {}, {"epochs": 3})[0].epochs
    3
    """
    changes: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        part, path = _locate(key, networks)
        config: Config = networks[part] if part else training
        content = changes.setdefault(part, config.model_dump())
        for name in path[:-1]:
            content = content[name]
        content[path[-1]] = value
    new_training, new_networks = training, dict(networks)
    for part, content in changes.items():
        try:
            if part:
                new_networks[part] = type(networks[part]).model_validate(content)
            else:
                new_training = TrainingConfig.model_validate(content)
        except ValidationError as error:
            fault = error.errors()[0]
            key = ".".join([*(("networks", part) if part else ()), *map(str, fault["loc"])])
            message = fault["msg"].removeprefix("Value error, ")
            raise ValueError(f"{key}: {message}" if key else message) from error
    return new_training, new_networks


def _locate(key: str, networks: Mapping[str, Config]) -> tuple[str, list[str]]:
    """Return the network that a key belongs to ("" for training), and its path there."""
    part, path = "", key.split(".")
    kind: Any = TrainingConfig
    if path[0] == "networks":
        if len(path) < 3 or path[1] not in networks:
            hint = did_you_mean(path[1], networks) if len(path) > 1 else ""
            raise ValueError(f"is not networks.NAME.KEY of a network of the study{hint}")
        part, path = path[1], path[2:]
        kind = type(networks[part])
    for number, name in enumerate(path):
        fields = kind.model_fields if isinstance(kind, type) and issubclass(kind, Config) else {}
        if name not in fields or name == "kind":
            where = f"networks.{part}" if part else "training"
            where = ".".join([where, *path[:number]])
            raise ValueError(f"is not a key of {where}{did_you_mean(name, fields)}")
        kind = fields[name].annotation
    if not part and path[0] in MEASURES:
        raise ValueError("says what configurations are compared by; it can't be searched")
    return part, path


def affects(key: str, network: str, kind: str) -> bool:
    """Return whether a key of the search space has an effect on a network.

    Args:
        network: its name.
        kind: of the network.

    >>> affects("temperature", "scratch", "random"), affects("epochs", "scratch", "random")
    (False, True)
    """
    *prefix, name = key.split(".")
    if prefix:
        return prefix[1] == network and (kind in ("spottune", "slices") or name not in AGENT_KEYS)
    return kind != "slices" and (kind == "spottune" or name not in AGENT_KEYS)


def check_search(
    search: SearchConfig, training: TrainingConfig, networks: Mapping[str, Config]
) -> None:
    """Check that each value can be set, and has an effect on a network of the study.

    Raises:
        ValueError: it cannot, or has none; names the key.
    """
    kinds = {name: str(getattr(network, "kind", "")) for name, network in networks.items()}
    first = {key: parameter.examples[0] for key, parameter in search.space.items()}
    for key, parameter in search.space.items():
        where = f"search.space.{key}"
        try:
            _locate(key, networks)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if not any(affects(key, name, kind) for name, kind in kinds.items()):
            raise ValueError(f"{where}: has no effect on any network of the study. Remove it")
        current = value_at(key, training, networks)
        if parameter.values is None and (
            isinstance(current, bool | str | tuple) or not _is_number(key, training, networks)
        ):
            raise ValueError(f"{where}: is no number; list {{values: [...]}}")
        for value in parameter.examples:
            given = as_whole(value) if is_whole(current) else value
            _check_values(where, training, networks, {**first, key: given})
    for start in search.start:
        _check_values("search.start", training, networks, start)
    if search.stop_early:
        _check_rungs(search, training, networks)


def _check_values(
    where: str,
    training: TrainingConfig,
    networks: Mapping[str, Config],
    values: Mapping[str, Any],
) -> None:
    try:
        replace_values(training, networks, values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _check_rungs(
    search: SearchConfig, training: TrainingConfig, networks: Mapping[str, Config]
) -> None:
    """Raise ValueError where a training of few epochs is not the beginning of one of many."""
    remedy = "Write stop_early: false"
    if any(getattr(network, "kind", "") == "slices" for network in networks.values()):
        raise ValueError(f"search.stop_early: is not for networks of kind slices. {remedy}")
    searched = search.space.get("schedule")
    schedules = searched.examples if searched else (training.schedule,)
    if "cosine" in schedules:
        raise ValueError(
            "search.stop_early: with schedule cosine the rates fall over all epochs, so that a "
            "training is not comparable before its end. "
            f"{remedy}, or take schedule plateau or constant"
        )
    if training.temperature_end is not None or any(
        key in search.space for key in ("temperature_schedule", "temperature_end")
    ):
        raise ValueError(
            "search.stop_early: with a temperature_schedule τ changes over all epochs, so that a "
            f"training is not comparable before its end. {remedy}, or a constant temperature"
        )


def _is_number(key: str, training: TrainingConfig, networks: Mapping[str, Config]) -> bool:
    current = value_at(key, training, networks)
    return current is None or isinstance(current, int | float)


def is_whole(current: object) -> bool:
    """Return whether a key takes whole numbers, as its present value is one."""
    return isinstance(current, int) and not isinstance(current, bool)


def as_whole(value: object) -> object:
    """Return a number that is written with a fraction of 0 as a whole one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def value_at(key: str, training: TrainingConfig, networks: Mapping[str, Config]) -> Any:
    """Return the value that a study without a search has at a key of its space."""
    part, path = _locate(key, networks)
    value: Any = networks[part] if part else training
    for name in path:
        value = getattr(value, name)
    return value


def typed_values(
    values: Mapping[str, Any], training: TrainingConfig, networks: Mapping[str, Config]
) -> Values:
    """Return a configuration as its keys read it: 30.0 epochs are 30, and "1e-5" is a number.

    >>> typed_values({"learning_rate": "1e-5", "epochs": 30.0}, TrainingConfig(), {})
    {'learning_rate': 1e-05, 'epochs': 30}
    """
    changed = replace_values(training, networks, values)
    return {key: _as_json(value_at(key, *changed)) for key in values}


def _as_json(value: Any) -> JsonValue:
    return [*value] if isinstance(value, tuple) else value


SHORT_NAMES = {
    "learning_rate": "lr",
    "agent_learning_rate": "agentlr",
    "temperature": "T",
    "epochs": "epochs",
    "batch_size": "batch",
}
"""Of keys, in trials' names."""


def short_text(values: Mapping[str, JsonValue]) -> str:
    """Return a configuration as trials' names have it; other trials may have the same.

    >>> short_text({"learning_rate": 1e-3, "temperature": 100, "networks.net.dropout": 0.25})
    'lr1e-3_T100_dropout0.25'
    """
    parts = [
        SHORT_NAMES.get(key, key.rpartition(".")[2].replace("_", "")) + _value_text(value)
        for key, value in values.items()
    ]
    return "_".join(parts)[:120]


def _value_text(value: JsonValue) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "+".join(_value_text(item) for item in value) or "none"
    if not isinstance(value, float):
        return "".join(c for c in str(value) if c.isalnum())
    if not value:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if -3 < exponent < 5:
        return f"{value:.6g}"
    return f"{value / 10**exponent:.3g}e{exponent}"
