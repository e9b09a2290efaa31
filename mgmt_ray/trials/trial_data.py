"""The subjects of a trial's fold, and the data that a trial trains on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mgmt_ray.base import MgmtError
from mgmt_ray.nets.network import Network
from mgmt_ray.splits.split import check_group_leakage, resolve_labels
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.training_config import AnyTraining, SegmentationTraining
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.resume import TrainingHistory
from mgmt_ray.trials.trial_folder import Tables


@dataclass(frozen=True, slots=True)
class FoldSubjects:
    """The subjects of a fold that have a trial's modalities.

    Attributes:
        label: by id, 1 methylated, 0 unmethylated.
    """

    training: tuple[str, ...]
    validation: tuple[str, ...]
    label: Mapping[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class TrialSets:
    """Training and validation data of a trial.

    Attributes:
        training: augmented and balanced rows.
        validation: rows without augmentation.
        metadata: their entries in ``trial.json``.
        tables: returns the tables of the finished trial, given its history, its network (whose
            weights may be changed) and the checksum of the selected weights.
    """

    training: VolumeSet
    validation: VolumeSet
    metadata: dict[str, Any]
    tables: Callable[[TrainingHistory, Network, str], Tables]


def fold_subjects(trial: Trial, inputs: TrialInputs) -> FoldSubjects:
    """Return the training and validation subjects of a trial, and no others.

    Raises:
        MgmtError: a person or a test subject would be on two sides.
    """
    cohort, split = inputs.cohort, inputs.splits[trial.outer_fold]
    check_group_leakage(split, cohort)
    available = {s.id for s in cohort.subjects if s.has_all(trial.channels)}
    training, validation = split.fold(trial.fold, available)
    leaked = sorted(set(split.test) & {*training, *validation})
    if leaked:
        raise MgmtError(
            f"trial {trial.id}: test subjects {', '.join(leaked)} are in its training or "
            "validation set. Delete splits.json and the trials made with it, then rerun the study."
        )
    return FoldSubjects(training, validation, resolve_labels(split, cohort))


def prior(training: VolumeSet, config: AnyTraining) -> float:
    """Return the share of methylated rows that a training presents to its network, in [0, 1].

    It is 0.5 where the config weights the classes equally.

    Args:
        training: rows after pruning. The share counts rows, not subjects: a patient with a large
            tumour has more slices than others.

    >>> import torch
    >>> from mgmt_ray.training.training_config import TrainingConfig
    >>> data = VolumeSet(torch.zeros(4, 1), torch.tensor([1.0, 0, 0, 0]), ("a", "b", "c", "d"))
    >>> prior(data, TrainingConfig(balance="none")), prior(data, TrainingConfig(balance="weight"))
    (0.25, 0.5)
    """
    assert not isinstance(config, SegmentationTraining), "a segmentation has no classes"
    return 0.5 if config.balance == "weight" else training.labels.double().mean().item()
