"""The effect of predicted masks: the same members and test subjects, with two sets of masks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mgmt_ray.selection.ensembles import ensemble
from mgmt_ray.statistics.delong import delong_p
from mgmt_ray.statistics.intervals import interval_columns
from mgmt_ray.statistics.model_intervals import paired_difference, resample_models

MASK_EFFECT_COLUMNS: tuple[str, ...] = (
    *("network", "ensemble", "num_members", "num_subjects", "num_methylated"),
    *("auc_given", "auc_predicted", "difference", "difference_low", "difference_high", "p"),
    *("mean_absolute_change", "median_dice"),
)
"""``difference`` is ``auc_predicted`` − ``auc_given``, with its 95 % interval; ``p`` is two-sided
(both by DeLong's method); ``mean_absolute_change`` is of the probability, ``median_dice`` of the
predicted masks with the given ones. Each row covers the subjects that have both masks; AUCs are NaN
where these are all of one class."""


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

    Returns:
        :data:`MASK_EFFECT_COLUMNS`, one row per network and ensemble.
    """
    averaged = (ensemble(members, groups) for members in (given, predicted))
    tables = [table[table["subject"].isin(list(dice))] for table in averaged]
    models = [resample_models(table, seed) for table in tables]
    num_members = tables[0].groupby(["network", "ensemble"])["num_members"].max()
    rows = []
    for key, a in models[0].items():
        b = models[1][key]
        assert a.subjects == b.subjects, "two sets of subjects"
        rows.append(
            {
                "network": key[0],
                "ensemble": key[1],
                "num_members": int(num_members[key]),
                "num_subjects": len(a.subjects),
                "num_methylated": int(a.labels.sum()),
                "auc_given": a.values["auc"],
                "auc_predicted": b.values["auc"],
                **interval_columns({"difference": paired_difference(b, a, "auc")}),
                "p": delong_p(a.labels, b.probabilities, a.probabilities),
                "mean_absolute_change": float(np.abs(b.probabilities - a.probabilities).mean()),
                "median_dice": float(np.median([dice[subject] for subject in a.subjects])),
            }
        )
    return pd.DataFrame(rows, columns=list(MASK_EFFECT_COLUMNS))
