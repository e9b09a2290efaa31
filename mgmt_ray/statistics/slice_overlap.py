"""How well slices were segmented, and how fast: tables 2 and 3 of Chen et al. 2020."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.ndimage import binary_erosion, distance_transform_edt

from mgmt_ray.statistics.intervals import (
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
"""Of ``segmentations.csv``, a row per segmentation and patient.

``num_slices`` are those through the given tumour; ``dice_slices`` is the mean of their Dice,
``dice_patient`` that of their pixels together, ``dice_volume`` and ``hd95_mm`` are of the whole
scan, and so is ``predicted_voxels``. What compares is missing for a patient without a given tumour.
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

RESAMPLED_PHASES = ("test", "external")
"""Patients whom no model was trained or chosen by, so that their resamples give an interval."""

_Weights = Int[np.ndarray, "resample patient"]
_Average = Callable[[pd.DataFrame, _Weights], Float[np.ndarray, " resample"]]


@dataclass(frozen=True, slots=True)
class Measure:
    """A number of each patient, and how a model's patients make one.

    Attributes:
        column: of ``segmentations.csv``.
        average: of one model's patients, in the order of the weights' columns.
    """

    column: str
    average: _Average


def _over_slices(rows: pd.DataFrame, weights: _Weights) -> Float[np.ndarray, " resample"]:
    """Mean over slices of a number that each row has the mean of."""
    known = rows["dice_slices"].where(rows["num_slices"] > 0, 0.0)
    return _weighted_mean(known, weights * rows["num_slices"].to_numpy(np.int64))


def _mean_of(column: str) -> _Average:
    return lambda rows, weights: _weighted_mean(rows[column], weights)


def _weighted_mean(values: pd.Series[float], weights: _Weights) -> Float[np.ndarray, " resample"]:
    total = weights.sum(axis=1)
    mean: np.ndarray = np.divide(
        weights @ values.to_numpy(np.float64),
        total,
        out=np.full(len(weights), np.nan),
        where=total > 0,
    )
    return mean


