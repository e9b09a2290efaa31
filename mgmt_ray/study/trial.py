"""A trial: one training, and everything that determines its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mgmt_ray.nets.build import SegmentationConfig, SliceClassifierConfig
from mgmt_ray.nets.network import AnyNetworkConfig
from mgmt_ray.study.search_config import Values
from mgmt_ray.study.study_config import PipelineName
from mgmt_ray.training.training_config import AnyTraining, TrainingConfig


@dataclass(frozen=True, slots=True)
class InnerFolds:
    """How a fold's training patients are divided by ``splits.draw.make_inner_folds``."""

    number: int
    seed: int


@dataclass(frozen=True, slots=True)
class Trial:
    """One training.

    Attributes:
        name: readable; shared by trials that differ only in hyper-parameters.
        network: name in the study.
        channels: modalities of the input channels.
        outer_fold: index of the split, from 0.
        fold: index of the validation fold, from 0.
        repeat: index of the repetition, from 0.
        hyperparameters: values of a search's configuration, by key; empty without a search.
        training_config: with the values of ``hyperparameters``.
        seed: of all draws; equal for trials that differ only in hyper-parameters.
        hash: fingerprint of everything that determines the result, except the files' content,
            which ``trial.json`` records.
        inner_fold: index of the part of the fold's training patients that a cross-fitted
            segmentation leaves out, from 0; None if it trains on all of them.
        inner_folds: how the training patients are divided; None if they are not.
        needs: segmentations that a slice classifier needs: first the fold's own, then, where masks
            are cross-fitted, the one of each part, in order.
    """

    name: str
    network: str
    channels: tuple[str, ...]
    outer_fold: int
    fold: int
    repeat: int
    hyperparameters: Values
    network_config: AnyNetworkConfig
    training_config: AnyTraining
    seed: int
    hash: str
    inner_fold: int | None = None
    inner_folds: InnerFolds | None = None
    needs: tuple[Trial, ...] = ()

    @property
    def dependency_level(self) -> int:
        """Trials of level 1 start when those of level 0 are finished."""
        return 1 if self.needs else 0

    @property
    def pipeline(self) -> PipelineName:
        """What the trial is trained on."""
        of_slices = isinstance(self.network_config, SegmentationConfig | SliceClassifierConfig)
        return "slices" if of_slices else "volumes"

    @property
    def is_classifier(self) -> bool:
        """Whether the trial predicts methylation, so that it can be a member of ensembles."""
        return not isinstance(self.network_config, SegmentationConfig)

    @property
    def temperature(self) -> float:
        """Temperature τ of the policy's relaxation; 1 without a policy."""
        training = self.training_config
        return training.temperature if isinstance(training, TrainingConfig) else 1.0

    @property
    def modality(self) -> str:
        """Name of the input: its modality, or its channels joined with "+"."""
        return "+".join(self.channels)

    @property
    def identity(self) -> dict[str, Any]:
        """Columns that identify the trial in tables of predictions."""
        return {
            "outer_fold": self.outer_fold,
            "fold": self.fold,
            "network": self.network,
            "modality": self.modality,
            "trial": self.id,
        }

    @property
    def id(self) -> str:
        """Readable and unique name, also of the trial's folder."""
        return f"{self.name}_{self.hash[:10]}"
