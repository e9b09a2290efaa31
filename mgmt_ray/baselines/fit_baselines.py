"""Fit the baseline models per outer split and fold, like networks, and predict with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from mgmt_ray.base import stream_seed
from mgmt_ray.baselines.baseline_inputs import Baselines, ModelKey, list_folds
from mgmt_ray.baselines.baseline_model import BaselineModel, Prevalence
from mgmt_ray.baselines.first_order import fit_first_order
from mgmt_ray.baselines.logistic import fit_logistic
from mgmt_ray.baselines.random_forest import grow_forest
from mgmt_ray.cluster.parallel_map import parallel_map
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.covariates import AGE_SEX
from mgmt_ray.selection.predictions import prediction_rows
from mgmt_ray.splits.split import Split, resolve_labels
from mgmt_ray.study.baseline_config import BaselineName, ForestConfig
from mgmt_ray.study.held_out_set import HeldOutSet

MODEL_COLUMNS = (
    "baseline",
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
    """A baseline model to be fitted, with its training data.

    Attributes:
        name: the model.
        modality: that it is fitted to; the name of a model that is not of one modality.
        outer_fold: number of the outer split.
        fold: number of the validation fold.
        values: input values of the training subjects.
        labels: 1 for methylated.
        forest: hyperparameters of the random forest.
        seed: of the random forest.
    """

    name: BaselineName
    modality: str
    outer_fold: int
    fold: int
    values: Float64[np.ndarray, "subject column"]
    labels: Int64[np.ndarray, " subject"]
    forest: ForestConfig
    seed: int

    @property
    def model(self) -> ModelKey:
        """Key of the model's input values."""
        return self.name, self.modality

    @property
    def trial(self) -> str:
        """The model's id in prediction tables."""
        return f"{'-'.join(dict.fromkeys(self.model))}-outer{self.outer_fold}-fold{self.fold}"

    @property
    def prior(self) -> float:
        """The share of methylated training subjects; classes are not balanced."""
        return float(self.labels.mean())


@dataclass(frozen=True, slots=True, eq=False)
class FittedBaseline:
    """A fitted baseline model and its training data."""

    task: BaselineTask
    model: BaselineModel


def fit_baselines(
    baselines: Baselines,
    cohort: Cohort,
    splits: Sequence[Split],
    resources: Resources,
    progress: Callable[[int, int], None],
) -> list[FittedBaseline]:
    """Fit one model per name (and modality), outer split and fold, on the other folds.

    No test subject is used.

    Args:
        baselines: models and their input values.
        cohort: has the labels.
        splits: all outer splits of the study.
        resources: backend, and CPUs per model; a forest is grown with as many threads.
        progress: called with (models done, models in total).

    Returns:
        Models in the order of names, splits and folds.
    """
    tasks = [
        _baseline_task(baselines, model, cohort, split, fold)
        for model in baselines.values
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
    """Return a prediction table per model, of the subjects of its validation fold."""
    tables = []
    for baseline in fitted:
        split = next(s for s in splits if s.outer_fold == baseline.task.outer_fold)
        label = resolve_labels(split, cohort)
        _, ids = split.fold(baseline.task.fold, set(baselines.values[baseline.task.model]))
        tables.append(_predict(baseline, baselines, "validation", {s: label[s] for s in ids}))
    return tables


def predict_test(
    fitted: Sequence[FittedBaseline], baselines: Baselines, held_out: Sequence[HeldOutSet]
) -> list[pd.DataFrame]:
    """Return a prediction table per model, of the test subjects of its outer split."""
    return [
        _predict(baseline, baselines, "test", held_out[baseline.task.outer_fold].label)
        for baseline in fitted
    ]


def describe_baselines(fitted: Sequence[FittedBaseline]) -> pd.DataFrame:
    """Return a row per model with :data:`MODEL_COLUMNS`; ``fitted`` is JSON text."""
    rows = [
        {
            "baseline": baseline.task.name,
            "outer_fold": baseline.task.outer_fold,
            "fold": baseline.task.fold,
            "trial": baseline.task.trial,
            "num_subjects": len(baseline.task.labels),
            "prior": baseline.task.prior,
            "fitted": json.dumps(baseline.model.summary),
            "weights_sha256": baseline.model.checksum,
        }
        for baseline in fitted
    ]
    return pd.DataFrame(rows, columns=list(MODEL_COLUMNS))


def _baseline_task(
    baselines: Baselines,
    model: ModelKey,
    cohort: Cohort,
    split: Split,
    fold: int,
) -> BaselineTask:
    name, modality = model
    values = baselines.values[model]
    train, _ = split.fold(fold, set(values))
    label = resolve_labels(split, cohort)
    labels = np.array([label[s] for s in train], dtype=np.int64)
    seed = stream_seed(baselines.seed, "comparison", name, split.outer_fold, fold)
    inputs = _value_matrix(values, train)
    outer = split.outer_fold
    return BaselineTask(name, modality, outer, fold, inputs, labels, baselines.forest, seed)


def _fit(task: BaselineTask, threads: int) -> BaselineModel:
    match task.name:
        case "radiomics_forest":
            return grow_forest(task.values, task.labels, task.forest, task.seed, threads)
        case "first_order":
            return fit_first_order(task.values, task.labels)
        case "age_sex":
            return fit_logistic(task.values, task.labels, AGE_SEX, ("median", "mode"))
        case "tumour_volume":
            return fit_logistic(task.values, task.labels, ("log_tumour_ml",), ("median",))
        case "prevalence":
            return Prevalence(task.prior)


def _predict(
    fitted: FittedBaseline, baselines: Baselines, split: str, label: Mapping[str, int]
) -> pd.DataFrame:
    """Predict the subjects that have a label."""
    task, ids = fitted.task, list(label)
    values = _value_matrix(baselines.values[task.model], ids)
    model = {
        "outer_fold": task.outer_fold,
        "fold": task.fold,
        "network": task.name,
        "modality": task.modality,
        "trial": task.trial,
        "weights_sha256": fitted.model.checksum,
        "prior": task.prior,
    }
    probability = fitted.model.predict(values) if ids else np.empty(0)
    return prediction_rows(model, split, ids, probability, list(label.values()))


def _value_matrix(
    values: Mapping[str, tuple[float, ...]], ids: Sequence[str]
) -> Float64[np.ndarray, "subject column"]:
    """Return the values of some subjects as a matrix; without columns for models without inputs."""
    flat = chain.from_iterable(values[subject] for subject in ids)
    width = len(next(iter(values.values())))
    return np.fromiter(flat, np.float64).reshape(len(ids), width)
