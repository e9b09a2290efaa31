"""What a study does otherwise than the paper, whose settings are the defaults of every key."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mgmt_ray.base import Config
from mgmt_ray.cohort.covariates import Covariate, read_covariates
from mgmt_ray.figures.style import network_label
from mgmt_ray.nets.build import NetworkConfig
from mgmt_ray.preprocess.recipe import RecipeConfig
from mgmt_ray.report.gather import StudyResults, has_only_slice_networks, slice_networks
from mgmt_ray.report.html_table import DASH, Table
from mgmt_ray.splits.draw import SplitConfig
from mgmt_ray.statistics.published_results import CHEN_FOLDS
from mgmt_ray.study.study_config import SlicePipelineConfig
from mgmt_ray.training.training_config import (
    ClassificationTraining,
    EvaluationConfig,
    SegmentationTraining,
    TrainingConfig,
)

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
    if has_only_slice_networks(results):
        return None
    rows = [row for name, kind in PARTS.items() for row in _changed_keys(results, name, kind)]
    networks: Mapping[str, Any] = results.config.get("networks") or {}
    for name, given in networks.items():
        if name not in slice_networks(results):
            rows += changed_keys(f"networks.{name}", given or {}, NetworkConfig)
    rows += _swept_values(results)
    if not rows:
        return None
    header = ("Key of the study", "This study", "Schmitz et al. 2024")
    return Table("settings", "Settings that are not the paper's", header, tuple(rows), is_wide=True)


def covariates_sentence(results: StudyResults) -> str:
    """How many subjects lack an age or a sex that a network takes; empty where none takes any."""
    names = used_covariates(results)
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


def used_covariates(results: StudyResults) -> list[Covariate]:
    """Which numbers of a subject any network takes beside the image, sorted."""
    networks: Mapping[str, Any] = results.config.get("networks") or {}
    return sorted({name for n in networks.values() for name in (n or {}).get("covariates") or ()})


def _changed_keys(
    results: StudyResults, name: str, kind: type[Config]
) -> Iterator[tuple[str, str, str]]:
    yield from changed_keys(name, results.config.get(name) or {}, kind)


def changed_keys(
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
        if _normalise_value(given[key]) != _normalise_value(default):
            yield f"{where}.{key}", _value_text(given[key]), _value_text(default)


def _swept_values(results: StudyResults) -> Iterator[tuple[str, str, str]]:
    for key, values in (results.config.get("sweep") or {}).items():
        if values:
            yield f"sweep.{key}", _value_text(values), DASH
    repeated = results.config.get("num_seeds", 1)
    if repeated != 1:
        yield "num_seeds", _value_text(repeated), "1"


def _normalise_value(value: Any) -> Any:
    """One form for what YAML and a configuration write differently."""
    if isinstance(value, Config):
        value = value.model_dump(mode="json")
    return [_normalise_value(part) for part in value] if isinstance(value, list | tuple) else value


def _value_text(value: Any) -> str:
    if value is None or value == () or value == []:
        return DASH
    if isinstance(value, list | tuple):
        return ", ".join(_value_text(part) for part in value)
    return str(value)


CHEN_SPLIT: dict[str, float] = {
    "test_fraction": 0.2,
    "folds": CHEN_FOLDS,
    "outer_folds": 0,
    "repeats": 1,
}
"""Section 2.1 of Chen et al. 2020: one test set, drawn once."""

STAGES: dict[str, type[Config]] = {
    "segmentation": SegmentationTraining,
    "classification": ClassificationTraining,
}


def slice_settings_table(results: StudyResults) -> Table | None:
    """Keys of networks of slices whose values are not the paper's; None where all are.

    Cross-fitted masks are this program's default, but not the paper's. The recipe of slices is not
    compared: the paper does not give its own.
    """
    rows: list[tuple[str, str, str]] = []
    networks = slice_networks(results)
    for name, network in networks.items():
        where = f"networks.{name}"
        rows += changed_keys(where, _without_stages(network), SlicePipelineConfig)
        if network.get("cross_fitted", True):
            rows.append((f"{where}.cross_fitted", "True", "False"))
        for stage, kind in STAGES.items():
            rows += changed_keys(f"{where}.{stage}", network.get(stage) or {}, kind)
    if networks:
        rows += _split(results.config.get("split") or {})
    if not rows:
        return None
    header = ("Key of the study", "This study", "Chen et al. 2020")
    caption = "Settings of networks of slices that are not the paper's"
    return Table("slice_settings", caption, header, tuple(rows))


def slice_statements(results: StudyResults) -> dict[str, str]:
    """What the study knows of its networks of slices, by the names that ``checklists.csv`` uses."""
    networks = slice_networks(results)
    if not networks:
        return {}
    names = ", ".join(map(network_label, networks))
    return {
        "technology": f"deep learning on 2-D slices of MRI ({names})",
        "model": "; ".join(_model(name, network) for name, network in networks.items()),
        "training": _per_network(networks, _training),
        "imbalance": _per_network(networks, _balance),
        "selection": "a segmentation keeps the epoch of the lowest loss on the validation fold, a "
        "classifier of slices that of the highest accuracy there",
        "ensembles": "mean probability over slices, folds, seeds and modalities",
        "preprocessing": _preprocessing(results.config.get("slices") or {}),
        "metrics": "Dice and HD95 of segmentations; accuracy, recall, precision, F1 and AUC by "
        "slice and by patient",
        "uncertainty": "resamples of whole patients with all their slices",
        "differences": "training slices alone are rotated",
    }


def _without_stages(network: Mapping[str, Any]) -> dict[str, Any]:
    apart = {*STAGES, "cross_fitted", "parts"}
    return {key: value for key, value in network.items() if key not in apart}


def _split(split: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for key, published in CHEN_SPLIT.items():
        if split.get(key, published) != published:
            yield f"split.{key}", str(split[key]), f"{published:g}"


def _per_network(
    networks: Mapping[str, Mapping[str, Any]], say: Callable[[Mapping[str, Any]], str]
) -> str:
    """What is said of the networks, with their names where there are several."""
    said = {
        network_label(name): text for name, network in networks.items() if (text := say(network))
    }
    if len(networks) == 1:
        return "".join(said.values())
    return "; ".join(f"{name}: {text}" for name, text in said.items())


def _model(name: str, network: Mapping[str, Any]) -> str:
    width = network.get("width", 32)
    masks = "networks that did not train on the patient"
    by = masks if network.get("cross_fitted", True) else "the fold's segmentation network"
    return (
        f"{network_label(name)}: a residual encoder and decoder with the branch of a variational "
        f"autoencoder ({width} channels at first) segments axial slices; two convolutional and two "
        "linear layers classify each slice by image, predicted tumour and their product; the "
        f"tumour of training slices is predicted by {by}"
    )


def _training(network: Mapping[str, Any]) -> str:
    segmentation = network.get("segmentation") or {}
    classification = network.get("classification") or {}
    if not segmentation or not classification:
        return ""
    stable = classification.get("stable_epochs")
    ends = f", ends when validation accuracy is the same for {stable} epochs" if stable else ""
    return (
        "segmentation: Adam, soft Dice + 0.1·L2 + 0.1·KL, at most "
        f"{segmentation.get('epochs')} epochs, batches of {segmentation.get('batch_size')}, "
        f"learning rate {segmentation.get('learning_rate')}; classification: Adam, cross-entropy, "
        f"at most {classification.get('epochs')} epochs, batches of "
        f"{classification.get('batch_size')}, learning rate "
        f"{classification.get('learning_rate')}{ends}"
    )


def _balance(network: Mapping[str, Any]) -> str:
    balance = str((network.get("classification") or {}).get("balance", ""))
    words = {
        "weight": "the loss of slice classifiers is weighted by class",
        "none": "slices of both classes are left as they are",
    }
    return words.get(balance, "")


def _preprocessing(recipe: Mapping[str, Any]) -> str:
    if not recipe:
        return ""
    shape = " × ".join(map(str, recipe.get("shape", ())))
    return (
        f"axial slices of {shape} pixels of {recipe.get('shrink')} × {recipe.get('shrink')} voxels "
        "each; intensities mapped piecewise linearly onto a standard histogram that is learnt on "
        "the fold's training subjects alone, then to mean 0 and deviation 1 over valued voxels; "
        "training slices also turned by up to 20° either way; those through the tumour train and "
        "are classified"
    )
