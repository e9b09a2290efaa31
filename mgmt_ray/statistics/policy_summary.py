"""Summaries of SpotTune's policies: by class, agreement between folds, share of near-certain ones.

They are computed from ``policies.csv``: per member and test subject the probability with which the
agent tunes each block, before any policy is drawn (Schmitz et al. 2024, sec. 2.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from mgmt_ray.selection.ensembles import ensemble
from mgmt_ray.statistics.delong import delong_p
from mgmt_ray.statistics.intervals import bootstrap_weights, interval_columns, percentile_interval
from mgmt_ray.statistics.model_intervals import paired_difference, resample_models

CERTAIN = 0.05
"""A decision is near certain where its less likely outcome has a probability below this."""

CLASS_COLUMNS: tuple[str, ...] = (
    *("network", "modality", "block", "label", "num_subjects"),
    *("tuned", "tuned_low", "tuned_high"),
)

AGENT = "agent"
"""The policy that the agent gives, with which the others are compared."""

ROUTING_COLUMNS: tuple[str, ...] = (
    *("network", "ensemble", "policy", "num_members", "num_subjects", "num_methylated"),
    *("auc", "auc_low", "auc_high"),
    *("routing_difference", "routing_difference_low", "routing_difference_high", "routing_p"),
)


def routing_table(
    agent: pd.DataFrame,
    routed: pd.DataFrame,
    groups: Mapping[str, tuple[str, ...]],
    seed: int = 42,
) -> pd.DataFrame:
    """Compare the agent's policies with others, of the same weights and test subjects.

    Args:
        agent: a prediction table of members; those without an agent are left out.
        routed: the same rows for each further ``policy``.
        groups: modalities by ensemble.

    Returns:
        :data:`ROUTING_COLUMNS`: for each network with an agent and each ensemble the agent's
        policies first. The difference of the AUC is another policy's less the agent's, with its
        95 % interval and DeLong's p.
    """
    members = agent[agent["trial"].isin(set(routed["trial"]))]
    order = [AGENT, *dict.fromkeys(routed["policy"])]
    by_policy = {name: rows.drop(columns="policy") for name, rows in routed.groupby("policy")}
    by_policy[AGENT] = members
    averaged = {name: ensemble(by_policy[name].reset_index(drop=True), groups) for name in order}
    num_members = averaged[AGENT].groupby(["network", "ensemble"])["num_members"].max()
    models = {name: resample_models(averaged[name], seed) for name in order}
    rows = []
    for key, by_agent in models[AGENT].items():
        for name in order:
            model = models[name][key]
            assert model.subjects == by_agent.subjects, "two sets of subjects"
            row = {
                "network": key[0],
                "ensemble": key[1],
                "policy": name,
                "num_members": int(num_members[key]),
                "num_subjects": len(model.subjects),
                "num_methylated": int(model.labels.sum()),
                **interval_columns({"auc": model.interval("auc")}),
            }
            if name != AGENT:
                difference = paired_difference(model, by_agent, "auc")
                row |= interval_columns({"routing_difference": difference})
                p = delong_p(model.labels, model.probabilities, by_agent.probabilities)
                row["routing_p"] = p
            rows.append(row)
    return pd.DataFrame(rows, columns=list(ROUTING_COLUMNS))


def block_columns(policies: pd.DataFrame) -> list[str]:
    """Return the columns of the blocks that these rows have, in the network's order.

    The last columns of a table are empty for networks with fewer blocks than others in it.
    """
    columns = [str(name) for name in policies.columns if str(name).startswith("block_")]
    return [name for name in columns if policies[name].notna().any()]


def subject_policies(policies: pd.DataFrame) -> pd.DataFrame:
    """Average over the members of each network and modality: one row per subject.

    Returns:
        Columns network, modality, subject, label and the blocks, in the table's order of networks
        and modalities, subjects sorted.
    """
    keys = ["network", "modality", "subject", "label"]
    order = policies[["network", "modality"]].drop_duplicates()
    means = policies.groupby(keys, as_index=False)[block_columns(policies)].mean()
    return order.merge(means, how="left").reset_index(drop=True)


def class_means(policies: pd.DataFrame, seed: int = 42) -> pd.DataFrame:
    """Return the mean tuned probability of each block by class, with its 95 % interval.

    A subject's value is the mean over the members of a network and modality. The interval is the
    percentile interval of the stratified bootstrap over subjects; members are not resampled, so it
    holds for these members.

    Returns:
        :data:`CLASS_COLUMNS`; ``block`` counts from 1, probabilities are in [0, 1]. A class without
        subjects has no rows.

    >>> policies = pd.DataFrame(
    ...     {
    ...         "network": "spottune",
    ...         "modality": "FA",
    ...         "subject": ["S1", "S2", "S3", "S4"],
    ...         "label": [0, 0, 1, 1],
    ...         "block_1": [0.25, 0.25, 0.5, 1.0],
    ...     }
    ... )
    >>> class_means(policies)["tuned"].tolist()
    [0.25, 0.75]
    """
    rows = []
    for (network, modality), group in subject_policies(policies).groupby(
        ["network", "modality"], sort=False
    ):
        labels = group["label"].to_numpy(dtype=np.int64)
        values = group[block_columns(group)].to_numpy(dtype=np.float64)
        weights = bootstrap_weights(labels, seed)
        for label in np.unique(labels):
            in_class = labels == label
            resampled = weights[:, in_class] @ values[in_class] / in_class.sum()
            for block, value in enumerate(values[in_class].mean(axis=0)):
                interval = percentile_interval(float(value), resampled[:, block])
                key = (network, modality, block + 1, int(label), int(in_class.sum()))
                rows.append((*key, interval.value, interval.low, interval.high))
    return pd.DataFrame(rows, columns=list(CLASS_COLUMNS))


def policy_stability(policies: pd.DataFrame) -> pd.DataFrame:
    """Compare the policies of agents that were trained on different folds, on the same subjects.

    Returns:
        One row per network and modality, with ``num_folds``. ``tuned`` is the mean
        probability; ``correlation`` the mean over pairs of folds of Pearson's correlation between
        their matrices [subject, block]; ``subject_correlation`` the same after subtracting each
        fold's mean of each block, so that only differences between subjects count; ``fold_std``
        the standard deviation over folds (n − 1), averaged over subjects and blocks; ``certain``
        the share of probabilities closer than :data:`CERTAIN` to 0 or 1. A fold's seeds are
        averaged first, except for ``certain``; several outer splits are averaged last. NaN where
        there is one fold, or where nothing varies.

    >>> policies = pd.DataFrame(
    ...     {
    ...         "network": "spottune",
    ...         "modality": "FA",
    ...         "outer_fold": 0,
    ...         "fold": [0, 0, 1, 1],
    ...         "subject": ["S1", "S2", "S1", "S2"],
    ...         "block_1": [0.25, 0.75, 0.5, 1.0],
    ...     }
    ... )
    >>> row = policy_stability(policies).iloc[0]
    >>> round(row["correlation"], 3), row["certain"]  # parallel, and one of four is certain
    (np.float64(1.0), np.float64(0.25))
    """
    rows = []
    for (network, modality), group in policies.groupby(["network", "modality"], sort=False):
        blocks = block_columns(group)
        cubes = [_by_fold(split, blocks) for _, split in group.groupby("outer_fold")]
        values = group[blocks].to_numpy(dtype=np.float64)
        rows.append(
            {
                "network": network,
                "modality": modality,
                "num_folds": int(group["fold"].nunique()),
                "tuned": float(np.mean([cube.mean() for cube in cubes])),
                "correlation": _nan_mean(map(_correlation, cubes)),
                "subject_correlation": _nan_mean(
                    _correlation(cube - cube.mean(axis=1, keepdims=True)) for cube in cubes
                ),
                "fold_std": _nan_mean(c.std(axis=0, ddof=1).mean() for c in cubes if len(c) > 1),
                "certain": float((np.minimum(values, 1 - values) < CERTAIN).mean()),
            }
        )
    return pd.DataFrame(rows)


def _by_fold(policies: pd.DataFrame, blocks: list[str]) -> Float[np.ndarray, "fold subject block"]:
    """Stack one outer split's policies by fold, averaged over each fold's seeds."""
    means = policies.groupby(["fold", "subject"])[blocks].mean()
    num_folds = means.index.get_level_values("fold").nunique()
    assert len(means) == num_folds * policies["subject"].nunique(), "folds with different subjects"
    return means.to_numpy(dtype=np.float64).reshape(num_folds, -1, len(blocks))


def _correlation(cube: Float[np.ndarray, "fold subject block"]) -> float:
    """Return the mean Pearson correlation over pairs of folds; NaN where none is defined."""
    flat = cube.reshape(len(cube), -1)
    pairs = combinations(flat - flat.mean(axis=1, keepdims=True), 2)
    return _nan_mean(_cosine(a, b) for a, b in pairs)


def _cosine(a: Float[np.ndarray, " value"], b: Float[np.ndarray, " value"]) -> float:
    # Equal numbers minus their mean leave rounding errors, which are no variation.
    rounding = 1e-9 * np.sqrt(len(a))
    norms = np.linalg.norm(a), np.linalg.norm(b)
    return float("nan") if min(norms) < rounding else float(a @ b / (norms[0] * norms[1]))


def _nan_mean(values: Iterable[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def sort_by_class(
    subjects: pd.DataFrame, blocks: list[str]
) -> tuple[list[str], Int[np.ndarray, " subject"]]:
    """Order subjects for a heat map: unmethylated first, each class from least to most tuned.

    Args:
        subjects: as :func:`subject_policies` returns them; several modalities are averaged.
        blocks: columns whose mean orders the subjects of a class.

    Returns:
        Ids and labels.
    """
    tuned = subjects.assign(tuned=subjects[blocks].mean(axis=1))
    means = tuned.groupby(["subject", "label"])["tuned"].mean().reset_index()
    ordered = means.sort_values(["label", "tuned", "subject"])
    return ordered["subject"].tolist(), ordered["label"].to_numpy(dtype=np.int64)