def _median_hd95(rows: pd.DataFrame, weights: _Weights) -> Float[np.ndarray, " resample"]:
    """Weighted median: the mean of the two in the middle where their number is even."""
    order = np.argsort(rows["hd95_mm"].to_numpy(np.float64), kind="stable")
    values = rows["hd95_mm"].to_numpy(np.float64)[order]
    reached = np.cumsum(weights[:, order], axis=1)
    total = reached[:, -1]
    middles = [(total + 1) // 2, total // 2 + 1]
    found = [
        values[np.minimum((reached < m[:, None]).sum(axis=1), len(values) - 1)] for m in middles
    ]
    return np.where(total > 0, (found[0] + found[1]) / 2, np.nan)


MEASURES: dict[str, Measure] = {
    "dice_slices": Measure("dice_slices", _over_slices),
    "dice_patient": Measure("dice_patient", _mean_of("dice_patient")),
    "dice_volume": Measure("dice_volume", _mean_of("dice_volume")),
    "hd95_mm": Measure("hd95_mm", _mean_of("hd95_mm")),
    "hd95_mm_median": Measure("hd95_mm", _median_hd95),
}


def slice_overlap_table(segmentations: pd.DataFrame, seed: int = 42) -> pd.DataFrame:
    """Dice and HD95 of the folds' own segmentations, by network, modality and phase.

    A model's number is the mean over its patients (of ``dice_slices`` over all their slices, of
    ``hd95_mm_median`` the median); ``value`` is the mean over the models of an outer split, then
    over splits, and ``deviation`` as of :func:`std_over_models`. The interval of test and
    external patients is the percentile interval of a cluster bootstrap: patients are drawn with all
    their slices, the same ones for all models. It is missing for training and validation, whose
    patients differ from fold to fold.

    ``num_empty`` counts segmentations of a patient that predict no tumour at all: its Dice is 0 and
    its HD95 the grid's diagonal (see :func:`.surface_distance.hd95`), which moves the mean far, and
    the median hardly.

    Args:
        segmentations: :data:`SEGMENTATION_COLUMNS`; patients without a given tumour are left out.
        seed: of the bootstrap.

    Returns:
        :data:`OVERLAP_COLUMNS`, a row per network, modality, phase and :data:`MEASURES`.
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
    """Columns of each measure of one network, modality and phase."""
    patients = pd.Index(sorted(part["subject"].unique()))
    models = [own.sort_values("subject") for _, own in part.groupby("trial", sort=False)]
    outers = np.array([int(own["outer_fold"].iloc[0]) for own in models])
    weights = np.zeros((0, len(patients)), dtype=np.int64)
    if phase in RESAMPLED_PHASES:
        everybody = np.zeros(len(patients), dtype=np.int64)
        weights = bootstrap_weights(everybody, seed, stratified=False)
    # the first row is of the patients themselves
    weights = np.concatenate([np.ones((1, len(patients)), dtype=np.int64), weights])
    drawn = [weights[:, patients.get_indexer(pd.Index(own["subject"]))] for own in models]
    for name, measure in MEASURES.items():
        values = np.stack([measure.average(m, w) for m, w in zip(models, drawn, strict=True)])
        means = mean_over_models(values, outers)
        interval = defined_interval(float(means[0]), means[1:])
        deviation = std_over_models(values[:, 0], outers)
        yield name, interval_columns({"value": interval}) | {"std": deviation}


def slice_seconds_table(segmentations: pd.DataFrame) -> pd.DataFrame:
    """Seconds that a slice's segmentation takes, by network, modality and device.

    A patient's number is the seconds of all slices through the brain divided by their number, the
    median over the models that segmented them; ``seconds`` is the median over patients, beside the
    least and the most.

    Args:
        segmentations: :data:`SEGMENTATION_COLUMNS`.

    Returns:
        :data:`SECONDS_COLUMNS`; ``num_slices`` are those of a patient, added up over patients.
    """
    timed = segmentations[segmentations["segmented_slices"] > 0]
    timed = timed.assign(per_slice=timed["seconds"] / timed["segmented_slices"])
    rows = []
    for key, part in timed.groupby(["network", "modality", "device"], sort=False):
        by_patient = part.groupby("subject")
        seconds = by_patient["per_slice"].median()
        numbers = (
            part["trial"].nunique(),
            len(seconds),
            by_patient["segmented_slices"].max().sum(),
        )
        rows.append((*key, *numbers, seconds.median(), seconds.min(), seconds.max()))
    return pd.DataFrame(rows, columns=list(SECONDS_COLUMNS))


def patient_overlap(segmentations: pd.DataFrame) -> pd.DataFrame:
    """Each unseen patient's 3-D Dice and HD95, mean over the models that segmented it.

    Args:
        segmentations: :data:`SEGMENTATION_COLUMNS`; patients without a given tumour, and those that
            models were trained or chosen by, are left out.

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


PERCENTILE = 95


def hd95(
    predicted: Bool[np.ndarray, "*grid"],
    truth: Bool[np.ndarray, "*grid"],
    spacing_mm: tuple[float, ...],
) -> float:
    """95th percentile of the Hausdorff distance: the larger of the two directed percentiles.

    The surface is the mask's pixels with a face on the outside or on the grid's border, distances
    are between pixels' centres, as in ``monai.metrics``. Where both masks are empty it is 0. Where
    one is, it is the grid's diagonal, the largest distance there could be, as in BraTS (373.13 mm
    for its 240 × 240 × 155).

    Args:
        predicted: of a slice or a volume.
        truth: of the same.
        spacing_mm: distance between pixels along each axis.
    """
    assert len(spacing_mm) == truth.ndim, f"{len(spacing_mm)} spacings for {truth.ndim} axes"
    if not predicted.any() and not truth.any():
        return 0.0
    if not predicted.any() or not truth.any():
        return float(np.linalg.norm(np.multiply(truth.shape, spacing_mm)))
    box = _box(predicted | truth)
    surfaces = [mask[box] & ~binary_erosion(mask[box]) for mask in (predicted, truth)]
    away = [distance_transform_edt(~surface, sampling=spacing_mm) for surface in surfaces]
    directed = (away[1][surfaces[0]], away[0][surfaces[1]])
    return float(max(np.percentile(distances, PERCENTILE) for distances in directed))


def _box(mask: Bool[np.ndarray, "*grid"]) -> tuple[slice, ...]:
    """The smallest box around a mask, which holds every nearest surface."""
    return tuple(slice(where.min(), where.max() + 1) for where in np.nonzero(mask))
