"""Predicting probabilities of methylation for volumes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from mgmt_ray.base import stream_seed
from mgmt_ray.nets.network import VolumeNetwork
from mgmt_ray.nets.policy import DrawKind, draw_policies
from mgmt_ray.training.dataset import VolumeSet, even_batches
from mgmt_ray.training.precision import autocast
from mgmt_ray.training.task import parameter_dtype
from mgmt_ray.training.training_config import Precision

ROWS_PER_BATCH = 12
"""Volumes per forward pass while a network is evaluated."""


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Predictions per row of a volume set.

    Attributes:
        probability: of methylation, mean over policy draws, in [0, 1].
        std: standard deviation over policy draws; 0 for a network without a policy.
        loss: binary cross-entropy of the mean probability, in nats.
        tuned_probability: [row, block], probability that the row's policy tunes a block; None for
            a network without a policy.
    """

    probability: np.ndarray
    std: np.ndarray
    loss: np.ndarray
    tuned_probability: np.ndarray | None = None

    @property
    def columns(self) -> dict[str, list[float]]:
        """What a trial stores, by name."""
        return {"probability": self.probability.tolist(), "probability_std": self.std.tolist()}


def evaluation_batches(network: nn.Module, data: VolumeSet, max_size: int) -> Iterator[VolumeSet]:
    """Yield the rows in batches with the network in evaluation mode, then restore its mode."""
    was_training = network.training
    network.eval()
    index = torch.arange(len(data), device=data.volumes.device)
    for rows in even_batches(np.arange(len(data)), max_size) if len(data) else ():
        yield data.select(rows, index[rows[0] : rows[-1] + 1])
    network.train(was_training)


@torch.no_grad()
def predict(
    network: VolumeNetwork,
    data: VolumeSet,
    *,
    num_draws: int,
    kind: DrawKind,
    seed: int,
    precision: Precision,
    batch_size: int = ROWS_PER_BATCH,
) -> Predictions:
    """Predict methylation; the network's mode (training or evaluation) is restored afterwards.

    Args:
        network: on the device of ``data``; or the trained part of one, for the outputs of its
            frozen part.
        data: one row per subject.
        num_draws: policies per subject, for SpotTune.
        seed: of the policies; each subject has a separate stream, derived from its id.

    Returns:
        Predictions in the order of the rows; the loss is infinite where a logit is.

    >>> from mgmt_ray.nets.build import NetworkConfig, build_volume_network
    >>> config = NetworkConfig(kind="random", depth=10, width=4)
    >>> network = build_volume_network(config, channels=1, temperature=1.0, checkpoint=None)
    >>> volumes = torch.rand(3, 1, 16, 16, 16).half()
    >>> data = VolumeSet(volumes, labels=torch.tensor([0.0, 1.0, 1.0]), subjects=("a", "b", "c"))
    >>> predictions = predict(network, data, num_draws=1, kind="sobol", seed=42, precision="fp32")
    >>> predictions.probability.shape, predictions.std.tolist()
    ((3,), [0.0, 0.0, 0.0])
    """
    if not len(data):
        return Predictions(np.empty(0), np.empty(0), np.empty(0))
    means, stds, infinite, tuned = [], [], [], []
    for part in evaluation_batches(network, data, batch_size):
        with autocast(data.volumes.device, precision):
            volumes = part.inputs(parameter_dtype(network))
            seeds = [stream_seed(seed, "policy", subject) for subject in part.subjects]
            draw = partial(draw_policies, num_draws=num_draws, kind=kind, seeds=seeds)
            logits, policy = network.draw_logits(volumes, part.covariates, draw)
        drawn = torch.sigmoid(logits).double()
        means.append(drawn.mean(dim=0))
        stds.append(drawn.std(dim=0, correction=0))
        infinite.append(torch.isinf(logits).any(dim=0))
        if policy is not None:
            tuned.append(policy.double())
    mean = torch.cat(means).cpu().numpy()
    label = data.labels.cpu().numpy()
    likelihood = np.where(label > 0, mean, 1 - mean).clip(1e-12, 1.0)
    return Predictions(
        mean,
        torch.cat(stds).cpu().numpy(),
        np.where(torch.cat(infinite).cpu().numpy(), np.inf, -np.log(likelihood)),
        torch.cat(tuned).cpu().numpy() if tuned else None,
    )


@torch.no_grad()
def predict_routed(
    network: VolumeNetwork,
    data: VolumeSet,
    policies: Mapping[str, Float[np.ndarray, "row block"]],
    *,
    num_draws: int,
    kind: DrawKind,
    seed: int,
    precision: Precision,
) -> dict[str, Float[np.ndarray, " row"]]:
    """Predict with an agent's network under policies that are given instead of the agent's.

    The draws of all policies of a subject share their common beginnings
    (:func:`mgmt_ray.nets.spottune.route_logits`). A subject's draws are from the same stream for
    each policy, so that policies differ by their probabilities alone.

    Args:
        policies: probabilities of tuning, by name; one draw where all are 0 or 1.

    Returns:
        Mean probability of methylation per row, by name.
    """
    rows = {subject: row for row, subject in enumerate(data.subjects)}
    numbers = {
        name: 1 if np.isin(tuned, (0, 1)).all() else num_draws for name, tuned in policies.items()
    }
    means: dict[str, list[torch.Tensor]] = {name: [] for name in policies}
    for part in evaluation_batches(network, data, ROWS_PER_BATCH):
        seeds = [stream_seed(seed, "policy", subject) for subject in part.subjects]
        chosen = [rows[subject] for subject in part.subjects]

        def draw(agent: torch.Tensor) -> torch.Tensor:
            return torch.cat(
                [
                    draw_policies(torch.from_numpy(tuned[chosen]).to(agent), number, kind, seeds)  # noqa: B023
                    for (_, tuned), number in zip(policies.items(), numbers.values(), strict=True)
                ]
            )

        with autocast(data.volumes.device, precision):
            volumes = part.inputs(parameter_dtype(network))
            logits, _ = network.draw_logits(volumes, part.covariates, draw)
        drawn = torch.sigmoid(logits).double().split([*numbers.values()])
        for name, probability in zip(policies, drawn, strict=True):
            means[name].append(probability.mean(dim=0))
    return {name: torch.cat(parts).cpu().numpy() for name, parts in means.items()}
