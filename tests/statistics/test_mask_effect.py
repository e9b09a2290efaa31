from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mgmt_ray.statistics.mask_effect import MASK_EFFECT_COLUMNS, mask_effect_table
from tests.statistics.conftest import member_table

SUBJECTS = tuple("ABCDEFGH")
LABELS = (1, 1, 1, 1, 0, 0, 0, 0)
GIVEN = (0.9, 0.8, 0.7, 0.4, 0.6, 0.3, 0.2, 0.1)
PREDICTED = (0.9, 0.8, 0.3, 0.4, 0.6, 0.35, 0.2, 0.1)
GROUPS = {"Struct": ("FLAIR",)}


def members(probabilities: tuple[float, ...]) -> pd.DataFrame:
    # two folds apart by as much each way: their mean is the probability
    folds = [
        member_table(
            LABELS,
            np.array(probabilities) + shift,
            subject=list(SUBJECTS),
            modality="FLAIR",
            fold=fold,
        )
        for fold, shift in enumerate((-0.05, 0.05))
    ]
    return pd.concat(folds, ignore_index=True)


def effect(subjects: str = "ABCDEFGH", predicted: tuple[float, ...] = PREDICTED) -> pd.DataFrame:
    dice = {s: 0.5 + i / 20 for i, s in enumerate(subjects)}
    return mask_effect_table(members(GIVEN), members(predicted), dice, GROUPS)


def test_the_difference_is_of_the_same_subjects_probabilities() -> None:
    table = effect()
    assert tuple(table.columns) == MASK_EFFECT_COLUMNS
    assert table["ensemble"].tolist() == ["Struct", "FLAIR"]
    row = table.iloc[0]
    # of 16 pairs D is below E alone; then C (0.3) is below E and F (0.35) too
    assert row["auc_given"] == pytest.approx(15 / 16, abs=1e-12)
    assert row["auc_predicted"] == pytest.approx(13 / 16, abs=1e-12)
    assert row["difference"] == pytest.approx(-2 / 16, abs=1e-12)
    assert -1 < row["difference_low"] < row["difference"] < row["difference_high"] < 1
    assert 0.05 < row["p"] < 1 and row["difference_high"] > 0
    assert row["mean_absolute_change"] == pytest.approx((0.4 + 0.05) / 8, abs=1e-12)
    assert row["median_dice"] == pytest.approx(0.675, abs=1e-12)
    assert (row["num_members"], row["num_subjects"], row["num_methylated"]) == (2, 8, 4)


def test_equal_predictions_differ_by_exactly_nothing() -> None:
    row = effect(predicted=GIVEN).iloc[0]
    zero = ["difference", "difference_low", "difference_high", "mean_absolute_change"]
    assert (row[zero] == 0).all()
    assert row["p"] == 1


def test_who_lacks_a_mask_counts_in_neither_auc() -> None:
    row = effect("ABDEFGH").iloc[0]
    assert row["num_subjects"] == 7
    assert row["auc_given"] == row["auc_predicted"] == pytest.approx(11 / 12, abs=1e-12)


def test_subjects_of_one_class_have_no_auc_but_a_change() -> None:
    row = effect("ABCD").iloc[0]
    assert np.isnan([row["auc_given"], row["difference"], row["difference_low"], row["p"]]).all()
    assert row["mean_absolute_change"] == pytest.approx(0.1, abs=1e-12)
