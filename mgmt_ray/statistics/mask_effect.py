"""The effect of predicted masks: the same members and test subjects, with two sets of masks."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from mgmt_ray.selection.ensembles import ensemble
from mgmt_ray.statistics.delong import delong_p
from mgmt_ray.statistics.intervals import Interval
from mgmt_ray.statistics.paired_bootstrap import paired_difference, resample_models

MASK_EFFECT_COLUMNS: tuple[str, ...] = (
    "network",
    "ensemble",
    "num_members",
    "num_subjects",
    "num_methylated",
    "auc_given",
    "auc_predicted",
    "difference",
    "difference_low",
    "difference_high",
    "p",
    "mean_absolute_change",
    "median_dice",
)
"""``difference`` is ``auc_predicted`` − ``auc_given``, with its 95 % interval (paired bootstrap of
subjects); ``p`` is DeLong's, two-sided; ``mean_absolute_change`` is of the probability,
``median_dice`` of the predicted masks with the given ones. Each row covers the subjects that have
both masks; AUCs are NaN where these are all of one class."""


def mask_effect_table(
    given: pd.DataFrame,
    predicted: pd.DataFrame,
    dice: Mapping[str, float],
    groups: Mapping[str, tuple[str, ...]],
    seed: int = 42,
) -> pd.DataFrame:
    """Compare members' predictions from volumes cut with given masks and with predicted masks.

    Args:
        given: a prediction table of test subjects, from volumes cut with given masks.
        predicted: the same rows, from volumes cut with predicted masks.
        dice: by subject with both masks; other subjects are omitted.
        groups: modalities by ensemble.
        seed: of the bootstrap.

    Returns:
        :data:`MASK_EFFECT_COLUMNS`, one row per network and ensemble.
    """
    tables = [_select_subjects(ensemble(members, groups), dice) for members in (given, predicted)]
    has_both_classes = tables[0].groupby(["network", "ensemble"])["label"].transform("nunique") == 2
    models = [resample_models(table[has_both_classes], seed) for table in tables]
    rows = []
    for key, with_given in tables[0].groupby(["network", "ensemble"], sort=False):
        network, name = (str(part) for part in key)
        is_model = (tables[1]["network"] == network) & (tables[1]["ensemble"] == name)
        with_predicted = tables[1][is_model]
        subjects = with_given["subject"].tolist()
        assert subjects == with_predicted["subject"].tolist(), "two sets of subjects"
        change = with_predicted["probability"].to_numpy() - with_given["probability"].to_numpy()
        difference, aucs, p = Interval(math.nan, math.nan, math.nan), (math.nan,) * 2, math.nan
        if (network, name) in models[0]:
            a, b = (by_key[network, name] for by_key in models)
            difference = paired_difference(b, a, "auc")
            aucs = (a.values["auc"], b.values["auc"])
            p = delong_p(a.labels, b.probabilities, a.probabilities)
        rows.append(
            {
                "network": network,
                "ensemble": name,
                "num_members": int(with_given["num_members"].max()),
                "num_subjects": len(subjects),
                "num_methylated": int(with_given["label"].sum()),
                "auc_given": aucs[0],
                "auc_predicted": aucs[1],
                "difference": difference.value,
                "difference_low": difference.low,
                "difference_high": difference.high,
                "p": p,
                "mean_absolute_change": float(np.abs(change).mean()),
                "median_dice": float(np.median([dice[subject] for subject in subjects])),
            }
        )
    return pd.DataFrame(rows, columns=list(MASK_EFFECT_COLUMNS))


def _select_subjects(predictions: pd.DataFrame, subjects: Mapping[str, float]) -> pd.DataFrame:
    kept = predictions[predictions["subject"].isin(list(subjects))]
    return kept.sort_values(["subject"], kind="stable").reset_index(drop=True)
