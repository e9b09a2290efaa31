"""Volumes (Schmitz et al. 2024): what their trials train on and write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mgmt_ray.cohort.covariates import read_covariates
from mgmt_ray.data.prepare_stores import prepare_cohort
from mgmt_ray.nets.network import Network
from mgmt_ray.preprocess.artefact_store import part_checksum
from mgmt_ray.preprocess.recipe import RecipeConfig
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.selection.predictions import prediction_rows
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.held_out_set import HeldOutSet
from mgmt_ray.study.study_config import StudyConfig
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.loop import training_rows
from mgmt_ray.training.training_config import TrainingConfig
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.resume import TrainingHistory
from mgmt_ray.trials.trial_data import FoldSubjects, TrialSets, prior
from mgmt_ray.trials.trial_folder import Tables, table_rows


class VolumesPipeline:
    """See :class:`mgmt_ray.trials.pipelines.Pipeline`."""

    needs_masks = True
    prepare = staticmethod(prepare_cohort)

    def recipe(self, study: StudyConfig, *, augmented: bool) -> RecipeConfig:
        return study.recipe if augmented else study.recipe.model_copy(update={"rounds": 0})

    def open_store(self, folder: StudyFolder, modality: str) -> VolumeStore:
        return VolumeStore(folder.volumes, modality)

    def parts(self, trial: Trial) -> tuple[str, ...]:
        return trial.channels

    def input_checksums(self, trial: Trial, folder: StudyFolder) -> dict[str, Any]:
        volumes = folder.volumes
        return {
            "volumes_checksum": {
                m: part_checksum(VolumeStore, volumes, m) for m in self.parts(trial)
            }
        }

    def describe(self, trial: Trial) -> dict[str, Any]:
        return {}

    def load_sets(
        self, trial: Trial, inputs: TrialInputs, fold: FoldSubjects, device: str
    ) -> TrialSets:
        names = trial.network_config.covariates
        covariates = read_covariates(inputs.cohort.subjects, names) if names else None
        load = partial(
            load_volumes,
            inputs.folder.volumes,
            trial.channels,
            fold.label,
            device=device,
            covariates=covariates,
        )
        config = trial.training_config
        assert isinstance(config, TrainingConfig)
        choose = partial(training_rows, config=config, seed=trial.seed)
        training = load(ids=fold.training, choose_augmented=choose)
        validation = load(ids=fold.validation)
        share = prior(training, config)

        def tables(history: TrainingHistory, network: Network, checksum: str) -> Tables:
            table = prediction_rows(
                trial.identity | {"weights_sha256": checksum, "prior": share},
                "validation",
                validation.subjects,
                history.columns["probability"],
                validation.labels.int().tolist(),
                history.columns["probability_std"],
            )
            return {"validation.csv": table_rows(table)}

        return TrialSets(training, validation, {"prior": share}, tables)

    def unfit_scans(
        self, trial: Trial, held_out: HeldOutSet, folder: StudyFolder
    ) -> dict[str, str]:
        return {}


def load_volumes(
    folder: Path,
    channels: tuple[str, ...],
    label: Mapping[str, int],
    ids: tuple[str, ...],
    device: str,
    *,
    choose_augmented: Callable[[np.ndarray], np.ndarray] | None = None,
    covariates: Mapping[str, Sequence[float]] | None = None,
) -> VolumeSet:
    """Load volumes of subjects onto a device: the originals, or rows of all their versions.

    Args:
        channels: modalities, in the order of the input channels.
        choose_augmented: from the labels of all versions of all subjects, a subject's versions
            together, returns the numbers of the rows to load; None loads the originals.
        covariates: by subject, for a network that takes any.
    """
    stores = [VolumeStore(folder, channel) for channel in channels]
    versions = stores[0].versions if choose_augmented else stores[0].versions[:1]
    rows = [(subject, version) for subject in ids for version in versions]
    if choose_augmented:
        chosen = choose_augmented(np.array([label[subject] for subject, _ in rows]))
        rows = [rows[row] for row in chosen]
    volumes = np.empty((len(rows), len(stores), *stores[0].volume_shape), np.float16)
    for channel, store in enumerate(stores):
        store.read(rows, volumes[:, channel])
    subjects = tuple(subject for subject, _ in rows)
    values = None
    if covariates is not None:
        values = torch.tensor([covariates[s] for s in subjects], dtype=torch.float32).to(device)
    labels = torch.tensor([label[s] for s in subjects], dtype=torch.float32)
    return VolumeSet(torch.from_numpy(volumes).to(device), labels.to(device), subjects, values)
