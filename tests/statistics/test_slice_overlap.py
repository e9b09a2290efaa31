from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from monai.metrics import compute_hausdorff_distance
from scipy.ndimage import gaussian_filter

from mgmt_ray.base import stream
from mgmt_ray.statistics.slice_overlap import (
    MEASURES,
    OVERLAP_COLUMNS,
    SECONDS_COLUMNS,
    SEGMENTATION_COLUMNS,
    hd95,
    slice_overlap_table,
    slice_seconds_table,
)
from tests.statistics.conftest import row_of


def segmentation(subject: str, fold: int, dice: float, **others: object) -> dict[str, Any]:
    """One patient by one fold's segmentation, with the same Dice of every kind."""
    outer = others.get("outer_fold", 0)
    known: dict[str, Any] = {
        "network": "chen",
        "modality": "FLAIR",
        "outer_fold": 0,
        "fold": fold,
        "trial": f"seg{fold}_{outer}",
        "subject": subject,
        "split": "test",
        "num_slices": 1,
        "predicted_voxels": 100,
        "dice_slices": dice,
        "dice_patient": dice,
        "dice_volume": dice,
        "hd95_mm": 1.0,
        "segmented_slices": 10,
        "seconds": 1.0,
        "device": "some CPU",
    }
    assert list(known) == list(SEGMENTATION_COLUMNS)
    return known | others


def table_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return slice_overlap_table(pd.DataFrame(rows))


def test_mean_and_deviation_are_over_folds() -> None:
    folds = {0: (0.7, 0.9), 1: (0.8, 1.0), 2: (1.0, 1.0)}  # means 0.8, 0.9, 1.0
    rows = [segmentation(f"S{i}", f, d) for f, both in folds.items() for i, d in enumerate(both)]
    table = table_of(rows)
    assert list(table.columns) == list(OVERLAP_COLUMNS)
    assert list(table["measure"]) == list(MEASURES)
    row = row_of(table, measure="dice_volume")
    assert row["value"] == pytest.approx(0.9) and row["std"] == pytest.approx(0.1)
    assert (row["num_models"], row["num_patients"], row["num_slices"]) == (3, 2, 2)
    # both patients have a mean of 0.833 and 0.967 over folds, so resamples lie between these
    assert row["value_low"] == pytest.approx(2.5 / 3)
    assert row["value_high"] == pytest.approx(2.9 / 3)


def test_a_patient_counts_once_and_in_dice_per_slice_as_often_as_it_has_slices() -> None:
    table = table_of([segmentation("A", 0, 1.0), segmentation("B", 0, 0.5, num_slices=3)])
    assert row_of(table, measure="dice_patient")["value"] == pytest.approx(0.75)
    assert row_of(table, measure="dice_slices")["value"] == pytest.approx(2.5 / 4)
    assert row_of(table, measure="dice_slices")["num_slices"] == 4


def test_a_tumour_that_was_missed_is_counted_and_moves_the_mean_but_not_the_median() -> None:
    distances = {"A": 1.0, "B": 2.0, "C": 300.0}
    rows = [
        segmentation(s, 0, float(mm < 9), hd95_mm=mm, predicted_voxels=int(mm < 9))
        for s, mm in distances.items()
    ]
    table = table_of(rows)
    assert row_of(table, measure="hd95_mm")["value"] == pytest.approx(101)
    assert row_of(table, measure="hd95_mm_median")["value"] == 2
    assert row_of(table, measure="hd95_mm")["num_empty"] == 1
    even = table_of(rows[:2])
    assert row_of(even, measure="hd95_mm_median")["value"] == 1.5


def test_resampled_medians_are_those_of_the_drawn_patients() -> None:
    rows = [segmentation(f"S{i}", 0, 1.0, hd95_mm=mm) for i, mm in enumerate((5.0, 1.0, 9.0))]
    frame = pd.DataFrame(rows)
    weights = np.array([[1, 1, 1], [2, 0, 1], [0, 2, 2], [4, 0, 0], [0, 0, 0]])
    medians = MEASURES["hd95_mm_median"](frame, weights)
    values = frame["hd95_mm"].to_numpy()
    expected = [np.median(np.repeat(values, drawn)) for drawn in weights[:-1]]
    assert medians[:-1].tolist() == expected and math.isnan(medians[-1])


def test_the_interval_is_wider_than_if_slices_were_independent() -> None:
    draws = stream(0, "slices of a patient are alike")
    dice = draws.uniform(0.5, 1, 20)
    patients = [segmentation(f"S{i:02}", 0, d, num_slices=15) for i, d in enumerate(dice)]
    alone = [segmentation(f"S{i:02}_{j}", 0, d) for i, d in enumerate(dice) for j in range(15)]
    rows = [row_of(table_of(table), measure="dice_slices") for table in (patients, alone)]
    assert rows[0]["value"] == pytest.approx(rows[1]["value"])
    assert rows[0]["num_slices"] == rows[1]["num_slices"] == 300
    widths = [row["value_high"] - row["value_low"] for row in rows]
    # 15 equal slices of each patient say what one does: √15 = 3.87 times as wide; 2000 resamples
    # know a percentile's place to some 5 %
    assert widths[0] / widths[1] == pytest.approx(15**0.5, rel=0.15)


