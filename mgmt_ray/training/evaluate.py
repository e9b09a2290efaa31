"""From a network and volumes to probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mgmt_ray.base import stream_seed
from mgmt_ray.nets.build import Network
from mgmt_ray.nets.head import add_covariates
from mgmt_ray.nets.policy import DrawKind, draw_policies
from mgmt_ray.nets.route_trie import route_logits
from mgmt_ray.nets.single_path import TrainedTail
from mgmt_ray.nets.spottune import SpotTune
from mgmt_ray.training.dataset import VolumeSet, even_batches
from mgmt_ray.training.precision import autocast
from mgmt_ray.training.training_config import Precision

ROWS_PER_BATCH = 12
"""Volumes that pass a network together while it is evaluated."""


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Per row of a volume set.

    Attributes:
        probability: of methylation, mean over policy draws, in [0, 1].
        std: standard deviation over policy draws; 0 for a network without a policy.
        loss: binary cross-entropy of the mean probability, in nats.
        tuned_probability: [row, block], how probable the row's policy is to tune each block, in
            [0, 1]; None for a network without a policy.
    """

    probability: np.ndarray
    std: np.ndarray
    loss: np.ndarray
    tuned_probability: np.ndarray | None = None

    @property
    def columns(self) -> dict[str, list[float]]:
        """What a trial keeps, by name."""
        return {"probability": self.probability.tolist(), "probability_std": self.std.tolist()}


@torch.no_grad()
def predict(
    network: Network | TrainedTail,
    data: VolumeSet,
    *,
    num_draws: int,
    kind: DrawKind,
    seed: int,
    precision: Precision,
    rows_at_once: int = ROWS_PER_BATCH,
) -> Predictions:
    """Evaluate a network; its mode (training or evaluation) is as before afterwards.

    Args:
        network: on the device of ``data``, or its tail with what its frozen part gave.
        data: one row per subject.
        num_draws: policies per subject, for SpotTune.
        kind: how policies are drawn.
        seed: of the policies; each subject has a stream of its own, derived from its id.
        precision: as the network was trained.
        rows_at_once: rows that pass the network together.

    Returns:
        Its loss is infinite where a logit is.
    """
    if not len(data):
        return Predictions(np.empty(0), np.empty(0), np.empty(0))
    was_training = network.training
    network.eval()
    means, deviations, infinite, tuned = [], [], [], []
    for rows in even_batches(np.arange(len(data)), rows_at_once):
        part = data.select(rows)
        with autocast(data.volumes.device, precision):
            logits, policy = _draw_logits(network, part, num_draws, kind, seed)
        drawn = torch.sigmoid(logits).double()
        means.append(drawn.mean(dim=0))
        deviations.append(drawn.std(dim=0, correction=0))
        infinite.append(torch.isinf(logits).any(dim=0))
        if policy is not None:
            tuned.append(policy.double())
    network.train(was_training)
    mean = torch.cat(means).cpu().numpy()
    label = data.labels.cpu().numpy()
    likelihood = np.where(label > 0, mean, 1 - mean).clip(1e-12, 1.0)
    return Predictions(
        mean,
        torch.cat(deviations).cpu().numpy(),
        np.where(torch.cat(infinite).cpu().numpy(), np.inf, -np.log(likelihood)),
        torch.cat(tuned).cpu().numpy() if tuned else None,
    )


def _draw_logits(
    network: Network | TrainedTail, data: VolumeSet, num_draws: int, kind: DrawKind, seed: int
) -> tuple[Tensor, Tensor | None]:
    """Logits [draw, row], and the agent's probability of tuning [row, block].

    One draw, and None, for a network without a policy.
    """
    volumes = data.inputs(next(network.parameters()).dtype)
    if not isinstance(network, SpotTune):
        return network(volumes, covariates=data.covariates).unsqueeze(0), None
    seeds = [stream_seed(seed, "policy", subject) for subject in data.subjects]
    tuned = network.tuned_probability(volumes)
    logits = route_logits(network, volumes, draw_policies(tuned, num_draws, kind, seeds))
    return add_covariates(logits, network.covariate_head, data.covariates), tuned
