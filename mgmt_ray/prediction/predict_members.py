"""Predict held-out subjects with the members, one task per member."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from mgmt_ray.cluster.parallel_map import parallel_map_in_order
from mgmt_ray.cluster.progress import ProgressCallback
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.prediction.predict_slices import predict_slices
from mgmt_ray.prediction.predict_volumes import predict_volumes
from mgmt_ray.prediction.prediction_files import MemberPredictions, join_predictions
from mgmt_ray.study.held_out_set import HeldOutSet
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.out_of_memory import raise_oom_with_hint
from mgmt_ray.training.training_config import EvaluationConfig
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.memory_estimate import oom_hint


class Predict(Protocol):
    """Predicts held-out subjects, whose volumes or slices are prepared, with one member."""

    def __call__(
        self,
        trial: Trial,
        held_out: HeldOutSet,
        inputs: TrialInputs,
        evaluation: EvaluationConfig,
        device: str,
    ) -> MemberPredictions: ...


def predict_members(
    tasks: Sequence[tuple[Trial, HeldOutSet]],
    inputs: TrialInputs,
    evaluation: EvaluationConfig,
    resources: Resources,
    progress: ProgressCallback,
) -> MemberPredictions:
    """Predict with every member, and return the predictions in the order of the tasks.

    The access to the subjects must have been logged.

    Args:
        tasks: members, each with the subjects that it predicts.
    """
    shared = (inputs, evaluation, resources)
    cpus, gpus = resources.cpus, resources.gpus
    return join_predictions(
        parallel_map_in_order(_predict, tasks, shared, resources, progress, cpus, gpus)
    )


def _predict(
    task: tuple[Trial, HeldOutSet], shared: tuple[TrialInputs, EvaluationConfig, Resources]
) -> MemberPredictions:
    """Predict with one member."""
    trial, held_out = task
    inputs, evaluation, resources = shared
    torch.set_num_threads(resources.threads)
    device = resources.device
    predict: Predict = predict_slices if trial.pipeline == "slices" else predict_volumes
    with raise_oom_with_hint(*oom_hint(trial, held_out.folder.volumes, device, "predicts with")):
        return predict(trial, held_out, inputs, evaluation, device)
