"""What training minimises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from mgmt_ray.nets.build import Network
from mgmt_ray.nets.head import dropout_mask
from mgmt_ray.nets.policy import gumbel_noise
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.evaluate import Predictions, predict
from mgmt_ray.training.metrics import Scores, score
from mgmt_ray.training.precision import autocast
from mgmt_ray.training.task import BatchLoss, Noise, dtype_of, generator
from mgmt_ray.training.training_config import TrainingConfig


def class_weights(labels: Float[Tensor, " row"]) -> Float[Tensor, "2"]:
    """Weight per class (unmethylated, methylated) that makes both classes count equally."""
    number = torch.bincount(labels.long(), minlength=2).to(labels.dtype)
    return len(labels) / (2 * number.clamp_min(1))


def cross_entropy_sum(
    logits: Float[Tensor, " batch"],
    labels: Float[Tensor, " batch"],
    weights: Float[Tensor, "2"] | None,
) -> Float[Tensor, ""]:
    """Binary cross-entropy on the logits, summed over subjects, in nats."""
    weight = None if weights is None else weights[labels.long()]
    return binary_cross_entropy_with_logits(
        logits, labels.to(logits.dtype), weight, reduction="sum"
    )


@dataclass(frozen=True, slots=True, eq=False)
class VolumeTask:
    """A :class:`~mgmt_ray.training.task.Task`.

    Attributes:
        network: whose policies and features are drawn for.
        config: of the training.
        weights: per class; None counts every row once.
    """

    network: Network
    config: TrainingConfig
    weights: Float[Tensor, "2"] | None

    def noise(self, seed: int, epoch: int) -> Callable[[int], Noise]:
        """Gumbel noise of the policies, and which features are kept."""
        gumbel, dropped = generator(seed, "gumbel", epoch), generator(seed, "dropout", epoch)
        blocks, features = self.network.num_routed_blocks, self.network.num_features
        dropout = self.network.dropout

        def draw(num_rows: int) -> Noise:
            keep = dropout_mask(num_rows, features, dropout, dropped) if dropout else None
            return gumbel_noise(num_rows, blocks, gumbel), keep

        return draw

    def loss(self, network: nn.Module, batch: VolumeSet, noise: Noise) -> BatchLoss:
        """Binary cross-entropy under one drawn policy per row."""
        gumbel, keep = noise
        assert gumbel is not None
        device = batch.volumes.device
        with autocast(device, self.config.precision):
            logits = network(
                batch.inputs(dtype_of(network)), gumbel.to(device), keep, batch.covariates
            )
        total = cross_entropy_sum(logits, batch.labels, self.weights)
        seen = torch.stack([logits.detach().to(batch.labels.dtype), batch.labels], dim=1)
        return BatchLoss(total, seen)

    def train_scores(self, seen: Float[Tensor, "row value"]) -> Scores:
        """Scores of the volumes as they passed, from logits and labels."""
        logits, labels = seen.double().T.cpu()
        losses = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        return score(torch.sigmoid(logits).numpy(), labels.numpy(), losses.numpy())

    def predict(self, network: nn.Module, data: VolumeSet, seed: int) -> Float[Tensor, "row value"]:
        """Probability, deviation over draws, and loss."""
        own = predict(
            network,  # type: ignore[arg-type]
            data,
            num_draws=self.config.validation_draws,
            kind="sobol",
            seed=seed,
            precision=self.config.precision,
        )
        columns = (own.probability, own.std, own.loss)
        return torch.stack([torch.from_numpy(column) for column in columns], dim=1)

    def validation(
        self, values: Float[Tensor, "row value"], data: VolumeSet
    ) -> tuple[Scores, Predictions]:
        """Scores of the mean over draws."""
        probability, deviation, loss = values.numpy().T.copy()
        predictions = Predictions(probability, deviation, loss)
        return score(probability, data.labels.cpu().numpy(), loss), predictions
