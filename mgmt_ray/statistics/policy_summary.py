"""What SpotTune's agent decides: by class, from fold to fold, and how surely.

The tables are of ``policies.csv``: per member and test subject the probability with which the
agent tunes each block, as it is before any policy is drawn (Schmitz et al. 2024, sec. 2.3).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from mgmt_ray.statistics.intervals import bootstrap_weights, percentile_interval

CERTAIN = 0.05
"""A decision is near certain where its rarer outcome is less probable than this."""

CLASS_COLUMNS: tuple[str, ...] = (
    "network",
    "modality",
    "block",
    "label",
    "num_subjects",
    "tuned",
    "tuned_low",
    "tuned_high",
)
STABILITY_COLUMNS: tuple[str, ...] = (
    "network",
    "modality",
    "num_folds",
    "tuned",
    "correlation",
    "subject_correlation",
    "fold_std",
    "certain",
)


def block_columns(policies: pd.DataFrame) -> list[str]:
    """The columns of the blocks that these rows have, from the stem on.

    Networks of fewer blocks than others in the same table have no values in the last columns.
    """
    named = [str(name) for name in policies.columns if str(name).startswith("block_")]
    return [name for name in named if policies[name].notna().any()]


def subject_policies(policies: pd.DataFrame) -> pd.DataFrame:
    """Mean over the members of each network and modality: a row per subject.

    Returns:
        Columns network, modality, subject, label and the blocks, in the table's order of networks
        and modalities, subjects sorted.
    """
    keys = ["network", "modality", "subject", "label"]
    order = policies[["network", "modality"]].drop_duplicates()
    means = policies.groupby(keys, as_index=False)[block_columns(policies)].mean()
    return order.merge(means, how="left").reset_index(drop=True)


def class_means(policies: pd.DataFrame, seed: int = 42) -> pd.DataFrame:
    """Mean tuned probability of each block by class, with its 95 % interval.

    A subject's value is the mean over the members of a network and modality. The interval is the
    percentile interval of the stratified bootstrap over subjects; members are not resampled, so it
    holds for these members.

    Args:
        policies: one row per member and subject.
        seed: of the bootstrap.

    Returns:
        :data:`CLASS_COLUMNS`; ``block`` counts from 1, probabilities are in [0, 1]. A class without
        subjects has no rows.
    """
    rows = []
    for (network, modality), group in subject_policies(policies).groupby(
        ["network", "modality"], sort=False
    ):
        labels = group["label"].to_numpy(dtype=np.int64)
        values = group[block_columns(group)].to_numpy(dtype=np.float64)
        weights = bootstrap_weights(labels, seed)
        for label in np.unique(labels):
            own = labels == label
            resampled = weights[:, own] @ values[own] / own.sum()
            for block, value in enumerate(values[own].mean(axis=0)):
                interval = percentile_interval(float(value), resampled[:, block])
                key = (network, modality, block + 1, int(label), int(own.sum()))
                rows.append((*key, interval.value, interval.low, interval.high))
    return pd.DataFrame(rows, columns=list(CLASS_COLUMNS))


def stability(policies: pd.DataFrame) -> pd.DataFrame:
    """How far agents that were trained on other folds decide alike on the same subjects.

    Args:
        policies: one row per member and subject.

    Returns:
        :data:`STABILITY_COLUMNS`, a row per network and modality. ``tuned`` is the mean
        probability; ``correlation`` the mean over pairs of folds of Pearson's correlation between
        their matrices [subject, block]; ``subject_correlation`` the same after each fold's mean
        of each block is taken away, so that only what is decided for the subject is left;
        ``deviation`` the standard deviation over folds (n − 1), mean over subjects and blocks;
        ``certain`` the share of probabilities closer than :data:`CERTAIN` to 0 or 1. A fold's
        seeds are averaged first, but for ``certain``; several outer splits are averaged last. NaN
        where there is one fold, or where nothing varies.
    """
    rows = []
    for (network, modality), group in policies.groupby(["network", "modality"], sort=False):
        blocks = block_columns(group)
        cubes = [_by_fold(own, blocks) for _, own in group.groupby("outer_fold")]
        values = group[blocks].to_numpy(dtype=np.float64)
        certain = np.minimum(values, 1 - values) < CERTAIN
        rows.append(
            (
                network,
                modality,
                int(group["fold"].nunique()),
                float(np.mean([cube.mean() for cube in cubes])),
                _nan_mean([_correlation(cube) for cube in cubes]),
                _nan_mean(
                    [_correlation(cube - cube.mean(axis=1, keepdims=True)) for cube in cubes]
                ),
                _nan_mean([_mean_std(cube) for cube in cubes]),
                float(certain.mean()),
            )
        )
    return pd.DataFrame(rows, columns=list(STABILITY_COLUMNS))


def _by_fold(policies: pd.DataFrame, blocks: list[str]) -> Float[np.ndarray, "fold subject block"]:
    """One outer split's policies, each fold's seeds averaged."""
    means = policies.groupby(["fold", "subject"])[blocks].mean()
    num_folds = means.index.get_level_values("fold").nunique()
    assert len(means) == num_folds * policies["subject"].nunique(), "folds of other subjects"
    return means.to_numpy(dtype=np.float64).reshape(num_folds, -1, len(blocks))


def _correlation(cube: Float[np.ndarray, "fold subject block"]) -> float:
    """Mean Pearson correlation over pairs of folds; NaN where none is defined."""
    flat = cube.reshape(len(cube), -1)
    pairs = combinations(flat - flat.mean(axis=1, keepdims=True), 2)
    return _nan_mean([_cosine(a, b) for a, b in pairs])


def _cosine(a: Float[np.ndarray, " value"], b: Float[np.ndarray, " value"]) -> float:
    # What is left of equal numbers after their mean is taken away is rounding, not variation.
    nothing = 1e-9 * np.sqrt(len(a))
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    return float("nan") if min(lengths) < nothing else float(a @ b / (lengths[0] * lengths[1]))


def _mean_std(cube: Float[np.ndarray, "fold subject block"]) -> float:
    return float(cube.std(axis=0, ddof=1).mean()) if len(cube) > 1 else float("nan")


def _nan_mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def sort_by_class(
    subjects: pd.DataFrame, blocks: list[str]
) -> tuple[list[str], Int[np.ndarray, " subject"]]:
    """Subjects for a heat map: the unmethylated first, each class from least to most tuned.

    Args:
        subjects: as :func:`subject_policies` returns them; of several modalities the mean counts.
        blocks: columns whose mean orders a class.

    Returns:
        Their ids and labels.
    """
    tuned = subjects.assign(tuned=subjects[blocks].mean(axis=1))
    means = tuned.groupby(["subject", "label"])["tuned"].mean().reset_index()
    ordered = means.sort_values(["label", "tuned", "subject"])
    return ordered["subject"].tolist(), ordered["label"].to_numpy(dtype=np.int64)
