"""Predict held-out subjects with the members, one task per member."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import torch

from mgmt_ray.cluster.parallel_map import parallel_map_in_order
from mgmt_ray.cluster.progress import ProgressCallback
from mgmt_ray.prediction.predict_slices import predict_slices
from mgmt_ray.prediction.predict_volumes import predict_volumes
from mgmt_ray.prediction.prediction_files import MemberPredictions, join_predictions
from mgmt_ray.study.held_out_set import HeldOutSet
from mgmt_ray.study.study_config import PipelineName
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.out_of_memory import raise_oom_with_hint
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.memory_estimate import oom_hint

Task: TypeAlias = tuple[Trial, HeldOutSet]
"""A member, and the subjects that it predicts."""

Result = TypeVar("Result")


class Predict(Protocol):
    """Predicts held-out subjects, whose volumes or slices are prepared, with one member."""

    def __call__(
        self, trial: Trial, held_out: HeldOutSet, inputs: TrialInputs
    ) -> MemberPredictions: ...


PREDICT: dict[PipelineName, Predict] = {"volumes": predict_volumes, "slices": predict_slices}


def predict_members(
    tasks: Sequence[Task], inputs: TrialInputs, progress: ProgressCallback
) -> MemberPredictions:
    """Predict with every member, and return the predictions in the order of the tasks.

    The access to the subjects must have been logged.
    """
    return join_predictions(map_members(_predict, tasks, inputs, inputs, progress))


def map_members(
    function: Callable[..., Result],
    tasks: Sequence[Task],
    shared: Any,
    inputs: TrialInputs,
    progress: ProgressCallback,
) -> list[Result]:
    """Return ``function(task, shared)`` for every task, each on a model's CPUs and GPUs."""
    resources = inputs.resources
    return parallel_map_in_order(
        function, tasks, shared, resources, progress, resources.cpus, resources.gpus
    )


def _predict(task: Task, inputs: TrialInputs) -> MemberPredictions:
    """Predict with one member."""
    trial, held_out = task
    torch.set_num_threads(inputs.resources.threads)
    volumes, device = held_out.folder.volumes, inputs.resources.device
    with raise_oom_with_hint(*oom_hint(trial, volumes, device, "predicts with")):
        return PREDICT[trial.pipeline](trial, held_out, inputs)
