"""Predicting subjects that no member has seen: each time is written down, none done twice."""

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
from mgmt_ray.nets.build import Network, NetworkConfig, build_volume_network
from mgmt_ray.prediction.member_predictions import MemberPredictions, join_predictions
from mgmt_ray.prediction.predict_slices import predict_slices
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
from mgmt_ray.trials.trial_data import load_volumes


def predict_members(
    tasks: Sequence[tuple[Trial, HeldOutSet]],
    inputs: TrialInputs,
    evaluation: EvaluationConfig,
    resources: Resources,
    progress: Callable[[int, int], None],
) -> MemberPredictions:
    """Predictions and policies of every member, in the order given.

    Args:
        tasks: members, and whom each predicts.
        inputs: of the members' study.
        evaluation: draws.
        resources: with backend "ray", Ray must be connected.
        progress: is given members done and their number.
    """
    shared = (inputs, evaluation, resources)
    cpus, gpus = resources.cpus, resources.gpus
    return join_predictions(
        parallel_map_in_order(_predict, tasks, shared, resources, progress, cpus, gpus)
    )


def load_member(trial: Trial, inputs: TrialInputs) -> Network:
    """A finished trial's network of volumes with its weights, on the CPU."""
    config = trial.network_config
    assert isinstance(config, NetworkConfig), "networks of slices are read with their segmentation"
    checkpoint = inputs.checkpoint if config.pretrained else None
    network = build_volume_network(config, len(trial.channels), trial.temperature, checkpoint)
    load_weights(network, inputs.folder.weights(trial.id))
    return network


def load_held_out(held_out: HeldOutSet, trial: Trial, device: str) -> VolumeSet:
    """What a member takes of unseen subjects."""
    names = trial.network_config.covariates
    known = read_covariates(held_out.cohort.subjects, names) if names else None
    ids = tuple(held_out.label)
    volumes = held_out.folder.volumes
    return load_volumes(volumes, trial.channels, held_out.label, ids, device, covariates=known)


def _predict(
    task: tuple[Trial, HeldOutSet], shared: tuple[TrialInputs, EvaluationConfig, Resources]
) -> MemberPredictions:
    """What one member says."""
    trial, held_out = task
    inputs, evaluation, resources = shared
    torch.set_num_threads(resources.threads)
    device, precision = resources.device, trial.training_config.precision
    with raise_oom_with_hint(*oom_hint(trial, held_out.folder.volumes, device, "predicts with")):
        if trial.takes_slices:
            return predict_slices(trial, held_out, inputs, device)
        data = load_held_out(held_out, trial, device)
        network = load_member(trial, inputs).to(device)
        set_precision(network, precision)
        predictions = predict(
            network,
            data,
            num_draws=evaluation.draws,
            kind=evaluation.kind,
            # members draw apart, so that what their draws miss averages out over an ensemble
            seed=stream_seed(evaluation.seed, trial.seed),
            precision=precision,
        )
    return _tables(trial, held_out, data, predictions, inputs.folder.read_trial(trial.id))


def _tables(
    trial: Trial,
    held_out: HeldOutSet,
    data: VolumeSet,
    predictions: Predictions,
    trained: Mapping[str, Any],
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
        "weights_sha256": trained["weights_sha256"],
        "prior": trained["prior"],
    }
    table = pd.DataFrame(columns, columns=list(PREDICTION_COLUMNS))
    policies = _policies(trial, table, predictions.tuned_probability)
    return MemberPredictions(table, policies)


def _policies(trial: Trial, table: pd.DataFrame, tuned: np.ndarray | None) -> pd.DataFrame:
    if tuned is None:
        return pd.DataFrame()
    kept = table[["trial", "network", "modality", "outer_fold", "fold", "subject", "label"]]
    named = [f"block_{number}" for number in range(1, tuned.shape[1] + 1)]
    policies = kept.join(pd.DataFrame(tuned, columns=named))
    policies.insert(5, "repeat", trial.repeat)
    return policies
