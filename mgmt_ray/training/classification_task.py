"""Learning methylation from slices and their predicted tumour (Chen et al. 2020, sec. 2.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.evaluate import Predictions, evaluation_batches
from mgmt_ray.training.metrics import THRESHOLD, criterion_m, score
from mgmt_ray.training.precision import autocast
from mgmt_ray.training.slice_objective import slice_cross_entropy
from mgmt_ray.training.task import BatchLoss, Noise, parameter_dtype
from mgmt_ray.training.training_config import ClassificationTraining, Precision

SLICES_PER_BATCH = 32
"""Slices per forward pass while the classifier is evaluated."""


@dataclass(frozen=True, slots=True)
class SliceScores:
    """Scores of a set of slices, each counted separately; NaN where a class is missing.

    Attributes:
        loss: mean cross-entropy in nats.
        accuracy: share of slices on their label's side of the threshold.
    """

    loss: float
    accuracy: float
    auc: float
    ap: float
    sen: float
    spe: float

    @property
    def m(self) -> float:
        """Criterion M."""
        return criterion_m(self.sen, self.spe)


@dataclass(frozen=True, slots=True, eq=False)
class ClassificationTask:
    """A :class:`~mgmt_ray.training.task.Task` without noise.

    Attributes:
        weights: per class (unmethylated, methylated); None counts every slice once.
    """

    config: ClassificationTraining
    weights: Float[Tensor, "2"] | None

    def noise(self, seed: int, epoch: int) -> Callable[[int], Noise]:
        """Return no noise: the classifier draws nothing."""
        return lambda num_rows: ()

    def loss(self, network: nn.Module, batch: VolumeSet, noise: Noise) -> BatchLoss:
        """Return the cross-entropy of the softmax."""
        with autocast(batch.volumes.device, self.config.precision):
            logits = network(batch.inputs(parameter_dtype(network)))
        loss = slice_cross_entropy(logits, batch.labels, self.weights)
        return BatchLoss(loss.sum(), _values(logits.detach(), batch))

    def train_scores(self, outputs: Float[Tensor, "row value"]) -> SliceScores:
        """Score the slices by the outputs of their training batches."""
        return _scores(outputs.double().cpu().numpy())

    def predict(self, network: nn.Module, data: VolumeSet, seed: int) -> Float[Tensor, "row value"]:
        """Return probability, loss and label per slice."""
        return classify(network, data, self.config.precision)

    def validation(
        self, values: Float[Tensor, "row value"], data: VolumeSet
    ) -> tuple[SliceScores, Predictions]:
        """Return scores, and the probability of each slice."""
        columns = values.numpy()
        probability, loss = columns[:, 0].copy(), columns[:, 1].copy()
        return _scores(columns), Predictions(probability, np.zeros(len(columns)), loss)


@torch.no_grad()
def classify(network: nn.Module, data: VolumeSet, precision: Precision) -> Float[Tensor, "row 3"]:
    """Return probability of methylation, loss in nats and label of each slice, on the CPU.

    >>> from mgmt_ray.nets.slice_classifier import SliceClassifier
    >>> slices = torch.zeros(5, 3, 128, 128, dtype=torch.float16)
    >>> data = VolumeSet(slices, labels=torch.ones(5), subjects=("P-1",) * 5)
    >>> classify(SliceClassifier(), data, "fp32").shape
    torch.Size([5, 3])
    """
    parts = [torch.empty(0, 3, dtype=torch.float64)]
    for part in evaluation_batches(network, data, SLICES_PER_BATCH):
        with autocast(data.volumes.device, precision):
            logits = network(part.inputs(parameter_dtype(network)))
        parts.append(_values(logits, part).double().cpu())
    return torch.cat(parts)


def _values(logits: Float[Tensor, "row 2"], batch: VolumeSet) -> Float[Tensor, "row 3"]:
    """Return probability, loss (every slice counted once) and label."""
    exact = logits.double()
    loss = slice_cross_entropy(exact, batch.labels)
    return torch.stack([exact.softmax(dim=1)[:, 1], loss, batch.labels.double()], dim=1)


def _scores(values: np.ndarray) -> SliceScores:
    probability, loss, label = values.T.copy()
    correct = (probability >= THRESHOLD) == (label > 0)
    scores = score(probability, label, loss)
    return SliceScores(
        loss=scores.loss,
        accuracy=float(correct.mean()),
        auc=scores.auc,
        ap=scores.ap,
        sen=scores.sen,
        spe=scores.spe,
    )
