"""What a study does otherwise than the paper, whose settings are the defaults of every key."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from mgmt_ray.base import Config
from mgmt_ray.cohort.covariates import Covariate, read_covariates
from mgmt_ray.nets.build import NetworkConfig
from mgmt_ray.preprocess.recipe import RecipeConfig
from mgmt_ray.report.gather import StudyResults
from mgmt_ray.report.html_table import NOTHING, Table
from mgmt_ray.report.kinds import has_slices_alone, slice_networks
from mgmt_ray.splits.draw import SplitConfig
from mgmt_ray.training.training_config import EvaluationConfig, TrainingConfig

PARTS: dict[str, type[Config]] = {
    "recipe": RecipeConfig,
    "split": SplitConfig,
    "training": TrainingConfig,
    "evaluation": EvaluationConfig,
}


def settings_table(results: StudyResults) -> Table | None:
    """Keys of the study whose values are not the paper's; None where all are.

    Networks of slices have a paper of their own (see ``slice_settings``).
    """
    if has_slices_alone(results):
        return None
    rows = [row for name, kind in PARTS.items() for row in _unlike(results, name, kind)]
    networks: Mapping[str, Any] = results.config.get("networks") or {}
    for name, given in networks.items():
        if name not in slice_networks(results):
            rows += different_keys(f"networks.{name}", given or {}, NetworkConfig)
    rows += _swept(results)
    if not rows:
        return None
    header = ("Key of the study", "This study", "Schmitz et al. 2024")
    return Table("settings", "Settings that are not the paper's", header, tuple(rows), is_wide=True)


def covariates_sentence(results: StudyResults) -> str:
    """How many subjects lack an age or a sex that a network takes; empty where none takes any."""
    names = taken_covariates(results)
    if not names:
        return ""
    known = read_covariates(results.cohort.subjects, names)
    lacking = {
        name: sum(math.isnan(values[place]) for values in known.values())
        for place, name in enumerate(names)
    }
    parts = ", ".join(f"{name} of {number}" for name, number in lacking.items())
    return (
        f"Not known, and taken to be the mean of the training subjects: {parts} of the "
        f"{len(known)} subjects."
    )


def taken_covariates(results: StudyResults) -> list[Covariate]:
    """Which numbers of a subject any network takes beside the image, sorted."""
    networks: Mapping[str, Any] = results.config.get("networks") or {}
    return sorted({name for n in networks.values() for name in (n or {}).get("covariates") or ()})


def _unlike(results: StudyResults, name: str, kind: type[Config]) -> Iterator[tuple[str, str, str]]:
    yield from different_keys(name, results.config.get(name) or {}, kind)


def different_keys(
    where: str, given: Mapping[str, Any], kind: type[Config]
) -> Iterator[tuple[str, str, str]]:
    """Keys of a part of a study that differ from their defaults, with both values.

    Args:
        where: the part is in the study.
        given: the part, resolved.
        kind: what it was read into.
    """
    for key, field in kind.model_fields.items():
        if key not in given or field.is_required():
            continue
        default = field.get_default(call_default_factory=True)
        if _plain(given[key]) != _plain(default):
            yield f"{where}.{key}", _words(given[key]), _words(default)


def _swept(results: StudyResults) -> Iterator[tuple[str, str, str]]:
    for key, values in (results.config.get("sweep") or {}).items():
        if values:
            yield f"sweep.{key}", _words(values), NOTHING
    repeated = results.config.get("num_seeds", 1)
    if repeated != 1:
        yield "num_seeds", _words(repeated), "1"


def _plain(value: Any) -> Any:
    """One form for what YAML and a configuration write differently."""
    if isinstance(value, Config):
        value = value.model_dump(mode="json")
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _words(value: Any) -> str:
    if value is None or value == () or value == []:
        return NOTHING
    if isinstance(value, list | tuple):
        return ", ".join(_words(part) for part in value)
    return str(value)
