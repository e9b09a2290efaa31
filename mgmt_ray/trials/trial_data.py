"""Loading a trial's training and validation data: volumes, or slices of either stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.covariates import read_covariates
from mgmt_ray.nets.build import AnyNetwork
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.splits.split import Split, check_group_leakage, resolve_labels
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.dataset import VolumeSet, volume_set
from mgmt_ray.training.loop import prepare_training_rows
from mgmt_ray.training.training_config import SegmentationTraining, TrainingConfig
from mgmt_ray.trials.resume import TrainingHistory
from mgmt_ray.trials.slice_data import SliceSets
from mgmt_ray.trials.slice_trial import load_slices, slice_tables
from mgmt_ray.trials.trial_folder import Tables, prior, validation_rows


@dataclass(frozen=True, slots=True, eq=False)
class TrialSets:
    """Training and validation data of a trial.

    Attributes:
        training: augmented and balanced rows.
        validation: rows without augmentation.
        metadata: their entries in ``trial.json``.
        slices: the same sets with the identity of each slice; None for volumes.
    """

    training: VolumeSet
    validation: VolumeSet
    metadata: dict[str, Any]
    slices: SliceSets | None = None

    def tables(
        self, trial: Trial, history: TrainingHistory, network: AnyNetwork, checksum: str
    ) -> Tables:
        """Return the tables that a finished trial writes besides its weights.

        Args:
            trial: that these sets belong to.
            history: of the finished training.
            network: of the trial; for slices the selected weights are loaded into it.
            checksum: of the weights.
        """
        prior = self.metadata.get("prior")
        if self.slices is None:
            assert prior is not None
            return validation_rows(trial, history, self.validation, checksum, prior)
        network.load_state_dict(network.state_dict() | history.weights)
        return slice_tables(trial, self.slices, history.columns, network, prior, checksum)


def load_sets(
    trial: Trial, folder: StudyFolder, cohort: Cohort, split: Split, device: str
) -> TrialSets:
    """Load a trial's training and validation subjects, and no others.

    Args:
        trial: of ``split``; the trials that it needs are finished.
        cohort: subjects of the study.
        split: with the trial's fold.
        device: in torch's notation.

    Raises:
        MgmtError: a person would be on two sides of the split, or files were changed.
        Diverged: a segmentation that the trial needs diverged.
    """
    fold_ids = fold_subjects(trial, cohort, split)
    label = resolve_labels(split, cohort)
    if trial.takes_slices:
        slices = load_slices(trial, folder, cohort, fold_ids, label, device)
        training, validation, metadata = slices.training, slices.validation, slices.metadata
    else:
        training, validation = _load_volume_sets(trial, folder, cohort, fold_ids, label, device)
        slices, metadata = None, {}
    if not isinstance(trial.training_config, SegmentationTraining):
        metadata = metadata | {"prior": prior(training, trial.training_config)}
    return TrialSets(training, validation, metadata, slices)


def fold_subjects(
    trial: Trial, cohort: Cohort, split: Split
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return training and validation ids of a trial's fold.

    Raises:
        MgmtError: a person or a test subject would be on two sides.
    """
    check_group_leakage(split, cohort)
    available = {s.id for s in cohort.subjects if s.has_all(trial.channels)}
    train, validation = split.fold(trial.fold, available)
    leaked = sorted(set(split.test) & {*train, *validation})
    if leaked:
        raise MgmtError(
            f"trial {trial.id}: test subjects {', '.join(leaked)} are in its training or "
            "validation set. Delete splits.json and the trials made with it, then rerun the study."
        )
    return train, validation


def load_volumes(
    folder: Path,
    channels: tuple[str, ...],
    label: Mapping[str, int],
    ids: tuple[str, ...],
    device: str,
    *,
    augmented: bool = False,
    covariates: Mapping[str, Sequence[float]] | None = None,
) -> VolumeSet:
    """Load volumes of subjects onto a device, without or with all their augmentations.

    Args:
        folder: of the volume store.
        channels: modalities, in the order of the input channels.
        label: by subject, 1 methylated, 0 unmethylated.
        ids: subjects to load.
        device: in torch's notation.
        augmented: whether to load all versions of a volume, or the original alone.
        covariates: by subject, for a network that takes any.
    """
    stores = [VolumeStore(folder, channel) for channel in channels]
    versions = stores[0].versions if augmented else stores[0].versions[:1]
    arrays = [store.load(ids, versions) for store in stores]
    values = None if covariates is None else [covariates[s] for s in ids]
    return volume_set(arrays, [label[s] for s in ids], ids, device, values)


def _load_volume_sets(
    trial: Trial,
    folder: StudyFolder,
    cohort: Cohort,
    fold_ids: tuple[tuple[str, ...], tuple[str, ...]],
    label: Mapping[str, int],
    device: str,
) -> tuple[VolumeSet, VolumeSet]:
    """Load the trial's training volumes, balanced, and its validation volumes."""
    train, validation = fold_ids
    names = trial.network_config.covariates
    covariates = read_covariates(cohort.subjects, names) if names else None
    load = partial(
        load_volumes, folder.volumes, trial.channels, label, device=device, covariates=covariates
    )
    training = load(ids=train, augmented=True)
    assert isinstance(trial.training_config, TrainingConfig)
    balanced = prepare_training_rows(training, trial.training_config, trial.seed)
    return balanced, load(ids=validation)
