"""The comparison models: fitted per outer split and fold, as networks are, and as members."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from mgmt_ray.base import stream_seed
from mgmt_ray.baselines.baseline_inputs import COVARIATES, Baselines, list_folds
from mgmt_ray.baselines.baseline_model import BaselineModel, Prevalence
from mgmt_ray.baselines.logistic import fit_logistic
from mgmt_ray.baselines.random_forest import grow_forest
from mgmt_ray.cluster.parallel_map import parallel_map
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.selection.predictions import PREDICTION_COLUMNS
from mgmt_ray.splits.split import Split, resolve_labels
from mgmt_ray.study.baseline_config import BaselineName, ForestConfig
from mgmt_ray.study.held_out_set import HeldOutSet

MODEL_COLUMNS = (
    "comparison",
    "outer_fold",
    "fold",
    "trial",
    "num_subjects",
    "prior",
    "fitted",
    "weights_sha256",
)


@dataclass(frozen=True, slots=True, eq=False)
class BaselineTask:
    """A model to be fitted, and nothing but what it is fitted to.

    Attributes:
        name: of the model.
        outer_fold: number of the split.
        fold: that validates.
        values: [subject, column] of the training subjects.
        labels: theirs.
        forest: how a forest is grown.
        seed: of its draws.
    """

    name: BaselineName
    outer_fold: int
    fold: int
    values: Float64[np.ndarray, "subject column"]
    labels: Int64[np.ndarray, " subject"]
    forest: ForestConfig
    seed: int

    @property
    def trial(self) -> str:
        """What the model is called in prediction tables."""
        return f"{self.name}-outer{self.outer_fold}-fold{self.fold}"

    @property
    def prior(self) -> float:
        """The share of methylated; classes are not balanced."""
        return float(self.labels.mean())


@dataclass(frozen=True, slots=True, eq=False)
class FittedBaseline:
    """A comparison model and what it was fitted to."""

    task: BaselineTask
    model: BaselineModel


def fit_baselines(
    baselines: Baselines,
    cohort: Cohort,
    splits: Sequence[Split],
    resources: Resources,
    progress: Callable[[int, int], None],
) -> list[FittedBaseline]:
    """Fit one model per name, outer split and fold, on the other folds.

    Nothing of a test subject is looked at.

    Args:
        baselines: which, and their numbers.
        cohort: of the labels.
        splits: all of the study.
        resources: with backend "ray", Ray must be connected; its threads grow a forest's trees.
        progress: is given models done and their number.

    Returns:
        In the order of names, splits and folds.
    """
    tasks = [
        _baseline_task(baselines, name, cohort, split, fold)
        for name in baselines.names
        for split, fold in list_folds(splits)
    ]
    fitted: dict[str, FittedBaseline] = {}
    for task, model in parallel_map(_fit, tasks, resources.threads, resources, resources.cpus):
        fitted[task.trial] = FittedBaseline(task, model)
        progress(len(fitted), len(tasks))
    return [fitted[task.trial] for task in tasks]


def predict_validation(
    fitted: Sequence[FittedBaseline], baselines: Baselines, cohort: Cohort, splits: Sequence[Split]
) -> list[pd.DataFrame]:
    """Each training subject by the models that were not fitted to it, as prediction tables."""
    tables = []
    for one in fitted:
        split = next(s for s in splits if s.outer_fold == one.task.outer_fold)
        label = resolve_labels(split, cohort)
        _, ids = split.fold(one.task.fold, set(baselines.values[one.task.name]))
        tables.append(_predict(one, baselines, "validation", {s: label[s] for s in ids}))
    return tables


def predict_test(
    fitted: Sequence[FittedBaseline], baselines: Baselines, held_out: Sequence[HeldOutSet]
) -> list[pd.DataFrame]:
    """The test subjects of each model's own split, as prediction tables."""
    return [_predict(one, baselines, "test", held_out[one.task.outer_fold].label) for one in fitted]


def describe_baselines(fitted: Sequence[FittedBaseline]) -> pd.DataFrame:
    """What was fitted: one row per model; ``fitted`` is JSON text."""
    rows = [
        {
            "comparison": one.task.name,
            "outer_fold": one.task.outer_fold,
            "fold": one.task.fold,
            "trial": one.task.trial,
            "num_subjects": len(one.task.labels),
            "prior": one.task.prior,
            "fitted": json.dumps(one.model.facts),
            "weights_sha256": one.model.checksum,
        }
        for one in fitted
    ]
    return pd.DataFrame(rows, columns=list(MODEL_COLUMNS))


def _baseline_task(
    baselines: Baselines, name: BaselineName, cohort: Cohort, split: Split, fold: int
) -> BaselineTask:
    values = baselines.values[name]
    train, _ = split.fold(fold, set(values))
    label = resolve_labels(split, cohort)
    labels = np.array([label[s] for s in train], dtype=np.int64)
    seed = stream_seed(baselines.seed, "comparison", name, split.outer_fold, fold)
    return BaselineTask(
        name, split.outer_fold, fold, _value_matrix(values, train), labels, baselines.forest, seed
    )


def _fit(task: BaselineTask, threads: int) -> BaselineModel:
    match task.name:
        case "radiomics_forest":
            return grow_forest(task.values, task.labels, task.forest, task.seed, threads)
        case "age_sex":
            return fit_logistic(task.values, task.labels, COVARIATES, ("median", "mode"))
        case "tumour_volume":
            return fit_logistic(task.values, task.labels, ("log_tumour_ml",), ("median",))
        case "prevalence":
            return Prevalence(task.prior)


def _predict(
    one: FittedBaseline, baselines: Baselines, split: str, label: Mapping[str, int]
) -> pd.DataFrame:
    ids = list(label)
    values = _value_matrix(baselines.values[one.task.name], ids)
    columns: dict[str, Any] = {
        "subject": ids,
        "split": split,
        "outer_fold": one.task.outer_fold,
        "fold": one.task.fold,
        "network": one.task.name,
        "modality": one.task.name,
        "trial": one.task.trial,
        "probability": one.model.predict(values) if ids else [],
        "probability_std": 0.0,
        "label": list(label.values()),
        "weights_sha256": one.model.checksum,
        "prior": one.task.prior,
    }
    return pd.DataFrame(columns, columns=list(PREDICTION_COLUMNS))


def _value_matrix(
    values: Mapping[str, tuple[float, ...]], ids: Sequence[str]
) -> Float64[np.ndarray, "subject column"]:
    """Rows of numbers, also where a model takes none."""
    flat = chain.from_iterable(values[subject] for subject in ids)
    width = len(next(iter(values.values())))
    return np.fromiter(flat, np.float64).reshape(len(ids), width)
