"""Hypothesis tests between models: Friedman, Nemenyi, Holm, permutation, and their table.

:func:`comparisons_table` compares networks on the same inputs, and each with the baseline models.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import get_args

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import friedmanchisquare, rankdata

from mgmt_ray.base import MgmtError, stream
from mgmt_ray.selection.best_on_validation import BEST_OVERALL
from mgmt_ray.selection.predictions import check_labels, shorten_list
from mgmt_ray.statistics.delong import delong_p
from mgmt_ray.statistics.intervals import (
    Labels,
    PerSubject,
    column_names,
    interval_columns,
)
from mgmt_ray.statistics.model_intervals import (
    METRICS,
    ResampledModel,
    paired_difference,
    resample_models,
)
from mgmt_ray.study import baseline_config

_REMEDY = "Run `mgmt-ray ensemble STUDY` again."

BASELINES: tuple[str, ...] = get_args(baseline_config.BaselineName)
"""Names, as networks and as ensembles, of the baseline models that networks are compared with."""

COMPARISON_COLUMNS: tuple[str, ...] = (
    *("comparison", "num_subjects", "network_a", "ensemble_a", "network_b", "ensemble_b"),
    *("friedman_chi2", "friedman_p", "nemenyi_p"),
    *("error_friedman_chi2", "error_friedman_p", "error_nemenyi_p"),
    *column_names(*(f"{metric}_difference" for metric in METRICS)),
    *("delong_p", "friedman_p_holm", "error_friedman_p_holm", "delong_p_holm"),
)

NUM_PERMUTATIONS = 9999
"""The smallest p-value is then 1/10,000."""

Models = Mapping[tuple[str, str], ResampledModel]


@dataclass(frozen=True, slots=True)
class RankTest:
    """Friedman's chi-square over all networks, and Nemenyi's p-value for each pair of them.

    Pairs have the order in which the networks were given.
    """

    chi2: float
    p: float
    pairs: Mapping[tuple[str, str], float]


def compare_networks(
    values: Float[np.ndarray, "subject network"], networks: tuple[str, ...]
) -> RankTest:
    """Apply Friedman's rank test with Nemenyi's post-hoc test (Demšar 2006, sec. 3.2.2).

    Subjects are the blocks, the networks' values the treatments. On probabilities of methylation,
    as in table 5 of Schmitz et al. 2024, the tests ask whether networks give systematically higher
    or lower probabilities, not whether one is more often right. On squared errors
    (probability − label)² they ask whether one is systematically nearer to the truth. At least 3
    networks are needed; p-values are NaN when no subject's networks differ (nothing to rank).

    >>> values = np.array([[0.1, 0.2, 0.3], [0.2, 0.4, 0.9], [0.3, 0.5, 0.6], [0.1, 0.3, 0.7]])
    >>> test = compare_networks(values, ("random", "transfer", "spottune"))
    >>> test.chi2, round(test.p, 4)
    (8.0, 0.0183)
    >>> test.pairs["random", "spottune"] < test.pairs["random", "transfer"]
    True
    """
    assert values.shape[1] == len(networks) >= 3, "Friedman's test needs 3 networks"
    if np.all(values == values[:, :1]):
        undefined = dict.fromkeys(combinations(networks, 2), math.nan)
        return RankTest(math.nan, math.nan, undefined)
    # Imported here: it brings seaborn and statsmodels, which nothing else needs.
    from scikit_posthocs import posthoc_nemenyi_friedman

    friedman = friedmanchisquare(*values.T)
    nemenyi = posthoc_nemenyi_friedman(values).to_numpy()[np.triu_indices(len(networks), 1)]
    pairs = dict(zip(combinations(networks, 2), nemenyi.tolist(), strict=True))
    return RankTest(float(friedman.statistic), float(friedman.pvalue), pairs)


def pivot_by_network(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return one ensemble's probabilities by subject (sorted) and network (in the order given).

    Raises:
        MgmtError: the networks were not evaluated on the same subjects, each once.
    """
    networks = list(dict.fromkeys(rows["network"]))
    duplicates = rows.loc[rows.duplicated(["network", "subject"]), "subject"]
    if len(duplicates):
        raise MgmtError(
            f"{what}: {shorten_list(list(duplicates))} predicted twice by one network. {_REMEDY}"
        )
    wide = rows.pivot(index="subject", columns="network", values="probability")[networks]
    missing = wide.index[wide.isna().any(axis=1)]
    if len(missing):
        raise MgmtError(
            f"{what}: {shorten_list(list(missing))} not predicted by all of "
            f"{', '.join(networks)}; networks are compared on the same subjects only. {_REMEDY}"
        )
    return wide


def holm(p: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """Correct p-values by Holm's (1979) step-down method, which bounds the family-wise error.

    The k-th smallest of n is multiplied by n − k + 1, up to 1; corrected values keep the order of
    the given. NaN is a test that was not made: it is not counted, and stays.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(2)
    array([0.03, 0.06, 0.06])
    """
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p, kind="stable")[: int(np.isfinite(p).sum())]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return corrected


