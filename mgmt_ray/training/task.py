"""The interface of a training task; the loop is the same for all tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mgmt_ray.base import stream_seed
from mgmt_ray.training.dataset import VolumeSet

Noise: TypeAlias = tuple[Tensor | None, ...]
"""Random numbers of a batch: tensors [row, ...], None where nothing is drawn. They are drawn on the
CPU, and are on the device of the batch when its loss is computed."""


@dataclass(frozen=True, slots=True, eq=False)
class BatchLoss:
    """The loss of one batch.

    Attributes:
        total: the loss, summed over the batch's rows.
        outputs: the values, without gradient, from which the task scores an epoch.
        penalty: added to the mean loss once per batch, whatever its number of rows.
    """

    total: Float[Tensor, ""]
    outputs: Float[Tensor, "row value"]
    penalty: Float[Tensor, ""] | None = None


@runtime_checkable
class EpochScores(Protocol):
    """A dataclass of named numbers, of which the loss is the first."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def loss(self) -> float:
        """Mean loss over rows."""


@runtime_checkable
class EpochPredictions(Protocol):
    """Predictions of an epoch's network for each validation row."""

    @property
    def columns(self) -> dict[str, list[float]]:
        """What a trial stores, by name."""


@runtime_checkable
class Task(Protocol):
    """What differs between classifying volumes, segmenting slices and classifying slices."""

    def noise(self, seed: int, epoch: int) -> Callable[[int], Noise]:
        """Return a function that draws the noise of the epoch's next batch, given its rows."""

    def loss(self, network: nn.Module, batch: VolumeSet, noise: Noise) -> BatchLoss:
        """Return the loss of a batch.

        Args:
            network: in training mode, wrapped and compiled by the loop.
            batch: on the network's device.
        """

    def train_scores(self, outputs: Float[Tensor, "row value"]) -> EpochScores:
        """Score an epoch's training rows from the ``outputs`` of their :class:`BatchLoss`."""

    def predict(self, network: nn.Module, data: VolumeSet, seed: int) -> Float[Tensor, "row value"]:
        """Return the values of :meth:`validation`; each worker predicts its share of the rows."""

    def validation(
        self, values: Float[Tensor, "row value"], data: VolumeSet
    ) -> tuple[EpochScores, EpochPredictions]:
        """Return scores and predictions of the whole validation fold, from :meth:`predict`."""


def epoch_generator(seed: int, purpose: str, epoch: int) -> torch.Generator:
    """Return an epoch's random stream for one purpose.

    >>> first, second = (epoch_generator(1, "dropout", epoch) for epoch in (1, 2))
    >>> torch.rand(1, generator=first) == torch.rand(1, generator=second)
    tensor([False])
    """
    return torch.Generator().manual_seed(stream_seed(seed, purpose, epoch))


def parameter_dtype(network: nn.Module) -> torch.dtype:
    """Return the dtype of a network's parameters."""
    return next(network.parameters()).dtype
