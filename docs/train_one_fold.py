"""Train one fold of one network with torch alone; needs no Ray, no MLflow and no study's folder."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from mgmt_ray.cohort.datasets import read_data_set
from mgmt_ray.cohort.inclusion import select_subjects
from mgmt_ray.cohort.upenn import UpennConfig
from mgmt_ray.nets.build import NetworkConfig, build_volume_network
from mgmt_ray.preprocess.recipe import RecipeConfig, versions
from mgmt_ray.preprocess.volumes import make_versions
from mgmt_ray.splits.draw import SplitConfig, make_splits
from mgmt_ray.training.dataset import VolumeSet, volume_set
from mgmt_ray.training.loop import Epoch, TrainingState, fit, training_rows
from mgmt_ray.training.training_config import TrainingConfig


def train_one_fold(
    data: UpennConfig, recipe: RecipeConfig, config: NetworkConfig, training: TrainingConfig
) -> Iterator[Epoch]:
    """Train on all folds but the first, which validates; the test set is not read."""
    modality = data.modalities[0]
    cohort = select_subjects(read_data_set(data), data, file_problems=[], hashes={}).cohort
    subjects = {subject.id: subject for subject in cohort.subjects}
    split = make_splits(cohort, SplitConfig(folds=2), (modality,))[0]

    def load(ids: tuple[str, ...], names: tuple[str, ...]) -> VolumeSet:
        volumes = [make_versions(subjects[s], modality, recipe, names)[0] for s in ids]
        return volume_set([np.stack(volumes)], [subjects[s].label for s in ids], ids, "cpu")

    train_ids, validation_ids = split.fold(0, set(subjects))
    rows = load(train_ids, versions(recipe))
    rows = rows.select(training_rows(rows.labels.numpy(), training, seed=0))
    torch.manual_seed(0)
    network = build_volume_network(config, 1, training.temperature, checkpoint=None)
    state = TrainingState(network, training)
    return fit(state, rows, load(validation_ids, ("original",)), training, seed=0)


if __name__ == "__main__":
    upenn = UpennConfig(reader="upenn", root=Path(sys.argv[1]), modalities=("FLAIR",))
    config = NetworkConfig(kind="random", depth=10)
    for epoch in train_one_fold(upenn, RecipeConfig(), config, TrainingConfig(epochs=5)):
        print(epoch.number, epoch.train.loss, epoch.validation.loss, epoch.validation.auc)
