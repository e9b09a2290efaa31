"""A trial: one training, and all that determines its result."""

from __future__ import annotations

from dataclasses import dataclass

from mgmt_ray.nets.build import AnyNetworkConfig, NetworkConfig, SegmentationConfig
from mgmt_ray.training.training_config import AnyTraining, TrainingConfig


@dataclass(frozen=True, slots=True)
class InnerFolds:
    """How a fold's training patients are dealt (see ``splits.parts.make_inner_folds``).

    Attributes:
        number: of parts.
        seed: of the deal.
    """

    number: int
    seed: int


@dataclass(frozen=True, slots=True)
class Trial:
    """One training.

    Attributes:
        name: readable, unique but for hyper-parameters.
        network: its name in the study.
        channels: modalities that are its input channels.
        outer_fold: number of the split that it trains in.
        fold: which fold validates, from 0.
        repeat: number of the repetition, from 0.
        hyperparameters: what a sweep varies, by name; empty without a sweep.
        network_config: of the network.
        training_config: with the sweep's values put in.
        seed: of all its draws; equal for trials that differ in hyper-parameters only.
        hash: fingerprint of all that determines its result but the files' content, which
            ``trial.json`` records.
        inner_fold: of a segmentation that others need, the part of the fold's training patients it
            leaves out, from 0; None if it leaves out nobody.
        inner_folds: how these patients are dealt; None if they are not.
        needs: of a slice classifier, the segmentations that must be finished before it: first the
            fold's own, then, where masks are cross-fitted, those of each part, in order.
    """

    name: str
    network: str
    channels: tuple[str, ...]
    outer_fold: int
    fold: int
    repeat: int
    hyperparameters: dict[str, float]
    network_config: AnyNetworkConfig
    training_config: AnyTraining
    seed: int
    hash: str
    inner_fold: int | None = None
    inner_folds: InnerFolds | None = None
    needs: tuple[Trial, ...] = ()

    @property
    def dependency_level(self) -> int:
        """Trials of a stage start when those of the stage before are finished; 0 is the first."""
        return 1 if self.needs else 0

    @property
    def takes_slices(self) -> bool:
        """Whether it trains on slices."""
        return not isinstance(self.network_config, NetworkConfig)

    @property
    def is_classifier(self) -> bool:
        """Whether it can be a member of ensembles."""
        return not isinstance(self.network_config, SegmentationConfig)

    @property
    def temperature(self) -> float:
        """τ of its policy's relaxation; 1 where there is none."""
        training = self.training_config
        return training.temperature if isinstance(training, TrainingConfig) else 1.0

    @property
    def modality(self) -> str:
        """The input's name: its modality, or its channels joined with "+"."""
        return "+".join(self.channels)

    @property
    def id(self) -> str:
        """Readable and unique: the name of the trial's folder."""
        return f"{self.name}_{self.hash[:10]}"
