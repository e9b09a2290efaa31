"""The trials of the two-stage pipeline: segmentations, and the classifier that needs them."""

from __future__ import annotations

from typing import Any

from mgmt_ray.nets.build import AnyNetworkConfig, SegmentationConfig, SliceClassifierConfig
from mgmt_ray.study.config import StudyConfig
from mgmt_ray.study.pipeline import SlicePipelineConfig
from mgmt_ray.study.place import Place
from mgmt_ray.study.trial import Parts, Trial
from mgmt_ray.training.training_config import AnyTraining


def slice_trials(study: StudyConfig, config: SlicePipelineConfig, place: Place) -> list[Trial]:
    """The fold's segmentation, those that leave out a part each, and the classifier, in order.

    Args:
        study: with the recipe of its slices.
        config: of the pipeline.
        place: where in the study all of them stand.
    """
    segmentations = _segmentations(study, config, place)
    classifier = SliceClassifierConfig()
    needed = {"needs": [trial.id for trial in segmentations]}
    described = _described(study, classifier, config.classification)
    classification = place.trial(
        place.network,
        classifier,
        config.classification,
        place.stream(),
        described | needed,
        parts=_parts(config, place),
        needs=tuple(segmentations),
    )
    return [*segmentations, classification]


def _segmentations(study: StudyConfig, config: SlicePipelineConfig, place: Place) -> list[Trial]:
    """The fold's own, and with cross-fitting one that leaves out each part."""
    network = SegmentationConfig(width=config.width, shape=study.slices.shape)
    described = _described(study, network, config.segmentation)
    parts = _parts(config, place)
    whole = place.trial(
        f"{place.network}-segmentation",
        network,
        config.segmentation,
        place.stream("segmentation"),
        described,
        parts=parts,
    )
    if parts is None:
        return [whole]
    dealt = [parts.number, parts.seed]
    return [
        whole,
        *(
            place.trial(
                f"{place.network}-segmentation-without{part}",
                network,
                config.segmentation,
                place.stream("segmentation", part),
                described | {"part": part, "parts": dealt},
                part=part,
                parts=parts,
            )
            for part in range(parts.number)
        ),
    ]


def _parts(config: SlicePipelineConfig, place: Place) -> Parts | None:
    return Parts(config.parts, place.stream()) if config.cross_fitted else None


def _described(
    study: StudyConfig, network: AnyNetworkConfig, training: AnyTraining
) -> dict[str, Any]:
    """What a trial's result follows from, as its id holds it."""
    return {
        "network": network.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "slices": study.slices.model_dump(mode="json"),
    }