def test_outer_splits_test_patients_of_their_own_and_nobody_counts_twice() -> None:
    rows = [
        segmentation(f"S{i + 2 * outer}", fold, 0.5 + 0.4 * outer, outer_fold=outer)
        for outer in (0, 1)
        for fold in range(3)
        for i in range(2)
    ]
    row = row_of(table_of(rows), measure="dice_volume")
    assert (row["num_splits"], row["num_models"], row["num_patients"]) == (2, 6, 4)
    assert row["value"] == pytest.approx(0.7)
    assert row["std"] == pytest.approx(0, abs=1e-12)  # folds agree, splits do not


def test_a_patient_without_a_given_tumour_is_left_out() -> None:
    nan = float("nan")
    without_mask = segmentation("B", 0, nan, num_slices=0, hd95_mm=nan)
    table = table_of([segmentation("A", 0, 0.8), without_mask])
    assert set(table["num_patients"]) == {1}
    assert row_of(table, measure="dice_slices")["value"] == pytest.approx(0.8)


def test_a_tumour_smaller_than_any_slice_of_it_has_to_be_has_no_dice_per_slice() -> None:
    small = segmentation("B", 0, 0.4, num_slices=0, dice_slices=float("nan"))
    table = table_of([segmentation("A", 0, 0.8), small])
    assert row_of(table, measure="dice_slices")["value"] == pytest.approx(0.8)
    assert row_of(table, measure="dice_volume")["value"] == pytest.approx(0.6)


def test_seconds_are_per_slice_of_a_patient_and_by_device() -> None:
    seconds = {"A": (1.0, 3.0, 2.0), "B": (4.0, 4.0, 4.0), "C": (1.0, 1.0, 1.0)}
    rows = [
        segmentation(subject, fold, 0.8, seconds=s)
        for subject, own in seconds.items()
        for fold, s in enumerate(own)
    ]
    rows.append(segmentation("D", 0, 0.8, seconds=0.1, segmented_slices=20, device="some GPU"))
    table = slice_seconds_table(pd.DataFrame(rows))
    assert list(table.columns) == list(SECONDS_COLUMNS)
    cpu, gpu = table.to_dict("records")
    assert (cpu["device"], cpu["num_patients"], cpu["num_models"]) == ("some CPU", 3, 3)
    assert (cpu["seconds"], cpu["seconds_least"], cpu["seconds_most"]) == (0.2, 0.1, 0.4)
    assert cpu["num_slices"] == 30
    assert (gpu["device"], gpu["seconds"]) == ("some GPU", pytest.approx(0.005))


def blobs(seed: int, *shape: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(shape)
    return gaussian_filter(noise, 2.0) > 0.05


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("shape", "spacing_mm"), [((24, 30), (1.0, 1.0)), ((12, 20, 24), (3.0, 1.0, 0.5))]
)
def test_distances_agree_with_monai(
    seed: int, shape: tuple[int, ...], spacing_mm: tuple[float, ...]
) -> None:
    predicted, truth = blobs(seed, *shape), blobs(seed + 100, *shape)
    expected = compute_hausdorff_distance(
        torch.tensor(predicted[None, None]),
        torch.tensor(truth[None, None]),
        percentile=95,
        spacing=spacing_mm,
    ).item()
    # MONAI's distances are float32
    assert hd95(predicted, truth, spacing_mm) == pytest.approx(expected, rel=1e-6)


def test_a_shift_is_measured_along_its_axis_in_mm() -> None:
    truth = np.zeros((20, 20), dtype=bool)
    truth[5:12, 5:12] = True
    assert hd95(np.roll(truth, 3, axis=0), truth, (2.0, 1.0)) == 6
    assert hd95(np.roll(truth, 3, axis=1), truth, (2.0, 1.0)) == 3
    assert hd95(truth, truth, (2.0, 1.0)) == 0


def test_the_larger_of_the_two_directions_counts() -> None:
    truth = np.zeros((40, 40), dtype=bool)
    truth[5:10, 5:10] = True
    predicted = truth.copy()
    predicted[5:10, 30:35] = True  # half of the predicted surface is 21 to 25 pixels away
    assert 21 <= hd95(predicted, truth, (1.0, 1.0)) <= 25
    assert hd95(truth, predicted, (1.0, 1.0)) == hd95(predicted, truth, (1.0, 1.0))


def test_five_percent_of_the_surface_may_stray() -> None:
    truth = np.zeros((100, 100), dtype=bool)
    truth[20:60, 20:60] = True  # 156 pixels of surface
    predicted = truth.copy()
    predicted[90, 90:96] = True  # 6 of 162
    assert hd95(predicted, truth, (1.0, 1.0)) == 0
    predicted[92, 90:96] = True  # 12 of 168
    assert hd95(predicted, truth, (1.0, 1.0)) > 40


def test_empty_masks_have_the_documented_values() -> None:
    nothing = np.zeros((30, 40), dtype=bool)
    something = nothing.copy()
    something[3, 3] = True
    pairs = [(nothing, nothing), (nothing, something), (something, nothing)]
    assert [hd95(*pair, (1.0, 1.0)) for pair in pairs] == [0, 50, 50]
    volume = np.zeros((240, 240, 155), dtype=bool)
    other = volume.copy()
    other[0, 0, 0] = True
    assert hd95(volume, other, (1.0, 1.0, 1.0)) == pytest.approx(373.13, abs=0.005)
