"""Slices in two stages (Chen et al. 2020): what their trials train on and write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.data.prepare_stores import prepare_slices
from mgmt_ray.nets.build import SegmentationConfig
from mgmt_ray.nets.myronenko import SegmentationNetwork
from mgmt_ray.nets.network import Network
from mgmt_ray.preprocess.artefact_store import part_checksum
from mgmt_ray.preprocess.histogram_matching import StandardHistogram
from mgmt_ray.preprocess.recipe import SliceRecipe
from mgmt_ray.preprocess.slice_rotation import ANGLES_DEGREES
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.selection.predictions import prediction_rows
from mgmt_ray.splits.draw import make_inner_folds
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.held_out_set import HeldOutSet
from mgmt_ray.study.study_config import StudyConfig
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.loop import Diverged, make_task
from mgmt_ray.trials.context import TrialInputs
from mgmt_ray.trials.resume import TrainingHistory
from mgmt_ray.trials.segmentation_quality import measure_scans
from mgmt_ray.trials.segmenter import Segmenter, load_segmenter
from mgmt_ray.trials.slice_data import (
    SliceSet,
    open_slices,
    segmentation_sets,
    slices_to_classify,
)
from mgmt_ray.trials.trial_data import FoldSubjects, TrialSets, prior
from mgmt_ray.trials.trial_folder import Tables, table_rows
from mgmt_ray.trials.voxel_size import voxel_size_problem


def exclude_inner_fold(trial: Trial, train: Sequence[str], cohort: Cohort) -> tuple[str, ...]:
    """Return a fold's training subjects without the trial's inner fold, if it leaves one out."""
    if trial.inner_fold is None:
        return tuple(train)
    left_out = {*_inner_folds(trial, train, cohort)[trial.inner_fold]}
    return tuple(subject for subject in train if subject not in left_out)


class SlicesPipeline:
    """See :class:`mgmt_ray.trials.pipelines.Pipeline`."""

    needs_masks = False  # its own segmentations find the tumours of held-out subjects
    prepare = staticmethod(prepare_slices)

    def recipe(self, study: StudyConfig, *, augmented: bool) -> SliceRecipe:
        return study.slices

    def open_store(self, folder: StudyFolder, modality: str) -> SliceStore:
        return SliceStore(folder.slices, modality)

    def parts(self, trial: Trial) -> tuple[str, ...]:
        return (trial.modality,)

    def input_checksums(self, trial: Trial, folder: StudyFolder) -> dict[str, Any]:
        finished = (need.id for need in trial.needs if folder.is_finished(need.id))
        return {
            "slices_checksum": {
                m: part_checksum(SliceStore, folder.slices, m) for m in self.parts(trial)
            },
            "segmentations": {name: folder.read_trial(name)["weights_sha256"] for name in finished},
        }

    def describe(self, trial: Trial) -> dict[str, Any]:
        needs = [need.id for need in trial.needs]
        return {"stage": trial.dependency_level, "part": trial.inner_fold, "needs": needs}

    def load_sets(
        self, trial: Trial, inputs: TrialInputs, fold: FoldSubjects, device: str
    ) -> TrialSets:
        store = open_slices(inputs.folder.slices, trial)
        share = None
        if isinstance(trial.network_config, SegmentationConfig):
            ids = exclude_inner_fold(trial, fold.training, inputs.cohort)
            training, validation, metadata = segmentation_sets(store, ids, fold.validation, device)
        else:
            training, validation = _classification_sets(trial, inputs, fold, store, device)
            share = prior(training.data, trial.training_config)
            metadata = {"prior": share}

        def tables(history: TrainingHistory, network: Network, checksum: str) -> Tables:
            network.load_state_dict(network.state_dict() | history.weights)
            slices = _slice_tables(trial, training, validation, history.columns, network)
            tables = {f"slice_{split}.csv": table for split, table in slices.items()}
            if isinstance(network, SegmentationNetwork) and trial.inner_fold is None:
                standard = StandardHistogram.from_json(metadata["standard_histogram"])
                segmenter = Segmenter(network.eval(), standard, trial.training_config.precision)
                tables["segmentations.csv"] = _segmented_scans(trial, store, segmenter, slices)
            if share is not None:
                patients = average_by_patient(trial, slices["validation"], checksum, share)
                tables["validation.csv"] = patients
            return {name: table_rows(table) for name, table in tables.items()}

        return TrialSets(training.data, validation.data, metadata, tables)

    def unfit_scans(
        self, trial: Trial, held_out: HeldOutSet, folder: StudyFolder
    ) -> dict[str, str]:
        metadata = folder.read_trial(trial.needs[0].id)
        rows = open_slices(held_out.folder.slices, trial).rows
        problems = {s: voxel_size_problem(rows[s].frame, metadata) for s in held_out.label}
        return {s: f"{trial.modality}: {problem}" for s, problem in problems.items() if problem}


def _classification_sets(
    trial: Trial, inputs: TrialInputs, fold: FoldSubjects, store: SliceStore, device: str
) -> tuple[SliceSet, SliceSet]:
    """Load a classifier's slices with the tumours that its segmentations predict."""
    folder, cohort, train = inputs.folder, inputs.cohort, fold.training
    for need in trial.needs:
        if folder.outcome(need.id).diverged:
            raise Diverged(f"there are no masks, as the segmentation {need.id} diverged.", epoch=1)
    fold_segmenter, *cross_fitted = (load_segmenter(need, folder, device) for need in trial.needs)
    _check_mask_leakage(trial, folder, train, cohort)
    by_subject = _segmenter_by_subject(trial, train, cohort, fold_segmenter, cross_fitted)
    held_out = dict.fromkeys(fold.validation, fold_segmenter)
    settings = (fold_segmenter, fold.label, device)
    return (
        slices_to_classify(store, by_subject, *settings, ANGLES_DEGREES),
        slices_to_classify(store, held_out, *settings),
    )


