"""Overlap and time of slice segmentations: tables 2 and 3 of Chen et al. 2020."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int
from scipy.ndimage import binary_erosion, distance_transform_edt, find_objects

from mgmt_ray.statistics.intervals import (
    PerResample,
    bootstrap_weights,
    defined_interval,
    interval_columns,
    mean_over_models,
    std_over_models,
)

SEGMENTATION_COLUMNS: tuple[str, ...] = (
    *("network", "modality", "outer_fold", "fold", "trial", "subject", "split", "num_slices"),
    "predicted_voxels",
    *("dice_slices", "dice_patient", "dice_volume", "hd95_mm"),
    *("segmented_slices", "seconds", "device"),
)
"""Columns of ``segmentations.csv``, which has one row per segmentation and patient.

``num_slices`` counts slices through the given tumour; ``dice_slices`` is the mean of their Dice,
``dice_patient`` the Dice of their pixels together; ``dice_volume``, ``hd95_mm`` and
``predicted_voxels`` are of the whole scan. Dice and HD95 are NaN without a given tumour.
"""

OVERLAP_COLUMNS: tuple[str, ...] = (
    *("network", "modality", "phase", "measure"),
    *("num_splits", "num_models", "num_patients", "num_slices", "num_empty"),
    *("value", "value_low", "value_high", "std"),
)
SECONDS_COLUMNS: tuple[str, ...] = (
    *("network", "modality", "device", "num_models", "num_patients", "num_slices"),
    *("seconds", "seconds_least", "seconds_most"),
)

PERCENTILE = 95

RESAMPLED_PHASES = ("test", "external")
"""Phases whose patients no model was trained or chosen on, so that a bootstrap is valid."""

_Weights = Int[np.ndarray, "resample patient"]
_Average = Callable[[pd.DataFrame, _Weights], PerResample]


@dataclass(frozen=True, slots=True, eq=False)
class PatientResamples:
    """How often each patient is drawn in each resample; the first row is the sample itself."""

    patients: pd.Index[str]
    weights: _Weights

    def columns(self, rows: pd.DataFrame) -> Int[np.ndarray, " row"]:
        """Return the column of ``weights`` that each row's patient has."""
        return self.patients.get_indexer(pd.Index(rows["subject"]))


def resample_patients(labels: pd.Series[int], phase: str, seed: int) -> PatientResamples:
    """Resample patients, stratified by their labels; only those of :data:`RESAMPLED_PHASES` are."""
    labels = labels.sort_index()
    weights = np.ones((1, len(labels)), dtype=np.int64)
    if phase in RESAMPLED_PHASES:
        resamples = bootstrap_weights(labels.to_numpy(np.int64), seed)
        weights = np.concatenate([weights, resamples])
    return PatientResamples(labels.index, weights)


def _over_slices(rows: pd.DataFrame, weights: _Weights) -> PerResample:
    """Average Dice over slices, from each patient's mean over its slices."""
    dice = rows["dice_slices"].where(rows["num_slices"] > 0, 0.0)
    return _weighted_mean(dice, weights * rows["num_slices"].to_numpy(np.int64))


def _mean_of(column: str) -> _Average:
    return lambda rows, weights: _weighted_mean(rows[column], weights)


def _weighted_mean(values: pd.Series[float], weights: _Weights) -> PerResample:
    total = weights.sum(axis=1)
    mean: np.ndarray = np.divide(
        weights @ values.to_numpy(np.float64),
        total,
        out=np.full(len(weights), np.nan),
        where=total > 0,
    )
    return mean


