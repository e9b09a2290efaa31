"""Finding tumours with finished segmentations, slice by slice or in a whole scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32

from mgmt_ray.base import MgmtError, file_checksum
from mgmt_ray.nets.build import SegmentationConfig
from mgmt_ray.nets.myronenko import SegmentationNetwork
from mgmt_ray.preprocess.axial_slices import SubjectSlices
from mgmt_ray.preprocess.histogram_matching import StandardHistogram, normalise_slices
from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.slice_channels import TUMOUR_THRESHOLD
from mgmt_ray.preprocess.slice_geometry import onto_scan
from mgmt_ray.preprocess.tumour_slices import rows_through_prediction, rows_through_tumour
from mgmt_ray.study.folder import StudyFolder
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
        histogram: the scale of intensities that it was trained on.
        precision: that it was trained in.
    """

    network: SegmentationNetwork
    histogram: StandardHistogram
    precision: Precision

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.network.parameters()).device

    def normalise(self, slices: SubjectSlices) -> Float32[np.ndarray, "slice height width"]:
        """All slices of a scan as it sees them: their intensities are brought to scale together."""
        return normalise_slices(slices.images, self.histogram, slices.id, slices.of_brain)

    def predict(
        self, images: Float32[np.ndarray, "slice height width"]
    ) -> Float32[np.ndarray, "slice height width"]:
        """Of tumour, of normalised slices."""
        found = predict_tumour(self.network, torch.from_numpy(images), self.precision)
        return found.cpu().numpy()


@dataclass(frozen=True, slots=True, eq=False)
class TumourSlices:
    """The slices of a scan that a classifier takes: through the tumour, given or else predicted.

    Attributes:
        images: normalised [slice, height, width].
        tumour: its probabilities, as predicted, likewise.
        depths: of each slice in the scan.
        overlap: of the predicted with the given tumour.
        annotated: whether a tumour was given.
    """

    images: np.ndarray
    tumour: np.ndarray
    depths: np.ndarray
    overlap: Overlap
    annotated: bool


def segment_scan(
    segmenters: Sequence[Segmenter], slices: SubjectSlices
) -> Bool[np.ndarray, "depth rows columns"]:
    """Where the mean of the segmentations' probabilities is at least 0.5, on the scan's grid.

    Only valued voxels are tumour: beyond the brain there is none.

    Args:
        segmenters: one or more; each normalises the scan to its own scale.
        slices: all that the store has of the scan. In slices that it has not there is no tumour.
    """
    found = [segmenter.predict(segmenter.normalise(slices)) for segmenter in segmenters]
    return mask_on_scan(slices, np.mean(found, axis=0) >= TUMOUR_THRESHOLD)


def mask_on_scan(
    slices: SubjectSlices, predicted: Bool[np.ndarray, "slice height width"]
) -> Bool[np.ndarray, "depth rows columns"]:
    """A predicted tumour on the scan's grid, without what lies outside the brain."""
    return onto_scan(predicted & (slices.images != 0), slices.depths, slices.frame)


def select_tumour_slices(
    slices: SubjectSlices, by: Segmenter, own: Segmenter, recipe: SliceRecipe
) -> TumourSlices:
    """The slices of a scan through its tumour, and the tumour that is predicted in them.

    Args:
        slices: all of the scan's.
        by: who predicts the tumour.
        own: the fold's segmentation; its scale of intensities is the classifier's.
        recipe: which slices are taken.
    """
    images = own.normalise(slices)
    as_seen = images if by is own else by.normalise(slices)
    if slices.annotated:
        rows = rows_through_tumour(slices.masks, recipe)
        tumour = by.predict(as_seen[rows])
    else:
        whole = by.predict(as_seen)
        rows = rows_through_prediction(whole, recipe)
        tumour = whole[rows]
    overlap = count_overlap(tumour >= TUMOUR_THRESHOLD, slices.masks[rows] > 0)
    return TumourSlices(images[rows], tumour, slices.depths[rows], overlap, slices.annotated)


def load_segmenter(trial: Trial, folder: StudyFolder, device: str) -> Segmenter:
    """A finished segmentation trial's network, frozen.

    Raises:
        MgmtError: it has no weights, or not those that its training left: others may have
            trained on whom it must not know.
    """
    metadata = folder.read_trial(trial.id)
    if metadata["weights_sha256"] is None:
        raise MgmtError(f"segmentation {trial.id} diverged, so there are no masks to classify by.")
    config = trial.network_config
    assert isinstance(config, SegmentationConfig)
    network = SegmentationNetwork(config.width, config.shape)
    path = folder.weights(trial.id)
    if not path.is_file() or file_checksum(path) != metadata["weights_sha256"]:
        raise MgmtError(
            f"{path}: its checksum is not the one in trial.json, so it was changed or lost. "
            "Delete that trial's folder and run its study again."
        )
    load_weights(network, path)
    network.to(device).requires_grad_(False).eval()
    precision = trial.training_config.precision
    set_precision(network, precision)
    standard = StandardHistogram.from_json(metadata["standard_histogram"])
    return Segmenter(network, standard, precision)
