"""Choosing the task of a network."""

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
    """Return the task of a network.

    Args:
        network: decides the kind of task.
        training: the rows whose labels set the class weights, if the config asks for them.
        config: of the same kind as the network.
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
