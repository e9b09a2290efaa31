"""Predicting subjects that no member has seen: each time is written down, none done twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from mgmt_ray.base import stream_seed
from mgmt_ray.cluster.parallel_map import spread_in_order
from mgmt_ray.cluster.resources import Placement
from mgmt_ray.cohort.covariates import read_covariates
from mgmt_ray.nets.build import Network, NetworkConfig, build
from mgmt_ray.prediction.member_predictions import MemberPredictions, joined
from mgmt_ray.prediction.predict_slices import predict_slices
from mgmt_ray.selection.predictions import PREDICTION_COLUMNS
from mgmt_ray.study.held_out_set import Unseen
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.checkpoint import load_weights
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.evaluate import Predictions, predict
from mgmt_ray.training.out_of_memory import memory_shortage_told
from mgmt_ray.training.precision import arrange
from mgmt_ray.training.training_config import EvaluationConfig
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.memory_estimate import memory_words
from mgmt_ray.trials.trial_data import load_volumes


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
    cpus, gpus = placement.cpus, placement.gpus
    return joined(spread_in_order(_predict, tasks, shared, placement, progress, cpus, gpus))


def read_member(trial: Trial, inputs: TrialInputs) -> Network:
    """A finished trial's network of volumes with its weights, on the CPU."""
    config = trial.network_config
    assert isinstance(config, NetworkConfig), "networks of slices are read with their segmentation"
    checkpoint = inputs.checkpoint if config.pretrained else None
    network = build(config, len(trial.channels), trial.temperature, checkpoint)
    load_weights(network, inputs.folder.weights(trial.id))
    return network


def read_unseen(unseen: Unseen, trial: Trial, device: str) -> VolumeSet:
    """What a member takes of unseen subjects."""
    names = trial.network_config.covariates
    known = read_covariates(unseen.cohort.subjects, names) if names else None
    ids = tuple(unseen.label)
    volumes = unseen.folder.volumes
    return load_volumes(volumes, trial.channels, unseen.label, ids, device, covariates=known)


def _predict(
    task: tuple[Trial, Unseen], shared: tuple[TrialInputs, EvaluationConfig, Placement]
) -> MemberPredictions:
    """What one member says."""
    trial, unseen = task
    inputs, evaluation, placement = shared
    torch.set_num_threads(placement.threads)
    device, precision = placement.device, trial.training_config.precision
    with memory_shortage_told(*memory_words(trial, unseen.folder.volumes, device, "predicts with")):
        if trial.takes_slices:
            return predict_slices(trial, unseen, inputs, device)
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
) -> MemberPredictions:
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
    policies = _policies(trial, table, predictions.tuned_probability)
    return MemberPredictions(table, policies)


def _policies(trial: Trial, table: pd.DataFrame, tuned: np.ndarray | None) -> pd.DataFrame:
    if tuned is None:
        return pd.DataFrame()
    kept = table[["trial", "network", "modality", "outer", "fold", "subject", "label"]]
    named = [f"block_{number}" for number in range(1, tuned.shape[1] + 1)]
    policies = kept.join(pd.DataFrame(tuned, columns=named))
    policies.insert(5, "seed", trial.seed)
    return policies
