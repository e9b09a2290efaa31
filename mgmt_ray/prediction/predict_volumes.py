"""Predict held-out subjects from volumes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mgmt_ray.base import stream_seed
from mgmt_ray.cohort.covariates import read_covariates
from mgmt_ray.nets.build import build_network
from mgmt_ray.nets.network import VolumeNetwork
from mgmt_ray.prediction.prediction_files import MemberPredictions
from mgmt_ray.selection.predictions import prediction_rows
from mgmt_ray.study.held_out_set import HeldOutSet
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.checkpoint import load_weights
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.evaluate import predict
from mgmt_ray.training.precision import set_precision
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.volumes_pipeline import load_volumes


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


def predict_volumes(trial: Trial, held_out: HeldOutSet, inputs: TrialInputs) -> MemberPredictions:
    """Predict with a network of volumes: the mean over policy draws, if it has an agent."""
    device, evaluation = inputs.resources.device, inputs.study.evaluation
    data, precision = load_held_out(held_out, trial, device), trial.training_config.precision
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
    metadata = inputs.folder.read_trial(trial.id)
    model = {name: metadata[name] for name in ("weights_sha256", "prior")}
    table = prediction_rows(
        trial.identity | model,
        held_out.split,
        data.subjects,
        predictions.probability,
        data.labels.int().tolist(),
        predictions.std,
    )
    return MemberPredictions(table, _policies(trial, table, predictions.tuned_probability))


def _policies(trial: Trial, table: pd.DataFrame, tuned: np.ndarray | None) -> pd.DataFrame:
    """Tabulate ``tuned``, [subject, block]: probabilities of tuning; None without an agent."""
    if tuned is None:
        return pd.DataFrame()
    keys = table[["trial", "network", "modality", "outer_fold", "fold", "subject", "label"]]
    blocks = [f"block_{number}" for number in range(1, tuned.shape[1] + 1)]
    policies = keys.join(pd.DataFrame(tuned, columns=blocks))
    policies.insert(5, "repeat", trial.repeat)
    return policies
