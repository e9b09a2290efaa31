"""Predict held-out subjects with the members, one task per member."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from mgmt_ray.base import stream_seed
from mgmt_ray.cluster.parallel_map import parallel_map_in_order
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.covariates import read_covariates
from mgmt_ray.nets.build import build_network
from mgmt_ray.nets.network import VolumeNetwork
from mgmt_ray.prediction.predict_slices import predict_slices
from mgmt_ray.prediction.prediction_files import MemberPredictions, join_predictions
from mgmt_ray.selection.predictions import PREDICTION_COLUMNS
from mgmt_ray.study.held_out_set import HeldOutSet
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.checkpoint import load_weights
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.evaluate import Predictions, predict
from mgmt_ray.training.out_of_memory import raise_oom_with_hint
from mgmt_ray.training.precision import set_precision
from mgmt_ray.training.training_config import EvaluationConfig
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.memory_estimate import oom_hint
from mgmt_ray.trials.volumes_pipeline import load_volumes


def predict_members(
    tasks: Sequence[tuple[Trial, HeldOutSet]],
    inputs: TrialInputs,
    evaluation: EvaluationConfig,
    resources: Resources,
    progress: Callable[[int, int], None],
) -> MemberPredictions:
    """Predict with every member, and return the predictions in the order of the tasks.

    The access to the subjects must have been logged.

    Args:
        tasks: members, each with the subjects that it predicts.
        inputs: the members' study.
        evaluation: how often SpotTune's policy is drawn, and how.
        resources: backend, and CPUs and GPUs per member.
        progress: called with (members done, members in total).
    """
    shared = (inputs, evaluation, resources)
    cpus, gpus = resources.cpus, resources.gpus
    return join_predictions(
        parallel_map_in_order(_predict, tasks, shared, resources, progress, cpus, gpus)
    )


def load_member(trial: Trial, inputs: TrialInputs) -> VolumeNetwork:
    """Return the network of a finished trial on volumes with its weights, on the CPU."""
    config = trial.network_config
    checkpoint = inputs.checkpoint if config.pretrained else None
    network = build_network(config, len(trial.channels), trial.temperature, checkpoint)
    assert isinstance(network, VolumeNetwork)
    load_weights(network, inputs.folder.weights(trial.id))
    return network


def load_held_out(held_out: HeldOutSet, trial: Trial, device: str) -> VolumeSet:
    """Load the volumes and covariates that a member takes of held-out subjects."""
    names = trial.network_config.covariates
    covariates = read_covariates(held_out.cohort.subjects, names) if names else None
    ids, label = tuple(held_out.label), held_out.label
    volumes = held_out.folder.volumes
    return load_volumes(volumes, trial.channels, label, ids, device, covariates=covariates)


def _predict(
    task: tuple[Trial, HeldOutSet], shared: tuple[TrialInputs, EvaluationConfig, Resources]
) -> MemberPredictions:
    """Predict with one member."""
    trial, held_out = task
    inputs, evaluation, resources = shared
    torch.set_num_threads(resources.threads)
    device, precision = resources.device, trial.training_config.precision
    with raise_oom_with_hint(*oom_hint(trial, held_out.folder.volumes, device, "predicts with")):
        if trial.pipeline == "slices":
            return predict_slices(trial, held_out, inputs, device)
        data = load_held_out(held_out, trial, device)
        network = load_member(trial, inputs).to(device)
        set_precision(network, precision)
        predictions = predict(
            network,
            data,
            num_draws=evaluation.draws,
            kind=evaluation.kind,
            # independent draws per member, so that their sampling error averages out in an ensemble
            seed=stream_seed(evaluation.seed, trial.seed),
            precision=precision,
        )
    return _tables(trial, held_out, data, predictions, inputs.folder.read_trial(trial.id))


def _tables(
    trial: Trial,
    held_out: HeldOutSet,
    data: VolumeSet,
    predictions: Predictions,
    trial_metadata: Mapping[str, Any],
) -> MemberPredictions:
    columns: dict[str, Any] = {
        "subject": data.subjects,
        "split": held_out.split,
        "outer_fold": trial.outer_fold,
        "fold": trial.fold,
        "network": trial.network,
        "modality": trial.modality,
        "trial": trial.id,
        "probability": predictions.probability,
        "probability_std": predictions.std,
        "label": data.labels.int().tolist(),
        "weights_sha256": trial_metadata["weights_sha256"],
        "prior": trial_metadata["prior"],
    }
    table = pd.DataFrame(columns, columns=list(PREDICTION_COLUMNS))
    policies = _policies(trial, table, predictions.tuned_probability)
    return MemberPredictions(table, policies)


def _policies(trial: Trial, table: pd.DataFrame, tuned: np.ndarray | None) -> pd.DataFrame:
    """Tabulate ``tuned``, [subject, block]: probabilities of tuning; None without an agent."""
    if tuned is None:
        return pd.DataFrame()
    keys = table[["trial", "network", "modality", "outer_fold", "fold", "subject", "label"]]
    blocks = [f"block_{number}" for number in range(1, tuned.shape[1] + 1)]
    policies = keys.join(pd.DataFrame(tuned, columns=blocks))
    policies.insert(5, "repeat", trial.repeat)
    return policies
