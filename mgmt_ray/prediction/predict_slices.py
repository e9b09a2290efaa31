"""Predicting unseen subjects from slices: each member behind the segmentation of its fold."""

from __future__ import annotations

import pandas as pd

from mgmt_ray.cluster.progress import say
from mgmt_ray.nets.slice_classifier import SliceClassifier
from mgmt_ray.prediction.member_predictions import MemberPredictions
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.selection.predictions import name_some
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.held_out_set import Unseen
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.checkpoint import load_weights
from mgmt_ray.training.classification_task import classify
from mgmt_ray.training.precision import arrange
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.segmentation_quality import measured_scans
from mgmt_ray.trials.segmenter import load_segmenter
from mgmt_ray.trials.slice_data import open_slices, slices_to_classify
from mgmt_ray.trials.slice_trial import by_patient, classified_slices


def predict_slices(
    trial: Trial, unseen: Unseen, inputs: TrialInputs, device: str
) -> MemberPredictions:
    """What a slice classifier says, and how well its fold's segmentation finds the tumours.

    A patient has the mean probability of the slices through the tumour: the given one, or where
    nobody outlined it, the one that the segmentation predicts.
    """
    precision, facts = trial.training_config.precision, inputs.folder.read_trial(trial.id)
    segmentation = trial.needs[0]
    segmenter = load_segmenter(segmentation, inputs.folder, device)
    store, ids = open_slices(unseen.folder.slices, trial), tuple(unseen.label)
    data, rows = slices_to_classify(store, ids, segmenter, unseen.label, device)
    network = SliceClassifier()
    load_weights(network, inputs.folder.weights(trial.id))
    arrange(network.to(device), precision)
    probability = classify(network, data, precision)[:, 0].tolist()
    slices = classified_slices(trial, unseen.split, data, rows, probability)
    measured = [*measured_scans(segmentation, segmenter, store, ids, unseen.split)]
    return MemberPredictions(
        by_patient(trial, slices, facts["weights"], facts["prior"]),
        slices=slices,
        segmentations=pd.DataFrame([row for row, _ in measured]),
        examples=tuple(example for _, example in measured if example),
    )


def say_unannotated(slices: pd.DataFrame, folder: StudyFolder) -> None:
    """Say whose slices were chosen by predicted tumours, and who had none that was large enough.

    Args:
        slices: as members predicted them; nothing is said where there are none.
        folder: with their store.
    """
    if slices.empty or not slices["dice"].isna().any():
        return
    ids = slices.loc[slices["dice"].isna(), "subject"].unique()
    say(f"no tumour mask of {name_some(list(ids))}: slices through the predicted tumour are taken")
    found = without_enough_tumour(slices, folder).groupby("subject", sort=False)["trial"].nunique()
    if not found.empty:
        told = [f"{subject} ({number} models)" for subject, number in found.items()]
        say(
            f"no slice with {_least(slices, folder)} voxels of predicted tumour in "
            f"{name_some(told)}: the slice with the most is taken; do not trust these predictions"
        )


def without_enough_tumour(slices: pd.DataFrame, folder: StudyFolder) -> pd.DataFrame:
    """Rows of those, one per model, in whom nobody outlined a tumour and the model finds none.

    Args:
        slices: as members predicted them; may be empty.
        folder: with their store.
    """
    if slices.empty:
        return slices
    small = slices["predicted_pixels"] < _least(slices, folder)
    return slices[slices["dice"].isna() & small]


def _least(slices: pd.DataFrame, folder: StudyFolder) -> int:
    """Voxels of a slice through the tumour."""
    return SliceStore(folder.slices, slices["modality"].iloc[0]).recipe.least_tumour_voxels