def _slice_tables(
    trial: Trial,
    training: SliceSet,
    validation: SliceSet,
    columns: Mapping[str, list[float]],
    network: Network,
) -> dict[str, pd.DataFrame]:
    """Return a row per unrotated training slice and per validation slice, by split.

    A segmentation's have pixels and Dice, a classifier's probabilities too.

    Args:
        columns: the selected epoch's predictions of the validation slices, by name.
        network: with the weights of that epoch.
    """
    task = make_task(network, training.data, trial.training_config)
    training = training.originals()
    _, predictions = task.validation(task.predict(network, training.data, seed=0), training.data)
    parts = {"train": (training, predictions.columns), "validation": (validation, columns)}
    if trial.is_classifier:
        return {
            split: classified_slices(trial, split, slices, values["probability"])
            for split, (slices, values) in parts.items()
        }
    return {
        split: _with_overlap(slice_table(trial, split, slices), values)
        for split, (slices, values) in parts.items()
    }


def _segmented_scans(
    trial: Trial, store: SliceStore, segmenter: Segmenter, slices: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """Segment each training and validation scan with the selected weights; one row per scan."""
    rows = [
        row
        for split, table in slices.items()
        for row, _ in measure_scans(trial, segmenter, store, [*table["subject"].unique()], split)
    ]
    return pd.DataFrame(rows)


def classified_slices(
    trial: Trial, split: str, slices: SliceSet, probability: Sequence[float]
) -> pd.DataFrame:
    """Return a row per slice: probability and label of methylation, and overlap of its tumour.

    Pixels and Dice that need a given mask are missing where there is none.
    """
    table = slice_table(trial, split, slices)
    table["probability"] = probability
    table["label"] = slices.data.labels.int().tolist()
    assert slices.overlap is not None
    table = _with_overlap(table, slices.overlap.columns)
    if slices.annotated.all():
        return table
    table = table.astype({"shared_pixels": "Int64", "tumour_pixels": "Int64"})
    for name in ("shared_pixels", "tumour_pixels", "dice"):
        table[name] = table[name].where(slices.annotated)
    return table


def slice_table(trial: Trial, split: str, slices: SliceSet) -> pd.DataFrame:
    """Return the first columns of a table of slices."""
    columns: dict[str, Any] = {
        "subject": slices.data.subjects,
        "depth": slices.depths.tolist(),
        "split": split,
        **trial.identity,
    }
    return pd.DataFrame(columns)


def _with_overlap(table: pd.DataFrame, columns: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    integers = {name: "int64" for name in columns if name.endswith("_pixels")}
    return table.assign(**columns).astype(integers)


def average_by_patient(
    trial: Trial, slices: pd.DataFrame, checksum: str, prior: float
) -> pd.DataFrame:
    """Average probabilities over each patient's slices; patients in the order of the slices."""
    patients = slices.groupby("subject", sort=False).agg({"probability": "mean", "label": "first"})
    model = trial.identity | {"weights_sha256": checksum, "prior": prior}
    columns = (patients[name].tolist() for name in ("probability", "label"))
    return prediction_rows(model, slices["split"].iloc[0], patients.index.tolist(), *columns)


def _inner_folds(trial: Trial, train: Sequence[str], cohort: Cohort) -> tuple[tuple[str, ...], ...]:
    assert trial.inner_folds is not None
    person = {subject.id: subject.person for subject in cohort.subjects}
    return make_inner_folds(train, person, trial.inner_folds.number, trial.inner_folds.seed)


def _segmenter_by_subject(
    trial: Trial,
    train: Sequence[str],
    cohort: Cohort,
    fold_segmenter: Segmenter,
    cross_fitted: Sequence[Segmenter],
) -> dict[str, Segmenter]:
    """Return the segmentation that predicts the tumour of each training subject."""
    if trial.inner_folds is None:
        return dict.fromkeys(train, fold_segmenter)
    inner_folds = _inner_folds(trial, train, cohort)
    segmenter_of = {
        subject: segmenter
        for inner_fold, segmenter in zip(inner_folds, cross_fitted, strict=True)
        for subject in inner_fold
    }
    return {subject: segmenter_of[subject] for subject in train}


def _check_mask_leakage(
    trial: Trial, folder: StudyFolder, train: Sequence[str], cohort: Cohort
) -> None:
    """Raise MgmtError if a segmentation was trained on persons whose masks it would predict."""
    if trial.inner_folds is None:
        return
    person = {subject.id: subject.person for subject in cohort.subjects}
    leaked: list[str] = []
    inner_folds = _inner_folds(trial, train, cohort)
    for need, inner_fold in zip(trial.needs[1:], inner_folds, strict=True):
        metadata = folder.read_trial(need.id)
        histogram_ids = metadata["standard_histogram"]["learnt_from"]
        trained = {*metadata["persons"]["trained"], *(person[id_] for id_ in histogram_ids)}
        leaked += [subject for subject in inner_fold if person[subject] in trained]
    if leaked:
        raise MgmtError(
            f"trial {trial.id}: masks of {', '.join(leaked[:5])} would come from a network that "
            "was trained on the same persons. Delete the segmentations' folders and rerun the "
            "study."
        )
