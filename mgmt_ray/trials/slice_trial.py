"""A trial of the two-stage pipeline: what it trains on, and what it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.nets.build import AnyNetwork, SegmentationConfig
from mgmt_ray.nets.myronenko import SegmentationNetwork
from mgmt_ray.preprocess.histogram_matching import StandardHistogram
from mgmt_ray.selection.predictions import PREDICTION_COLUMNS
from mgmt_ray.splits.draw import make_inner_folds
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.trial import Trial
from mgmt_ray.training.dataset import VolumeSet
from mgmt_ray.training.loop import Diverged
from mgmt_ray.training.make_task import make_task
from mgmt_ray.trials.segmentation_quality import measure_scans
from mgmt_ray.trials.segmenter import Segmenter, load_segmenter
from mgmt_ray.trials.slice_data import (
    SliceRows,
    SliceSets,
    classification_sets,
    open_slices,
    segmentation_sets,
)
from mgmt_ray.trials.trial_folder import Tables


def exclude_inner_fold(trial: Trial, train: Sequence[str], cohort: Cohort) -> tuple[str, ...]:
    """Those of a fold's training subjects that a trial trains on."""
    if trial.inner_fold is None:
        return tuple(train)
    left_out = {*_inner_folds(trial, train, cohort)[trial.inner_fold]}
    return tuple(subject for subject in train if subject not in left_out)


def load_slices(
    trial: Trial,
    folder: StudyFolder,
    cohort: Cohort,
    fold_ids: tuple[Sequence[str], Sequence[str]],
    label: Mapping[str, int],
    device: str,
) -> SliceSets:
    """Training and validation slices.

    Args:
        trial: of either stage; those that it needs are finished.
        folder: the study's.
        cohort: its subjects.
        fold_ids: ids of the fold that train and that validate.
        label: by subject.
        device: as torch names it.

    Raises:
        Diverged: a segmentation that the trial needs has.
    """
    train, validation = fold_ids
    store = open_slices(folder.slices, trial)
    if isinstance(trial.network_config, SegmentationConfig):
        return segmentation_sets(
            store, exclude_inner_fold(trial, train, cohort), validation, device
        )
    for need in trial.needs:
        if folder.has_diverged(need.id):
            raise Diverged(f"its segmentation {need.id} diverged, so it has no masks.", epoch=1)
    own, *cross_fitted = (load_segmenter(need, folder, device) for need in trial.needs)
    _check_mask_leakage(trial, folder, train, cohort)
    by_subject = _segmenter_by_subject(trial, train, cohort, own, cross_fitted)
    return classification_sets(store, by_subject, validation, own, label, device)


def slice_tables(
    trial: Trial,
    sets: SliceSets,
    columns: Mapping[str, list[float]],
    network: AnyNetwork,
    prior: float | None,
    checksum: str,
) -> Tables:
    """A row per slice that validates, and per unturned slice that trains.

    Of a segmentation pixels and Dice, and of one that leaves out nobody ``segmentations.csv`` with
    a row per scan; of a classifier probabilities too, and ``validation.csv`` with their means by
    patient.

    Args:
        trial: of either stage.
        sets: its own.
        columns: what the kept epoch said of the validation slices.
        network: with the weights of that epoch.
        prior: of a classifier.
        checksum: of the weights.
    """
    task = make_task(network, sets.training, trial.training_config)
    trained = sets.training.select(sets.training_rows.rows)
    _, said = task.validation(task.predict(network, trained, seed=0), trained)
    parts = {
        "train": (trained, sets.training_rows, said.columns),
        "validation": (sets.validation, sets.validation_rows, columns),
    }
    tables: dict[str, pd.DataFrame] = {}
    for split, (data, rows, own) in parts.items():
        if trial.is_classifier:
            table = classified_slices(trial, split, data, rows, own["probability"])
        else:
            table = _with_overlap(slice_table(trial, split, data.subjects, rows), own)
        tables[f"slice_{split}.csv"] = table
    if isinstance(network, SegmentationNetwork) and trial.inner_fold is None:
        tables["segmentations.csv"] = _segmented_scans(trial, sets, network)
    if prior is not None:
        patients = average_by_patient(trial, tables["slice_validation.csv"], checksum, prior)
        tables["validation.csv"] = patients
    return {name: _rows(table) for name, table in tables.items()}


