"""Settings of a study that differ from the papers', and sentences on its networks of slices.

The papers' settings are the defaults of the configuration's keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mgmt_ray.base import Config
from mgmt_ray.cohort.covariates import Covariate, read_covariates
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.nets.build import NetworkConfig
from mgmt_ray.preprocess.recipe import RecipeConfig
from mgmt_ray.report.html_table import DASH, Table
from mgmt_ray.report.study_results import StudyResults, has_only_slice_networks, slice_networks
from mgmt_ray.splits.draw import SplitConfig
from mgmt_ray.statistics.published_results import CHEN_FOLDS
from mgmt_ray.study.study_config import SlicePipelineConfig
from mgmt_ray.training.training_config import (
    ClassificationTraining,
    EvaluationConfig,
    SegmentationTraining,
    TrainingConfig,
)

CHEN_SPLIT: dict[str, float] = {
    "test_fraction": 0.2,
    "folds": CHEN_FOLDS,
    "outer_folds": 0,
    "repeats": 1,
}
"""Section 2.1 of Chen et al. 2020: one test set, drawn once."""

PARTS: dict[str, type[Config]] = {
    "recipe": RecipeConfig,
    "split": SplitConfig,
    "training": TrainingConfig,
    "evaluation": EvaluationConfig,
}

PUBLISHED: dict[str, str] = {"initialisation": "uniform"}
"""Keys whose default is not what Schmitz et al. 2024 write, with their value."""

SLICE_STAGES: dict[str, type[Config]] = {
    "segmentation": SegmentationTraining,
    "classification": ClassificationTraining,
}


def settings_table(results: StudyResults) -> Table | None:
    """Return the study's keys whose values differ from Schmitz et al. 2024; None if none does.

    Networks of slices follow another paper, see :func:`slice_settings_table`.
    """
    if has_only_slice_networks(results):
        return None
    rows = [row for name, kind in PARTS.items() for row in _changed_keys(results, name, kind)]
    networks: Mapping[str, Any] = results.config.get("networks") or {}
    for name, network in networks.items():
        if name not in slice_networks(results):
            rows += _changed_network(f"networks.{name}", network or {})
    rows += _searched_values(results)
    if not rows:
        return None
    header = ("Key of the study", "This study", "Schmitz et al. 2024")
    return Table(
        "settings", "Settings that differ from the paper", header, tuple(rows), is_wide=True
    )


def covariates_sentence(results: StudyResults) -> str:
    """Count the subjects without an age or a sex that a network takes; empty if none takes any."""
    names = used_covariates(results)
    if not names:
        return ""
    known = read_covariates(results.cohort.subjects, names)
    num_missing = {
        name: sum(math.isnan(values[i]) for values in known.values())
        for i, name in enumerate(names)
    }
    parts = ", ".join(f"{name} of {number}" for name, number in num_missing.items())
    return (
        f"Unknown, and set to the mean of the training subjects: {parts} of the "
        f"{len(known)} subjects."
    )


def used_covariates(results: StudyResults) -> list[Covariate]:
    """Return the covariates that any network takes in addition to the image, sorted."""
    networks: Mapping[str, Any] = results.config.get("networks") or {}
    return sorted({name for n in networks.values() for name in (n or {}).get("covariates") or ()})


def _changed_keys(
    results: StudyResults, name: str, kind: type[Config]
) -> Iterator[tuple[str, str, str]]:
    yield from changed_keys(name, results.config.get(name) or {}, kind)


def _changed_network(where: str, network: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the keys of a network that differ from the paper; not every default is the paper's."""
    from_scratch = network.get("kind") == "random"
    published = PUBLISHED if from_scratch else {}
    given = {key: value for key, value in network.items() if key not in published}
    yield from changed_keys(where, given, NetworkConfig)
    for key, value in published.items():
        used = network.get(key, NetworkConfig.model_fields[key].default)
        if used != value:
            yield f"{where}.{key}", _value_text(used), value


def changed_keys(
    where: str, given: Mapping[str, Any], kind: type[Config]
) -> Iterator[tuple[str, str, str]]:
    """Yield the keys of a part of a study that differ from their defaults, with both values.

    Args:
        where: dotted path of the part in the study, put before each key.
        given: the part, resolved.
        kind: model that declares the defaults.

    >>> list(changed_keys("split", {"folds": 3}, SplitConfig))
    [('split.folds', '3', '5')]
    """
    for key, field in kind.model_fields.items():
        if key not in given or field.is_required():
            continue
        default = field.get_default(call_default_factory=True, validated_data={})
        if _normalise_value(given[key]) != _normalise_value(default):
            yield f"{where}.{key}", _value_text(given[key]), _value_text(default)