def comparisons_table(predictions: pd.DataFrame, seed: int = 42) -> pd.DataFrame:
    """Compare every pair of networks on the same inputs, and best ensembles with baseline models.

    Differences are a − b on the same subjects, with paired intervals; ``delong_p`` tests that of
    AUC. Friedman's and Nemenyi's tests are made twice, on probabilities and on squared
    errors (see :func:`compare_networks`), between the networks that share an ensemble; they are
    NaN where fewer than three do. Corrected p-values (``_holm``) are Holm's over this whole table,
    Friedman's counted once per ensemble. Nemenyi's p-values account for the pairs of networks
    within their ensemble, and are not corrected for the number of ensembles.

    Args:
        predictions: as :func:`mgmt_ray.selection.ensembles.ensemble` returns them. Networks named
            in :data:`BASELINES` are baseline models; they are compared only with the ensembles
            named "best overall".

    Returns:
        :data:`COMPARISON_COLUMNS`, one row per pair; ``comparison`` is the shared ensemble, or
        "against" and the baseline model.

    Raises:
        MgmtError: models to be compared were evaluated on different subjects, or a subject has two
            labels.
    """
    check_labels(predictions, "ensemble predictions")
    is_baseline = predictions["network"].isin(BASELINES)
    models = resample_models(predictions, seed)
    rows: list[dict[str, object]] = []
    for name, group in predictions[~is_baseline].groupby("ensemble", sort=False):
        wide = pivot_by_network(group, str(name))
        if wide.shape[1] > 1:
            rows += _between_networks(str(name), wide, models)
    best = predictions[~is_baseline & (predictions["ensemble"] == BEST_OVERALL)]
    for name, group in predictions[is_baseline].groupby("network", sort=False):
        what = f"against {name}"
        for network, chosen in best.groupby("network", sort=False):
            pivot_by_network(pd.concat([chosen, group]), what)  # raises if subjects differ
            keys = (str(network), BEST_OVERALL), (str(name), str(name))
            rows.append({"comparison": what} | _paired(*keys, models))
    table = pd.DataFrame(rows).reindex(columns=list(COMPARISON_COLUMNS))
    return _holm_corrected(table)


def _between_networks(name: str, wide: pd.DataFrame, models: Models) -> Iterator[dict[str, object]]:
    networks = tuple(str(network) for network in wide.columns)
    probabilities = wide.to_numpy(dtype=float)
    ranked: dict[str, RankTest] = {}
    if len(networks) > 2:
        labels = models[networks[0], name].labels
        ranked = {
            "": compare_networks(probabilities, networks),
            "error_": compare_networks((probabilities - labels[:, None]) ** 2, networks),
        }
    for a, b in combinations(networks, 2):
        row = {"comparison": name} | _paired((a, name), (b, name), models)
        for prefix, result in ranked.items():
            row[f"{prefix}friedman_chi2"] = result.chi2
            row[f"{prefix}friedman_p"] = result.p
            row[f"{prefix}nemenyi_p"] = result.pairs[a, b]
        yield row


def _paired(a: tuple[str, str], b: tuple[str, str], models: Models) -> dict[str, object]:
    """Return two models' names, their differences with intervals, and DeLong's p-value."""
    first, second = models[a], models[b]
    differences = {f"{m}_difference": paired_difference(first, second, m) for m in METRICS}
    return {
        "num_subjects": len(first.labels),
        "network_a": a[0],
        "ensemble_a": a[1],
        "network_b": b[0],
        "ensemble_b": b[1],
        **interval_columns(differences),
        "delong_p": delong_p(first.labels, first.probabilities, second.probabilities),
    }


def _holm_corrected(table: pd.DataFrame) -> pd.DataFrame:
    comparisons = table.drop_duplicates("comparison").set_index("comparison")
    for name in ("friedman_p", "error_friedman_p"):
        corrected = holm(comparisons[name].to_numpy(dtype=float))
        by_comparison = dict(zip(comparisons.index, corrected, strict=True))
        table[f"{name}_holm"] = table["comparison"].map(by_comparison)
    table["delong_p_holm"] = holm(table["delong_p"].to_numpy(dtype=float))
    return table


def permuted_labels(
    labels: Labels, seed: int, num_permutations: int = NUM_PERMUTATIONS
) -> Float[np.ndarray, "permutation subject"]:
    """Return the labels in random order, each row permuted independently.

    The random stream is named "permutation": models of the same subjects get the same permutations.
    """
    rows = np.tile(labels.astype(float), (num_permutations, 1))
    return stream(seed, "permutation").permuted(rows, axis=1, out=rows)


def permutation_p(
    labels: Labels, probabilities: PerSubject, permuted: Float[np.ndarray, "permutation subject"]
) -> float:
    """Return the two-sided p-value of an AUC against 0.5, its value under no relation to labels.

    p = (1 + b) / (1 + n), with b of the n permutations at least as far from 0.5 as the observed AUC
    (Phipson and Smyth 2010, eq. 2): the observed permutation counts too, so p is never 0.

    Args:
        probabilities: only their order matters.
        permuted: of the same labels, as :func:`permuted_labels` returns them.

    Returns:
        In (0, 1]; 1 where a class is missing or all probabilities are equal.

    >>> labels = np.repeat([0, 1], 10)
    >>> permuted = permuted_labels(labels, seed=42, num_permutations=99)
    >>> permutation_p(labels, np.arange(20.0), permuted)  # no permutation reaches AUC 1
    0.01
    """
    # Four times (rank sum − its mean) is proportional to AUC − 0.5, and a whole number, so that
    # equal distances compare as equal.
    ranks = 2 * rankdata(probabilities)
    centred = 2 * ranks - 2 * (len(ranks) + 1)
    observed = abs(float(centred @ labels))
    num_extreme = int((np.abs(permuted @ centred) >= observed).sum())
    return (1 + num_extreme) / (1 + len(permuted))
