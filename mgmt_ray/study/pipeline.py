"""The two-stage pipeline of Chen et al. 2020 as one of a study's networks."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from mgmt_ray.base import Config
from mgmt_ray.cohort.covariates import Covariate
from mgmt_ray.training.training_config import ClassificationTraining, SegmentationTraining


class SlicePipelineConfig(Config):
    """Slices are segmented, then classified by image and predicted tumour.

    Chen et al. 2020, sec. 2.3 and 2.4.

    To the study it is a network that takes one modality and tells methylation: both stages of a
    fold together are one member of the ensembles.
    """

    pretrained: ClassVar[bool] = False
    covariates: ClassVar[tuple[Covariate, ...]] = ()
    start_from: ClassVar[None] = None

    kind: Literal["slices"]
    width: int = Field(
        32, ge=8, multiple_of=8, description="channels of the segmentation network's first stage"
    )
    cross_fitted: bool = Field(
        True,
        description="masks of a classifier's training slices come from a network that did not "
        "train on that patient; false takes them from the fold's one network, as the paper does",
    )
    parts: int = Field(
        3, ge=2, description="cross-fitted: parts of the training patients, each left out once"
    )
    segmentation: SegmentationTraining = SegmentationTraining()
    classification: ClassificationTraining = ClassificationTraining()

    @model_validator(mode="after")
    def _parts_have_an_effect(self) -> SlicePipelineConfig:
        if not self.cross_fitted and self.parts != type(self).model_fields["parts"].default:
            raise ValueError(
                "parts: with cross_fitted: false no part of the patients is left out. Take parts "
                "out, or write cross_fitted: true"
            )
        return self
