"""What a network learns."""

from __future__ import annotations

from mgmt_ray.nets.build import AnyNetwork
from mgmt_ray.nets.myronenko import SegmentationNetwork
from mgmt_ray.nets.slice_classifier import SliceClassifier
from mgmt_ray.training.classification_task import ClassificationTask
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.segmentation_task import SegmentationTask
from mgmt_ray.training.task import Task
from mgmt_ray.training.training_config import (
    AnyTraining,
    ClassificationTraining,
    SegmentationTraining,
    TrainingConfig,
)
from mgmt_ray.training.volume_task import VolumeTask, class_weights


def make_task(network: AnyNetwork, training: VolumeSet, config: AnyTraining) -> Task:
    """The network's task.

    Args:
        network: to be trained.
        training: what on; weighted classes follow from its labels.
        config: of a training of such networks.
    """
    if isinstance(network, SegmentationNetwork):
        assert isinstance(config, SegmentationTraining)
        return SegmentationTask(network, config)
    assert not isinstance(config, SegmentationTraining)
    weights = class_weights(training.labels) if config.balance == "weight" else None
    if isinstance(network, SliceClassifier):
        assert isinstance(config, ClassificationTraining)
        return ClassificationTask(config, weights)
    assert isinstance(config, TrainingConfig)
    return VolumeTask(network, config, weights)
