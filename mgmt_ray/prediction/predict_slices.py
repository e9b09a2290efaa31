"""Predict held-out subjects from slices: each member after the segmentation of its fold."""

from __future__ import annotations

import pandas as pd

from mgmt_ray.cluster.progress import log
from mgmt_ray.nets.build import build_network
from mgmt_ray.prediction.prediction_files import MemberPredictions
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.selection.predictions import shorten_list
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.held_out_set import HeldOutSet
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.checkpoint import load_weights
from mgmt_ray.training.classification_task import classify
from mgmt_ray.training.precision import set_precision
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.segmentation_quality import measure_scans
from mgmt_ray.trials.segmenter import load_segmenter
from mgmt_ray.trials.slice_data import open_slices, slices_to_classify
from mgmt_ray.trials.slices_pipeline import average_by_patient, classified_slices


def predict_slices(trial: Trial, held_out: HeldOutSet, inputs: TrialInputs) -> MemberPredictions:
    """Predict with a slice classifier, and measure how well its segmentation finds the tumours.

    A patient's probability is the mean over the slices through the tumour: the given mask's, or
    for a scan without a given mask, that of the segmentation.
    """
    device = inputs.resources.device
    metadata = inputs.folder.read_trial(trial.id)
    precision = metadata["training_config"]["precision"]
    segmentation = trial.needs[0]
    segmenter = load_segmenter(segmentation, inputs.folder, device)
    store, ids = open_slices(held_out.folder.slices, trial), tuple(held_out.label)
    segmenters = dict.fromkeys(ids, segmenter)
    data = slices_to_classify(store, segmenters, segmenter, held_out.label, device)
    network = build_network(
        trial.network_config, len(trial.channels), trial.temperature, checkpoint=None
    )
    load_weights(network, inputs.folder.weights(trial.id))
    set_precision(network.to(device), precision)
    probability = classify(network, data.data, precision)[:, 0].tolist()
    slices = classified_slices(trial, held_out.split, data, probability)
    measured = [*measure_scans(segmentation, segmenter, store, ids, held_out.split)]
    return MemberPredictions(
        average_by_patient(trial, slices, metadata["weights_sha256"], metadata["prior"]),
        slices=slices,
        segmentations=pd.DataFrame([row for row, _ in measured]),
        examples=tuple(example for _, example in measured if example),
    )


def log_unannotated(slices: pd.DataFrame, folder: StudyFolder) -> None:
    """Log which subjects' slices were chosen by a predicted tumour, and whose was too small."""
    if slices.empty or not slices["dice"].isna().any():
        return
    ids = slices.loc[slices["dice"].isna(), "subject"].unique()
    log(
        f"no tumour mask of {shorten_list(list(ids))}: slices through the predicted tumour are used"
    )
    num_models = (
        rows_without_tumour(slices, folder).groupby("subject", sort=False)["trial"].nunique()
    )
    if not num_models.empty:
        subjects = [f"{subject} ({number} models)" for subject, number in num_models.items()]
        log(
            f"no slice with {_min_tumour_voxels(slices, folder)} voxels of predicted tumour in "
            f"{shorten_list(subjects)}: the slice with the most is used; do not trust these "
            "predictions"
        )


def rows_without_tumour(slices: pd.DataFrame, folder: StudyFolder) -> pd.DataFrame:
    """Return the rows, one per model, of scans without a mask in which it finds no tumour."""
    if slices.empty:
        return slices
    is_small = slices["predicted_pixels"] < _min_tumour_voxels(slices, folder)
    return slices[slices["dice"].isna() & is_small]


def _min_tumour_voxels(slices: pd.DataFrame, folder: StudyFolder) -> int:
    """Return the minimum tumour voxels of a slice that counts as through the tumour."""
    return SliceStore(folder.slices, slices["modality"].iloc[0]).recipe.least_tumour_voxels
