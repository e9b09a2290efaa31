"""Predicting subjects that no member has seen: each time is written down, none done twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
import ray
import torch

from mgmt_ray.base import stream_seed
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.covariates import read_covariates
from mgmt_ray.nets.build import Network, build
from mgmt_ray.orchestration.connect import fetch
from mgmt_ray.orchestration.memory import memory_words
from mgmt_ray.orchestration.placement import Placement
from mgmt_ray.orchestration.trial import TrialInputs, load_volumes
from mgmt_ray.preprocess.store import VolumeStore
from mgmt_ray.selection.predictions import PREDICTION_COLUMNS, write_table
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.plan import Trial
from mgmt_ray.training.checkpoint import load_weights
from mgmt_ray.training.config import EvaluationConfig
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.evaluate import Predictions, predict
from mgmt_ray.training.memory import memory_shortage_told
from mgmt_ray.training.precision import arrange

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Unseen:
    """Subjects that a member did not train or validate on.

    Attributes:
        split: what they are to the study.
        volumes: folder of their volume store.
        label: by subject; these are predicted, in this order.
        cohort: whose subjects they are.
    """

    split: Literal["test", "external"]
    volumes: Path
    label: Mapping[str, int]
    cohort: Cohort


@dataclass(frozen=True, slots=True, eq=False)
class MemberPredictions:
    """What members say of unseen subjects.

    Attributes:
        table: the columns of ``PREDICTION_COLUMNS``.
        policies: a row per subject and member with an agent: how probable it is to tune each block
            (``block_1`` is the first), in [0, 1]; empty where no member has an agent.
    """

    table: pd.DataFrame
    policies: pd.DataFrame


def predict_members(
    tasks: Sequence[tuple[Trial, Unseen]],
    inputs: TrialInputs,
    evaluation: EvaluationConfig,
    placement: Placement,
    progress: Callable[[int, int], None],
) -> MemberPredictions:
    """Predictions and policies of every member, in the order given.

    Args:
        tasks: members, and whom each predicts.
        inputs: of the members' study.
        evaluation: draws.
        placement: with launcher "ray", Ray must be connected.
        progress: is given members done and their number.
    """
    shared = (inputs, evaluation, placement)
    return _joined(on_members(_predict, tasks, shared, placement, progress))


def on_members(
    function: Callable[..., Result],
    tasks: Sequence[tuple[Trial, Unseen]],
    shared: tuple[Any, ...],
    placement: Placement,
    progress: Callable[[int, int], None],
) -> list[Result]:
    """``function(task, *shared)`` for every task, in the order given.

    Args:
        function: of the top level of a module; takes the resources of a trial.
        tasks: members, and whom each is asked about.
        shared: the further arguments of all.
        placement: with launcher "ray", Ray must be connected.
        progress: is given members done and their number.
    """
    if placement.launcher == "in-process":
        done = []
        for task in tasks:
            done.append(function(task, *shared))
            progress(len(done), len(tasks))
        return done
    remote = ray.remote(function).options(
        num_cpus=placement.cpus, num_gpus=placement.gpus, max_retries=placement.max_failures
    )
    held = [ray.put(value) for value in shared]
    waiting = [remote.remote(task, *held) for task in tasks]
    left = list(waiting)
    while left:
        _, left = ray.wait(left)
        progress(len(tasks) - len(left), len(tasks))
    return [fetch(reference) for reference in waiting]


def write_policies(policies: pd.DataFrame, folder: StudyFolder) -> None:
    """Write policies.csv beside the predictions; where there are none, no earlier one stays."""
    path = folder.ensembles / "policies.csv"
    if policies.empty:
        path.unlink(missing_ok=True)
    else:
        write_table(policies, path)


def read_member(trial: Trial, inputs: TrialInputs) -> Network:
    """A finished trial's network with its weights, on the CPU."""
    checkpoint = inputs.checkpoint if trial.network_config.pretrained else None
    temperature = trial.training_config.temperature
    network = build(trial.network_config, len(trial.channels), temperature, checkpoint)
    load_weights(network, inputs.folder.weights(trial.id))
    return network


def read_unseen(unseen: Unseen, trial: Trial, device: str) -> VolumeSet:
    """What a member takes of unseen subjects."""
    names = trial.network_config.covariates
    known = read_covariates(unseen.cohort.subjects, names) if names else None
    ids = tuple(unseen.label)
    return load_volumes(unseen.volumes, trial.channels, unseen.label, ids, device, covariates=known)


def _predict(
    task: tuple[Trial, Unseen],
    inputs: TrialInputs,
    evaluation: EvaluationConfig,
    placement: Placement,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One member's prediction table, and its policies (no row for one without an agent)."""
    torch.set_num_threads(placement.threads)
    trial, unseen = task
    device, precision = placement.device, trial.training_config.precision
    shape = VolumeStore(unseen.volumes, trial.channels[0]).volume_shape
    with memory_shortage_told(*memory_words(trial, shape, device, "predicts with")):
        data = read_unseen(unseen, trial, device)
        network = read_member(trial, inputs).to(device)
        arrange(network, precision)
        predictions = predict(
            network,
            data,
            num_draws=evaluation.draws,
            kind=evaluation.kind,
            # members draw apart, so that what their draws miss averages out over an ensemble
            seed=stream_seed(evaluation.seed, trial.stream),
            precision=precision,
        )
    return _tables(trial, unseen, data, predictions, inputs.folder.read_trial(trial.id))


def _tables(
    trial: Trial,
    unseen: Unseen,
    data: VolumeSet,
    predictions: Predictions,
    trained: Mapping[str, Any],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    columns: dict[str, Any] = {
        "subject": data.subjects,
        "split": unseen.split,
        "outer": trial.outer,
        "fold": trial.fold,
        "network": trial.network,
        "modality": trial.modality,
        "trial": trial.id,
        "probability": predictions.probability,
        "deviation": predictions.deviation,
        "label": data.labels.int().tolist(),
        "weights": trained["weights"],
        "prior": trained["prior"],
    }
    table = pd.DataFrame(columns, columns=list(PREDICTION_COLUMNS))
    return table, _policies(trial, table, predictions.tuned_probability)


def _policies(trial: Trial, table: pd.DataFrame, tuned: np.ndarray | None) -> pd.DataFrame:
    if tuned is None:
        return pd.DataFrame()
    kept = table[["trial", "network", "modality", "outer", "fold", "subject", "label"]]
    named = [f"block_{number}" for number in range(1, tuned.shape[1] + 1)]
    policies = kept.join(pd.DataFrame(tuned, columns=named))
    policies.insert(5, "seed", trial.seed)
    return policies


def _joined(done: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> MemberPredictions:
    tables, policies = zip(*done, strict=True)
    return MemberPredictions(
        pd.concat(tables, ignore_index=True), pd.concat(policies, ignore_index=True)
    )
