"""Learning methylation from volumes (Schmitz et al. 2024, sec. 2.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from mgmt_ray.nets.head import dropout_mask
from mgmt_ray.nets.network import VolumeNetwork
from mgmt_ray.nets.policy import gumbel_noise
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.evaluate import Predictions, predict
from mgmt_ray.training.metrics import Scores, score
from mgmt_ray.training.precision import autocast
from mgmt_ray.training.task import BatchLoss, Noise, epoch_generator, parameter_dtype
from mgmt_ray.training.training_config import TrainingConfig


def class_weights(labels: Float[Tensor, " row"]) -> Float[Tensor, "2"]:
    """Return weights (unmethylated, methylated) that make both classes count equally.

    >>> class_weights(torch.tensor([0.0, 0.0, 0.0, 1.0]))
    tensor([0.6667, 2.0000])
    """
    number = torch.bincount(labels.long(), minlength=2).to(labels.dtype)
    return len(labels) / (2 * number.clamp_min(1))


def cross_entropy_sum(
    logits: Float[Tensor, " batch"],
    labels: Float[Tensor, " batch"],
    weights: Float[Tensor, "2"] | None,
) -> Float[Tensor, ""]:
    """Return the binary cross-entropy of logits, summed over subjects, in nats.

    >>> cross_entropy_sum(torch.zeros(2), torch.tensor([0.0, 1.0]), weights=None)
    tensor(1.3863)
    """
    weight = None if weights is None else weights[labels.long()]
    return binary_cross_entropy_with_logits(
        logits, labels.to(logits.dtype), weight, reduction="sum"
    )


@dataclass(frozen=True, slots=True, eq=False)
class VolumeTask:
    """A :class:`~mgmt_ray.training.task.Task` whose rows are volumes.

    Attributes:
        network: the one that is trained; its size sets the shapes of the noise.
        weights: per class (unmethylated, methylated); None counts every row once.
    """

    network: VolumeNetwork
    config: TrainingConfig
    weights: Float[Tensor, "2"] | None

    def noise(self, seed: int, epoch: int) -> Callable[[int], Noise]:
        """Draw Gumbel noise for the policies, and dropout factors of network and agent."""
        network = self.network
        gumbel = epoch_generator(seed, "gumbel", epoch)
        dropped = [
            (features, rate, epoch_generator(seed, purpose, epoch))
            for purpose, features, rate in (
                ("dropout", network.num_features, network.dropout),
                ("agent dropout", network.num_agent_features, network.agent_dropout),
            )
        ]

        def draw(num_rows: int) -> Noise:
            policies = gumbel_noise(num_rows, network.num_routed_blocks, gumbel)
            return policies, *(
                dropout_mask(num_rows, features, rate, random) if rate else None
                for features, rate, random in dropped
            )

        return draw

    def loss(self, network: nn.Module, batch: VolumeSet, noise: Noise) -> BatchLoss:
        """Return the binary cross-entropy under one drawn policy per row."""
        gumbel, keep, agent_keep = noise
        assert gumbel is not None
        device = batch.volumes.device
        with autocast(device, self.config.precision):
            inputs = batch.inputs(parameter_dtype(network))
            logits = network(inputs, gumbel.to(device), keep, batch.covariates, agent_keep)
        total = cross_entropy_sum(logits, batch.labels, self.weights)
        outputs = torch.stack([logits.detach().to(batch.labels.dtype), batch.labels], dim=1)
        return BatchLoss(total, outputs)

    def train_scores(self, outputs: Float[Tensor, "row value"]) -> Scores:
        """Score the volumes by the logits and labels of their training batches."""
        logits, labels = outputs.double().T.cpu()
        losses = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        return score(torch.sigmoid(logits).numpy(), labels.numpy(), losses.numpy())

    def predict(self, network: nn.Module, data: VolumeSet, seed: int) -> Float[Tensor, "row value"]:
        """Return probability, standard deviation over draws, and loss."""
        predictions = predict(
            network,  # type: ignore[arg-type]
            data,
            num_draws=self.config.validation_draws,
            kind="sobol",
            seed=seed,
            precision=self.config.precision,
        )
        columns = (predictions.probability, predictions.std, predictions.loss)
        return torch.stack([torch.from_numpy(column) for column in columns], dim=1)

    def validation(
        self, values: Float[Tensor, "row value"], data: VolumeSet
    ) -> tuple[Scores, Predictions]:
        """Score the mean probability over draws."""
        probability, std, loss = values.numpy().T.copy()
        predictions = Predictions(probability, std, loss)
        return score(probability, data.labels.cpu().numpy(), loss), predictions
