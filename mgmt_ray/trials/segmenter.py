"""Finished segmentations: loading them, and segmenting slices or whole scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32

from mgmt_ray.base import MgmtError
from mgmt_ray.nets.build import SegmentationConfig
from mgmt_ray.nets.myronenko import SegmentationNetwork
from mgmt_ray.preprocess.axial_slices import SubjectSlices
from mgmt_ray.preprocess.histogram_matching import StandardHistogram, normalise_slices
from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.slice_geometry import paste_onto_scan
from mgmt_ray.preprocess.tumour_slices import (
    TUMOUR_THRESHOLD,
    slices_through_prediction,
    slices_through_tumour,
)
from mgmt_ray.study.folder import StudyFolder, check_weights
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.checkpoint import load_weights
from mgmt_ray.training.mask_overlap import Overlap, count_overlap
from mgmt_ray.training.precision import set_precision
from mgmt_ray.training.segmentation_task import predict_tumour
from mgmt_ray.training.training_config import Precision


@dataclass(frozen=True, slots=True, eq=False)
class Segmenter:
    """A finished segmentation.

    Attributes:
        network: in evaluation mode, on its device.
        histogram: scale of intensities that the network was trained on.
        precision: that the network was trained in.
    """

    network: SegmentationNetwork
    histogram: StandardHistogram
    precision: Precision

    @property
    def device(self) -> torch.device:
        """The network's device."""
        return next(self.network.parameters()).device

    def normalise(
        self, slices: SubjectSlices
    ) -> Float32[np.ndarray, "slice *modality height width"]:
        """Scale the intensities of all slices of each scan together, as the network requires."""
        return normalise_slices(slices.images, self.histogram, slices.id, slices.of_brain)

    def predict(
        self, images: Float32[np.ndarray, "slice *modality height width"]
    ) -> Float32[np.ndarray, "slice height width"]:
        """Return probabilities of tumour for normalised slices."""
        probability = predict_tumour(self.network, torch.from_numpy(images), self.precision)
        return probability.cpu().numpy()


@dataclass(frozen=True, slots=True, eq=False)
class TumourSlices:
    """The slices of a scan that a classifier takes: those through its given or predicted tumour.

    Attributes:
        images: normalised [slice, height, width], or [slice, modality, height, width].
        tumour: predicted probabilities [slice, height, width].
        depths: index of each slice in the scan.
        annotated: whether the scan has a given mask.
    """

    images: np.ndarray
    tumour: np.ndarray
    depths: np.ndarray
    overlap: Overlap
    annotated: bool


def segment_scan(
    segmenters: Sequence[Segmenter], slices: SubjectSlices
) -> Bool[np.ndarray, "depth rows columns"]:
    """Return the mask, on the scan's grid, of a mean probability of at least 0.5.

    Voxels outside the brain, which are 0 in the scan, are never tumour.

    Args:
        segmenters: one or more; each scales the scan's intensities as it was trained.
        slices: all slices of the scan in the store; the mask is empty in others.
    """
    probabilities = [segmenter.predict(segmenter.normalise(slices)) for segmenter in segmenters]
    return mask_on_scan(slices, np.mean(probabilities, axis=0) >= TUMOUR_THRESHOLD)


def mask_on_scan(
    slices: SubjectSlices, predicted: Bool[np.ndarray, "slice height width"]
) -> Bool[np.ndarray, "depth rows columns"]:
    """Put a predicted mask on the scan's grid, and remove what lies outside the brain."""
    return paste_onto_scan(predicted & slices.brain, slices.depths, slices.frame)


def select_tumour_slices(
    slices: SubjectSlices, predictor: Segmenter, fold_segmenter: Segmenter, recipe: SliceRecipe
) -> TumourSlices:
    """Select the slices of a scan through its tumour, and predict the tumour in them.

    Args:
        predictor: predicts the tumour; for a training subject one not trained on that subject,
            if masks are cross-fitted.
        fold_segmenter: the fold's segmentation; its scale of intensities is the classifier's.
    """
    images = fold_segmenter.normalise(slices)
    inputs = images if predictor is fold_segmenter else predictor.normalise(slices)
    if slices.annotated:
        rows = slices_through_tumour(slices.masks, recipe)
        tumour = predictor.predict(inputs[rows])
    else:
        scan_tumour = predictor.predict(inputs)
        rows = slices_through_prediction(scan_tumour, recipe)
        tumour = scan_tumour[rows]
    overlap = count_overlap(tumour >= TUMOUR_THRESHOLD, slices.masks[rows] > 0)
    return TumourSlices(images[rows], tumour, slices.depths[rows], overlap, slices.annotated)


def load_segmenter(trial: Trial, folder: StudyFolder, device: str) -> Segmenter:
    """Load the network of a finished segmentation trial, without gradients.

    Raises:
        MgmtError: the trial diverged, or its weights are not those that its training wrote: others
            may have been trained on subjects that must be unknown to it.
    """
    metadata = folder.read_trial(trial.id)
    if metadata["weights_sha256"] is None:
        raise MgmtError(
            f"segmentation {trial.id} diverged, so there are no masks for the classifier. "
            f"Lower networks.{trial.network}.segmentation.learning_rate."
        )
    config = trial.network_config
    assert isinstance(config, SegmentationConfig)
    network = SegmentationNetwork(config.width, config.shape, modalities=len(trial.channels))
    load_weights(network, check_weights(folder.trial(trial.id)))
    network.to(device).requires_grad_(False).eval()
    precision = metadata["training_config"]["precision"]
    set_precision(network, precision)
    histogram = StandardHistogram.from_json(metadata["standard_histogram"])
    return Segmenter(network, histogram, precision)
