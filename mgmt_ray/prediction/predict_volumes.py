"""Predict held-out subjects from volumes."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import pandas as pd
from jaxtyping import Float

from mgmt_ray.base import stream, stream_seed
from mgmt_ray.cohort.covariates import read_covariates
from mgmt_ray.nets.build import build_network
from mgmt_ray.nets.network import VolumeNetwork
from mgmt_ray.nets.policy import DrawKind
from mgmt_ray.prediction.prediction_files import MemberPredictions
from mgmt_ray.selection.predictions import prediction_rows
from mgmt_ray.study.held_out_set import HeldOutSet
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.checkpoint import load_weights
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.evaluate import predict, predict_routed
from mgmt_ray.training.precision import set_precision
from mgmt_ray.training.training_config import Precision
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
    data, metadata = load_held_out(held_out, trial, device), inputs.folder.read_trial(trial.id)
    precision = metadata["training_config"]["precision"]
    network = load_member(trial, inputs).to(device)
    set_precision(network, precision)
    draws: _Draws = {
        "num_draws": evaluation.draws,
        "kind": evaluation.kind,
        # independent draws per member, so that their sampling error averages out in an ensemble
        "seed": stream_seed(evaluation.seed, trial.seed),
        "precision": precision,
    }
    predictions = predict(network, data, **draws)
    model = {name: metadata[name] for name in ("weights_sha256", "prior")}
    labels = data.labels.int().tolist()

    def rows(probability: np.ndarray, std: np.ndarray | float = 0.0) -> pd.DataFrame:
        identity = trial.identity | model
        return prediction_rows(identity, held_out.split, data.subjects, probability, labels, std)

    table = rows(predictions.probability, predictions.std)
    tuned = predictions.tuned_probability
    routed = pd.DataFrame()
    is_result = held_out.split == "test" and held_out.folder.root == inputs.folder.root
    if tuned is not None and evaluation.routing and is_result and len(data.subjects) > 1:
        others = other_policies(tuned, evaluation.seed)
        by_policy = predict_routed(network, data, others, **draws)
        routed = pd.concat([rows(p).assign(policy=name) for name, p in by_policy.items()])
    return MemberPredictions(table, _policies(trial, table, tuned), routed)


class _Draws(TypedDict):
    """How policies are drawn and computed."""

    num_draws: int
    kind: DrawKind
    seed: int
    precision: Precision


def other_policies(
    tuned: Float[np.ndarray, "subject block"], seed: int
) -> dict[str, Float[np.ndarray, "subject block"]]:
    """Return policies that ask whether the agent's, ``tuned``, matters: probabilities of tuning.

    "random" tunes every block of every subject with probability one half; "another subject" gives
    each subject the next one's policy in a random order, which keeps the policies and breaks their
    relation to subjects; "tuned" and "frozen" route nothing.

    >>> policies = other_policies(np.array([[0.1], [0.5], [0.9]]), seed=42)
    >>> sorted(policies), sorted(policies["another subject"].ravel().tolist())
    (['another subject', 'frozen', 'random', 'tuned'], [0.1, 0.5, 0.9])
    """
    order = stream(seed, "another subject").permutation(len(tuned))
    others = np.empty_like(tuned)
    others[order] = tuned[np.roll(order, -1)]
    return {
        "random": np.full_like(tuned, 0.5),
        "another subject": others,
        "tuned": np.ones_like(tuned),
        "frozen": np.zeros_like(tuned),
    }


def _policies(trial: Trial, table: pd.DataFrame, tuned: np.ndarray | None) -> pd.DataFrame:
    """Tabulate ``tuned``, [subject, block]: probabilities of tuning; None without an agent."""
    if tuned is None:
        return pd.DataFrame()
    keys = table[["trial", "network", "modality", "outer_fold", "fold", "subject", "label"]]
    blocks = [f"block_{number}" for number in range(1, tuned.shape[1] + 1)]
    policies = keys.join(pd.DataFrame(tuned, columns=blocks))
    policies.insert(5, "repeat", trial.repeat)
    return policies
