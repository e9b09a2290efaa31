"""Hypothesis tests between models: Friedman, Nemenyi, Holm, permutation, and their table.

:func:`comparisons_table` compares networks on the same inputs, and each with the baseline models.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import friedmanchisquare, rankdata

from mgmt_ray.base import MgmtError, stream
from mgmt_ray.selection.best_on_validation import BEST_OVERALL, FORWARD_SELECTION
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
    find_copies,
    paired_difference,
    resample_models,
)
from mgmt_ray.study.baseline_config import BASELINES

_REMEDY = "Run `mgmt-ray ensemble STUDY` again."

UNTESTED_BASELINE = "prevalence"
"""A constant, whose AUC is 0.5 (less over several splits, by construction): to test a model against
it would be to test that model's AUC a second time."""

Family: TypeAlias = Literal["primary", "secondary", ""]
"""A family of hypotheses, within which p-values are corrected; "" for what is not tested.

Primary are the ensembles "best overall", which validation chose before the test set was opened, and
comparisons of them with each other and with baselines. Secondary are all distinct others. A copy of
another ensemble or comparison (see :func:`.find_copies`) has no test of its own.
"""

COMPARISON_COLUMNS: tuple[str, ...] = (
    *("comparison", "num_subjects", "network_a", "ensemble_a", "network_b", "ensemble_b"),
    *("copy_of", "family"),
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


def model_family(network: str, ensemble: str, copy_of: str) -> Family:
    """Return the family of the hypothesis that an ensemble's AUC is 0.5.

    >>> model_family("spottune", "best overall", ""), model_family("spottune", "DSC", "PH")
    ('primary', '')
    """
    if copy_of or network == UNTESTED_BASELINE:
        return ""
    return "primary" if ensemble == BEST_OVERALL else "secondary"


def holm_by_family(p: pd.Series[float], family: pd.Series[str]) -> pd.Series[float]:
    """Correct p-values by :func:`holm` within each family.

    >>> family = pd.Series(["primary", "secondary", "secondary"])
    >>> holm_by_family(pd.Series([0.02, 0.02, 0.03]), family).tolist()
    [0.02, 0.04, 0.04]
    """
    corrected = [
        pd.Series(holm(values.to_numpy(dtype=float)), index=values.index)
        for _, values in p.groupby(family, sort=False)
    ]
    return pd.concat(corrected).reindex(p.index) if corrected else p.astype(float)


def comparisons_table(predictions: pd.DataFrame, seed: int = 42) -> pd.DataFrame:
    """Compare every pair of networks on the same inputs, and best ensembles with baseline models.

    Differences are a − b on the same subjects, with paired intervals; ``delong_p`` tests that of
    AUC. Friedman's and Nemenyi's tests are made twice, on probabilities and on squared
    errors (see :func:`compare_networks`), between the networks that share an ensemble; they are
    NaN where fewer than three do. Corrected p-values (``_holm``) are Holm's within a
    :data:`Family`, Friedman's counted once per ensemble. A comparison of the same models as another
    names it in ``copy_of`` and has differences, but no test. Nemenyi's p-values account for the
    pairs of networks within their ensemble, and are not corrected for the number of ensembles.

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
        if name in (BEST_OVERALL, FORWARD_SELECTION) and _subjects_differ(group):
            continue  # networks chose modalities that are tested on other subjects
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
    return _holm_corrected(_with_families(table, find_copies(models)))


def _subjects_differ(rows: pd.DataFrame) -> bool:
    return rows.groupby("network")["subject"].agg(frozenset).nunique() > 1


def _with_families(table: pd.DataFrame, copies: Mapping[tuple[str, str], str]) -> pd.DataFrame:
    """Fill ``copy_of`` and ``family``, and delete the p-values of what is not tested."""
    is_primary = (table["comparison"] == BEST_OVERALL) | table["network_b"].isin(BASELINES)
    originals: dict[frozenset[tuple[str, str]], str] = {}
    copy_of: dict[int, str] = {}
    for index in sorted(table.index, key=lambda index: not is_primary[index]):  # stable
        row = table.loc[index]
        models = ((row["network_a"], row["ensemble_a"]), (row["network_b"], row["ensemble_b"]))
        pair = frozenset((network, copies[network, name] or name) for network, name in models)
        copy_of[index] = originals.get(pair, "")
        originals.setdefault(pair, row["comparison"])
    table["copy_of"] = pd.Series(copy_of, index=table.index, dtype=object)
    is_copy = table["copy_of"] != ""
    is_untested = is_copy | (table["network_b"] == UNTESTED_BASELINE)
    family = is_primary.map({True: "primary", False: "secondary"}).astype(object)
    table["family"] = family.mask(is_untested, "")
    table.loc[is_untested, "delong_p"] = math.nan
    ranks = [name for name in table.columns if re.match("(error_)?(friedman|nemenyi)", name)]
    table.loc[is_copy.groupby(table["comparison"]).transform("all"), ranks] = math.nan
    return table


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
    # of several rows of a comparison, one that is no copy says which family it belongs to
    tested = table.sort_values("copy_of", kind="stable").drop_duplicates("comparison")
    comparisons = tested.set_index("comparison")
    for name in ("friedman_p", "error_friedman_p"):
        corrected = holm_by_family(comparisons[name], comparisons["family"])
        table[f"{name}_holm"] = table["comparison"].map(corrected)
    table["delong_p_holm"] = holm_by_family(table["delong_p"], table["family"])
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
