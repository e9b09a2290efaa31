"""Accuracy, recall, precision, F1 and AUC of slices and patients, bootstrapped over patients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from mgmt_ray.statistics.intervals import PerResample
from mgmt_ray.statistics.slice_overlap import PatientResamples, resample_patients
from mgmt_ray.training.metrics import auc, count_correct

SLICE_COLUMNS: tuple[str, ...] = (
    *("subject", "depth", "split", "outer_fold", "fold", "network", "modality", "trial"),
    *("probability", "label"),
)
"""Columns of a table of slice predictions, which has one row per model and slice."""

SLICE_METRICS: dict[str, str] = {
    "accuracy": "Accuracy",
    "recall": "Recall",
    "precision": "Precision",
    "f1": "F1",
    "auc": "AUC",
}
LEVELS = ("slice", "patient")
MAX_BLOCK_SIZE = 4_000_000
"""Weights of resampled rows in memory at once: 32 MB, a few times that while AUC is computed."""

Scores = Mapping[str, PerResample]


def resample_by_label(rows: pd.DataFrame, phase: str, seed: int) -> PatientResamples:
    """Resample the patients of a phase's :data:`SLICE_COLUMNS`, stratified by label."""
    label = rows.drop_duplicates("subject").set_index("subject")["label"]
    return resample_patients(label, phase, seed)


def score_model(rows: pd.DataFrame, drawn: PatientResamples) -> Scores:
    """Score one model; each of a patient's rows is drawn as often as the patient."""
    columns = drawn.columns(rows)
    labels = rows["label"].to_numpy(np.int64)
    probabilities = rows["probability"].to_numpy(np.float64)
    num_blocks = 1 + len(drawn.weights) * len(rows) // MAX_BLOCK_SIZE
    parts = [
        classification_scores(labels, probabilities, block[:, columns])
        for block in np.array_split(drawn.weights, num_blocks)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in SLICE_METRICS}


def classification_scores(
    labels: Int[np.ndarray, " row"],
    probabilities: Float[np.ndarray, " row"],
    weights: Int[np.ndarray, "resample row"],
) -> Scores:
    """Return the metrics of :data:`SLICE_METRICS` at threshold 0.5, methylated being positive.

    Eq. 3 of Chen et al. 2020. NaN where a metric is not defined: recall without a methylated row,
    precision where none is called methylated, AUC where a class is missing. F1 is
    2·TP / (2·TP + FP + FN), the same as the paper's where that is defined, and 0 where none is
    called methylated although some are.

    >>> labels, p = np.array([1, 1, 0, 0]), np.array([0.9, 0.4, 0.6, 0.2])
    >>> scores = classification_scores(labels, p, np.ones((1, 4), dtype=int))
    >>> scores["accuracy"], scores["auc"]
    (array([0.5]), array([0.75]))
    """
    true_positives, positives = count_correct(labels, probabilities, weights, label=1)
    true_negatives, negatives = count_correct(labels, probabilities, weights, label=0)
    false_positives = negatives - true_negatives
    called = true_positives + false_positives
    return {
        "accuracy": _ratio(true_positives + true_negatives, positives + negatives),
        "recall": _ratio(true_positives, positives),
        "precision": _ratio(true_positives, called),
        "f1": _ratio(2 * true_positives, called + positives),
        "auc": auc(labels, probabilities, weights),
    }


def score_levels(slices: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows by slice, and rows by patient with the mean probability over its slices.

    Tables of :data:`SLICE_COLUMNS` by :data:`LEVELS`; rows of patients have the depth -1.
    """
    keys = ["trial", "subject"]
    means = slices.groupby(keys, sort=False)["probability"].mean()
    first = slices.drop_duplicates(keys).drop(columns="probability")
    return {"slice": slices, "patient": first.assign(depth=-1).join(means, on=keys)}


def _ratio(part: Int[np.ndarray, " resample"], whole: Int[np.ndarray, " resample"]) -> PerResample:
    ratio: np.ndarray = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return ratio