def _median_hd95(rows: pd.DataFrame, weights: _Weights) -> PerResample:
    """Return the weighted median: the mean of the middle two where their number is even."""
    order = np.argsort(rows["hd95_mm"].to_numpy(np.float64), kind="stable")
    values = rows["hd95_mm"].to_numpy(np.float64)[order]
    cumulative = np.cumsum(weights[:, order], axis=1)
    total = cumulative[:, -1]
    ranks = [(total + 1) // 2, total // 2 + 1]
    lower, upper = (
        values[np.minimum((cumulative < r[:, None]).sum(axis=1), len(values) - 1)] for r in ranks
    )
    return np.where(total > 0, (lower + upper) / 2, np.nan)


MEASURES: dict[str, _Average] = {
    "dice_slices": _over_slices,
    "dice_patient": _mean_of("dice_patient"),
    "dice_volume": _mean_of("dice_volume"),
    "hd95_mm": _mean_of("hd95_mm"),
    "hd95_mm_median": _median_hd95,
}
"""Averages over a model's patients, from its rows and the weights of their patients."""


def slice_overlap_table(segmentations: pd.DataFrame, seed: int = 42) -> pd.DataFrame:
    """Return Dice and HD95 of all folds' segmentations, by network, modality and phase.

    A model's number is the mean over its patients (for ``dice_slices`` over all their slices, for
    ``hd95_mm_median`` the median); ``value`` is the mean over the models of an outer split, then
    over splits, and ``std`` the standard deviation of :func:`std_over_models`. The interval
    of test and external patients is the percentile interval of a cluster bootstrap: patients are
    drawn with all their slices, the same ones for all models. Training and validation have none,
    since their patients differ from fold to fold.

    ``num_empty`` counts a patient's segmentations that predict no tumour at all: their Dice is 0
    and their HD95 the grid's diagonal (see :func:`hd95`), which affects the mean much more than the
    median.

    Args:
        segmentations: :data:`SEGMENTATION_COLUMNS`; patients without a given tumour are omitted.

    Returns:
        :data:`OVERLAP_COLUMNS`, one row per network, modality, phase and key of :data:`MEASURES`.
    """
    given = segmentations[segmentations["dice_volume"].notna()]
    rows = []
    for (network, modality, phase), part in given.groupby(
        ["network", "modality", "split"], sort=False
    ):
        counts = {
            "num_splits": part["outer_fold"].nunique(),
            "num_models": part["trial"].nunique(),
            "num_patients": part["subject"].nunique(),
            "num_slices": int(part.groupby("subject")["num_slices"].max().sum()),
            "num_empty": int((part["predicted_voxels"] == 0).sum()),
        }
        key = {"network": network, "modality": modality, "phase": phase}
        rows += [
            {**key, "measure": name, **counts, **columns}
            for name, columns in _measure_columns(part, str(phase), seed)
        ]
    return pd.DataFrame(rows, columns=list(OVERLAP_COLUMNS))


def _measure_columns(
    part: pd.DataFrame, phase: str, seed: int
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the columns of each measure, for one network, modality and phase."""
    drawn = resample_patients(pd.Series(0, part["subject"].unique()), phase, seed)
    models = [model.sort_values("subject") for _, model in part.groupby("trial", sort=False)]
    outers = np.array([int(model["outer_fold"].iloc[0]) for model in models])
    weights = [drawn.weights[:, drawn.columns(model)] for model in models]
    for name, average in MEASURES.items():
        values = np.stack([average(m, w) for m, w in zip(models, weights, strict=True)])
        interval = defined_interval(mean_over_models(values, outers))
        std = std_over_models(values[:, 0], outers)
        yield name, interval_columns({"value": interval}) | {"std": std}


def slice_seconds_table(segmentations: pd.DataFrame) -> pd.DataFrame:
    """Return the seconds per segmented slice, by network, modality and device.

    A patient's value is the time of all slices through the brain divided by their number, as a
    median over the models that segmented them; ``seconds`` is the median over patients, with
    ``seconds_least`` and ``seconds_most``. ``num_slices`` is the sum over patients.
    """
    timed = segmentations[segmentations["segmented_slices"] > 0]
    timed = timed.assign(per_slice=timed["seconds"] / timed["segmented_slices"])
    rows = []
    for key, part in timed.groupby(["network", "modality", "device"], sort=False):
        by_patient = part.groupby("subject")
        seconds = by_patient["per_slice"].median()
        num_slices = by_patient["segmented_slices"].max().sum()
        counts = (part["trial"].nunique(), len(seconds), num_slices)
        rows.append((*key, *counts, seconds.median(), seconds.min(), seconds.max()))
    return pd.DataFrame(rows, columns=list(SECONDS_COLUMNS))


def patient_overlap(segmentations: pd.DataFrame) -> pd.DataFrame:
    """Return each held-out patient's 3-D Dice and HD95, averaged over models.

    Args:
        segmentations: :data:`SEGMENTATION_COLUMNS`; training and validation patients, and patients
            without a given tumour, are omitted.

    Returns:
        Columns network, modality, subject, dice_volume, dice_least, dice_most (of single models),
        hd95_mm and num_models.
    """
    held_out = segmentations["split"].isin(RESAMPLED_PHASES) & segmentations["dice_volume"].notna()
    grouped = segmentations[held_out].groupby(["network", "modality", "subject"], sort=False)
    return grouped.agg(
        dice_volume=("dice_volume", "mean"),
        dice_least=("dice_volume", "min"),
        dice_most=("dice_volume", "max"),
        hd95_mm=("hd95_mm", "mean"),
        num_models=("trial", "nunique"),
    ).reset_index()


def hd95(
    predicted: Bool[np.ndarray, "*grid"],
    truth: Bool[np.ndarray, "*grid"],
    spacing_mm: tuple[float, ...],
) -> float:
    """Return the 95th percentile of the Hausdorff distance in mm, the larger of both directions.

    The surface is the mask's pixels with a face to the outside or on the grid's border, distances
    are between pixel centres, as in ``monai.metrics``. Where both masks are empty it is 0. Where
    one is, it is the grid's diagonal, the largest possible distance, as in BraTS (373.13 mm for its
    240 × 240 × 155). Both masks are on one grid, of a slice or a volume.

    >>> truth, predicted = np.zeros((8, 8), dtype=bool), np.zeros((8, 8), dtype=bool)
    >>> truth[2:5, 2:5] = True
    >>> predicted[2:5, 3:6] = True
    >>> hd95(predicted, truth, spacing_mm=(1.0, 2.0))
    2.0
    """
    assert len(spacing_mm) == truth.ndim, f"{len(spacing_mm)} spacings for {truth.ndim} axes"
    if not predicted.any() and not truth.any():
        return 0.0
    if not predicted.any() or not truth.any():
        return float(np.linalg.norm(np.multiply(truth.shape, spacing_mm)))
    (box,) = find_objects((predicted | truth).astype(np.uint8))
    surfaces = [mask[box] & ~binary_erosion(mask[box]) for mask in (predicted, truth)]
    distances = [distance_transform_edt(~surface, sampling=spacing_mm) for surface in surfaces]
    directed = (distances[1][surfaces[0]], distances[0][surfaces[1]])
    return float(max(np.percentile(one_way, PERCENTILE) for one_way in directed))