def _searched_values(results: StudyResults) -> Iterator[tuple[str, str, str]]:
    for key, tried in ((results.config.get("search") or {}).get("space") or {}).items():
        for kind, values in tried.items():
            if values:
                text = _value_text(values) if kind == "values" else f"{values[0]} to {values[1]}"
                yield f"search.space.{key}", text, DASH
    repeated = results.config.get("num_seeds", 1)
    if repeated != 1:
        yield "num_seeds", _value_text(repeated), "1"


def _normalise_value(value: Any) -> Any:
    """Return one form of values that YAML and a configuration write differently."""
    if isinstance(value, Config):
        value = value.model_dump(mode="json")
    return [_normalise_value(item) for item in value] if isinstance(value, list | tuple) else value


def _value_text(value: Any) -> str:
    if value is None or value == () or value == []:
        return DASH
    if isinstance(value, list | tuple):
        return ", ".join(_value_text(item) for item in value)
    return str(value)


def slice_settings_table(results: StudyResults) -> Table | None:
    """Return keys of networks of slices that differ from Chen et al. 2020; None if none does.

    Cross-fitted masks are this program's default, but not the paper's. The recipe of slices is not
    compared: the paper does not give one.
    """
    rows: list[tuple[str, str, str]] = []
    networks = slice_networks(results)
    for name, network in networks.items():
        where = f"networks.{name}"
        rows += changed_keys(where, _without_stages(network), SlicePipelineConfig)
        if network.get("cross_fitted", True):
            rows.append((f"{where}.cross_fitted", "True", "False"))
        for stage, kind in SLICE_STAGES.items():
            rows += changed_keys(f"{where}.{stage}", network.get(stage) or {}, kind)
    if networks:
        rows += _changed_split(results.config.get("split") or {})
    if not rows:
        return None
    header = ("Key of the study", "This study", "Chen et al. 2020")
    caption = "Settings of networks of slices that differ from the paper"
    return Table("slice_settings", caption, header, tuple(rows))


def slice_statements(results: StudyResults) -> dict[str, str]:
    """Return sentences on the study's networks of slices, by subject: see ``study_statements``."""
    networks = slice_networks(results)
    if not networks:
        return {}
    names = ", ".join(map(network_label, networks))
    return {
        "technology": f"deep learning on 2-D slices of MRI ({names})",
        "model": "; ".join(_model_sentence(name, network) for name, network in networks.items()),
        "imbalance": _per_network(networks, _balance_sentence),
        "ensembles": "mean probability over slices, folds, seeds and modalities",
        "preprocessing": _preprocessing_sentence(results.config.get("slices") or {}),
        "metrics": "Dice and HD95 of segmentations; accuracy, recall, precision, F1 and AUC by "
        "slice and by patient",
        "uncertainty": "resamples of whole patients with all their slices",
    }


def _without_stages(network: Mapping[str, Any]) -> dict[str, Any]:
    others = {*SLICE_STAGES, "cross_fitted", "parts"}
    return {key: value for key, value in network.items() if key not in others}


def _changed_split(split: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for key, published in CHEN_SPLIT.items():
        if split.get(key, published) != published:
            yield f"split.{key}", str(split[key]), f"{published:g}"


def _per_network(
    networks: Mapping[str, Mapping[str, Any]], describe: Callable[[Mapping[str, Any]], str]
) -> str:
    """Join the networks' descriptions, with the networks' names if there are several."""
    texts = {network_label(name): describe(network) for name, network in networks.items()}
    if len(networks) == 1:
        return "".join(texts.values())
    return "; ".join(f"{name}: {text}" for name, text in texts.items() if text)


def _model_sentence(name: str, network: Mapping[str, Any]) -> str:
    width = network.get("width", 32)
    if network.get("cross_fitted", True):
        segmenter = "networks that did not train on the patient"
    else:
        segmenter = "the fold's segmentation network"
    return (
        f"{network_label(name)}: a residual encoder and decoder with the branch of a variational "
        f"autoencoder ({width} channels at first) segments axial slices; two convolutional and two "
        "linear layers classify each slice by image, predicted tumour and their product; the "
        f"tumour of training slices is predicted by {segmenter}"
    )


def _balance_sentence(network: Mapping[str, Any]) -> str:
    balance = str((network.get("classification") or {}).get("balance", ""))
    words = {
        "weight": "the loss of slice classifiers is weighted by class",
        "none": "slices of both classes are left as they are",
    }
    return words.get(balance, "")


def _preprocessing_sentence(recipe: Mapping[str, Any]) -> str:
    if not recipe:
        return ""
    shape = " × ".join(map(str, recipe.get("shape", ())))
    return (
        f"axial slices of {shape} pixels of {recipe.get('shrink')} × {recipe.get('shrink')} voxels "
        "each; intensities mapped piecewise linearly onto a standard histogram that is learnt on "
        "the fold's training subjects alone, then to mean 0 and standard deviation 1 over valued "
        "voxels; training slices also rotated by up to 20° either way; slices through the tumour "
        "are used for training and classified"
    )
