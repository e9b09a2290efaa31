"""What a training learns; the loop is the same for all."""

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
"""What a batch draws: tensors [row, ...] on the CPU, None where nothing is drawn."""


@dataclass(frozen=True, slots=True, eq=False)
class BatchLoss:
    """What one batch gave.

    Attributes:
        total: the loss, summed over the batch's rows.
        outputs: [row, value] without gradient: what the scores of an epoch follow from.
        penalty: what a step adds to the mean loss, whatever its number of rows.
    """

    total: Float[Tensor, ""]
    outputs: Float[Tensor, "row value"]
    penalty: Float[Tensor, ""] | None = None


@runtime_checkable
class EpochScores(Protocol):
    """A dataclass of named numbers; the loss is the first of every task."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def loss(self) -> float:
        """Mean over rows."""


@runtime_checkable
class EpochPredictions(Protocol):
    """What an epoch's network says of each validation row."""

    @property
    def columns(self) -> dict[str, list[float]]:
        """What a trial keeps of it, by name."""


@runtime_checkable
class Task(Protocol):
    """What differs between learning methylation from volumes, segmenting slices and classifying."""

    def noise(self, seed: int, epoch: int) -> Callable[[int], Noise]:
        """What draws the noise of an epoch's batches, given their numbers of rows, in order."""

    def loss(self, network: nn.Module, batch: VolumeSet, noise: Noise) -> BatchLoss:
        """Loss of a batch.

        Args:
            network: in training mode, as the loop wraps and compiles it.
            batch: on the network's device.
            noise: of its rows.
        """

    def train_scores(self, seen: Float[Tensor, "row value"]) -> EpochScores:
        """Scores of an epoch's training rows, from what their batches have seen."""

    def predict(self, network: nn.Module, data: VolumeSet, seed: int) -> Float[Tensor, "row value"]:
        """What validation follows from, row by row; a worker predicts its own rows."""

    def validation(
        self, values: Float[Tensor, "row value"], data: VolumeSet
    ) -> tuple[EpochScores, EpochPredictions]:
        """Scores and predictions of all rows of the validation fold, from :meth:`predict`."""


def generator(seed: int, purpose: str, epoch: int) -> torch.Generator:
    """An epoch's own stream for one purpose."""
    return torch.Generator().manual_seed(stream_seed(seed, purpose, epoch))


def dtype_of(network: nn.Module) -> torch.dtype:
    """Of its parameters."""
    return next(network.parameters()).dtype