def _segmented_scans(trial: Trial, sets: SliceSets, network: SegmentationNetwork) -> pd.DataFrame:
    """A row per scan that trained or validated, segmented whole with the kept weights."""
    standard = StandardHistogram.from_json(sets.metadata["standard_histogram"])
    segmenter = Segmenter(network.eval(), standard, trial.training_config.precision)
    whose = {"train": sets.training.subjects, "validation": sets.validation.subjects}
    rows = [
        row
        for split, subjects in whose.items()
        for row, _ in measure_scans(trial, segmenter, sets.store, [*dict.fromkeys(subjects)], split)
    ]
    return pd.DataFrame(rows)


def classified_slices(
    trial: Trial, split: str, data: VolumeSet, rows: SliceRows, probability: Sequence[float]
) -> pd.DataFrame:
    """A row per slice: probability and label of methylation, and how well its tumour was found.

    Where nobody outlined the tumour, what follows from an outline is missing.
    """
    table = slice_table(trial, split, data.subjects, rows)
    table["probability"] = probability
    table["label"] = data.labels.int().tolist()
    assert rows.overlap is not None
    table = _with_overlap(table, rows.overlap.columns)
    if rows.annotated.all():
        return table
    table = table.astype({"shared_pixels": "Int64", "tumour_pixels": "Int64"})
    for name in ("shared_pixels", "tumour_pixels", "dice"):
        table[name] = table[name].where(rows.annotated)
    return table


def slice_table(trial: Trial, split: str, subjects: Sequence[str], rows: SliceRows) -> pd.DataFrame:
    """The first columns of a table of slices."""
    columns: dict[str, Any] = {
        "subject": subjects,
        "depth": rows.depths.tolist(),
        "split": split,
        "outer_fold": trial.outer_fold,
        "fold": trial.fold,
        "network": trial.network,
        "modality": trial.modality,
        "trial": trial.id,
    }
    return pd.DataFrame(columns)


def _with_overlap(table: pd.DataFrame, columns: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    whole = {name: "int64" for name in columns if name.endswith("_pixels")}
    return table.assign(**columns).astype(whole)


def average_by_patient(
    trial: Trial, slices: pd.DataFrame, checksum: str, prior: float
) -> pd.DataFrame:
    """Mean probability over each patient's slices, in the order of the patients' first slices."""
    kept = slices.groupby("subject", sort=False).agg(
        {"split": "first", "probability": "mean", "label": "first"}
    )
    table = kept.reset_index().assign(
        outer_fold=trial.outer_fold,
        fold=trial.fold,
        network=trial.network,
        modality=trial.modality,
        trial=trial.id,
        probability_std=0.0,
        weights_sha256=checksum,
        prior=prior,
    )
    return table[list(PREDICTION_COLUMNS)]


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _inner_folds(trial: Trial, train: Sequence[str], cohort: Cohort) -> tuple[tuple[str, ...], ...]:
    assert trial.inner_folds is not None
    person = {subject.id: subject.person for subject in cohort.subjects}
    return make_inner_folds(train, person, trial.inner_folds.number, trial.inner_folds.seed)


def _segmenter_by_subject(
    trial: Trial,
    train: Sequence[str],
    cohort: Cohort,
    own: Segmenter,
    cross_fitted: Sequence[Segmenter],
) -> dict[str, Segmenter]:
    """Whose network predicts the tumour of each training subject."""
    if trial.inner_folds is None:
        return dict.fromkeys(train, own)
    parts = _inner_folds(trial, train, cohort)
    predicts = {
        subject: segmenter
        for part, segmenter in zip(parts, cross_fitted, strict=True)
        for subject in part
    }
    return {subject: predicts[subject] for subject in train}


def _check_mask_leakage(
    trial: Trial, folder: StudyFolder, train: Sequence[str], cohort: Cohort
) -> None:
    """Raise MgmtError if a part's network has trained on a person whose masks it would predict."""
    if trial.inner_folds is None:
        return
    person = {subject.id: subject.person for subject in cohort.subjects}
    learnt: list[str] = []
    for need, part in zip(trial.needs[1:], _inner_folds(trial, train, cohort), strict=True):
        metadata = folder.read_trial(need.id)
        by_id = (person[subject] for subject in metadata["standard_histogram"]["learnt_from"])
        trained = {*metadata["persons"]["trained"], *by_id}
        learnt += [subject for subject in part if person[subject] in trained]
    if learnt:
        raise MgmtError(
            f"trial {trial.id}: masks of {', '.join(learnt[:5])} would come from a network that "
            "trained on the same persons. Delete the segmentations' folders and run the study "
            "again."
        )
