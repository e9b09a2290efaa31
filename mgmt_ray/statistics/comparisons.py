"""The table of comparisons: networks on the same inputs, and each against the simple models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import get_args

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Integer
from scipy.stats import friedmanchisquare, rankdata

from mgmt_ray.base import MgmtError, stream
from mgmt_ray.selection.best_on_validation import BEST_OVERALL
from mgmt_ray.selection.predictions import check_labels, shorten_list
from mgmt_ray.statistics.delong import delong_p
from mgmt_ray.statistics.intervals import column_names, interval_columns
from mgmt_ray.statistics.paired_bootstrap import (
    BOOTSTRAPPED,
    ResampledModel,
    paired_difference,
    resample_models,
)
from mgmt_ray.study import baseline_config


@dataclass(frozen=True, slots=True)
class RankTest:
    """Friedman's chi-square over all networks, and Nemenyi's p-value for each pair of them."""

    chi2: float
    p: float
    pairs: tuple[tuple[str, str, float], ...]

    def p_of(self, network_a: str, network_b: str) -> float:
        """Nemenyi's p-value of one pair, in the order in which the networks were given."""
        return next(p for a, b, p in self.pairs if (a, b) == (network_a, network_b))


def compare_networks(
    values: Float[np.ndarray, "subject network"], networks: tuple[str, ...]
) -> RankTest:
    """Friedman's rank test with Nemenyi's post-hoc test (Demšar 2006, sec. 3.2.2).

    Subjects are the blocks, the networks' values the treatments. On probabilities of methylation,
    as in table 5 of Schmitz et al. 2024, the tests ask whether networks give systematically higher
    or lower probabilities, not whether one is more often right. On squared errors
    (probability − label)² they ask whether one is systematically nearer to the truth.

    Args:
        values: of at least 3 networks.
        networks: the columns' names.

    Returns:
        p-values in [0, 1]; NaN when no subject's networks differ (nothing to rank).
    """
    assert values.shape[1] == len(networks) >= 3, "Friedman's test needs 3 networks"
    pairs = list(combinations(range(len(networks)), 2))
    if np.all(values == values[:, :1]):
        undefined = tuple((networks[a], networks[b], float("nan")) for a, b in pairs)
        return RankTest(float("nan"), float("nan"), undefined)
    # Imported here: it brings seaborn and statsmodels, which nothing else needs.
    from scikit_posthocs import posthoc_nemenyi_friedman

    friedman = friedmanchisquare(*values.T)
    nemenyi = posthoc_nemenyi_friedman(values).to_numpy()
    return RankTest(
        float(friedman.statistic),
        float(friedman.pvalue),
        tuple((networks[a], networks[b], float(nemenyi[a, b])) for a, b in pairs),
    )


def same_subjects(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    """Probabilities by subject (index, sorted) and network (columns, in the order given).

    Args:
        rows: network, subject, probability of one ensemble.
        what: the ensemble's name, for the error.

    Raises:
        MgmtError: the networks were not evaluated on the same subjects, each once.
    """
    networks = list(dict.fromkeys(rows["network"]))
    twice = rows.loc[rows.duplicated(["network", "subject"]), "subject"]
    if len(twice):
        raise MgmtError(
            f"{what}: {shorten_list(list(twice))} predicted twice by one network. {_REMEDY}"
        )
    wide = rows.pivot(index="subject", columns="network", values="probability")[networks]
    lacking = wide.index[wide.isna().any(axis=1)]
    if len(lacking):
        raise MgmtError(
            f"{what}: {shorten_list(list(lacking))} not predicted by all of "
            f"{', '.join(networks)}; networks compare on the same subjects only. {_REMEDY}"
        )
    return wide


_REMEDY = "Run `mgmt-ray ensemble STUDY` again."


def holm(p: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """Holm's (1979) step-down correction: the family-wise error stays below the level.

    The k-th smallest of n is multiplied by n − k + 1, and none is below a smaller one's result.

    Args:
        p: in [0, 1]; NaN is a test that was not made and is not counted.

    Returns:
        Corrected p-values in [0, 1], in the order given; NaN stays.
    """
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p, kind="stable")[: int(np.isfinite(p).sum())]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return corrected


BASELINES: tuple[str, ...] = get_args(baseline_config.BaselineName)
"""Names, as networks and as ensembles, of the simple models that networks must beat."""

COMPARISON_COLUMNS: tuple[str, ...] = (
    "comparison",
    "num_subjects",
    "network_a",
    "ensemble_a",
    "network_b",
    "ensemble_b",
    "friedman_chi2",
    "friedman_p",
    "nemenyi_p",
    "error_friedman_chi2",
    "error_friedman_p",
    "error_nemenyi_p",
    *column_names(*(f"{metric}_difference" for metric in BOOTSTRAPPED)),
    "delong_p",
    "friedman_p_holm",
    "error_friedman_p_holm",
    "delong_p_holm",
)

Models = Mapping[tuple[str, str], ResampledModel]


def comparisons_table(predictions: pd.DataFrame, seed: int = 42) -> pd.DataFrame:
    """Every pair of networks on the same inputs, and their best ensembles against simple models.

    Differences are a − b on the same subjects, with paired bootstrap intervals; ``delong_p`` tests
    that of AUC. Friedman's and Nemenyi's tests are made twice, on probabilities and on squared
    errors (see :func:`compare_networks`), between the networks that share an ensemble; they stay
    empty (NaN) where fewer than three do. Corrected p-values (``_holm``) are Holm's over this whole
    table, Friedman's counted once per ensemble. Nemenyi's p-values allow for the pairs of networks
    within their ensemble, and are not corrected for the number of ensembles.

    Args:
        predictions: as :func:`mgmt_ray.selection.ensembles.ensemble` returns them. Networks named
            in :data:`BASELINES` are simple models; they are compared with the ensembles
            named "best overall" only.
        seed: of the bootstrap.

    Returns:
        :data:`COMPARISON_COLUMNS`, one row per pair; ``comparison`` is the shared ensemble, or
        "against" and the simple model.

    Raises:
        MgmtError: models that are to be compared were evaluated on different subjects, or a
            subject has two labels.
    """
    check_labels(predictions, "ensemble predictions")
    simple = predictions["network"].isin(BASELINES)
    models = resample_models(predictions, seed)
    rows: list[dict[str, object]] = []
    for name, group in predictions[~simple].groupby("ensemble", sort=False):
        wide = same_subjects(group, str(name))
        if wide.shape[1] > 1:
            rows += _between_networks(str(name), wide, models)
    best = predictions[~simple & (predictions["ensemble"] == BEST_OVERALL)]
    for name, group in predictions[simple].groupby("network", sort=False):
        what = f"against {name}"
        for network, chosen in best.groupby("network", sort=False):
            same_subjects(pd.concat([chosen, group]), what)
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
            "error_": compare_networks(_squared_errors(probabilities, labels), networks),
        }
    for i, a in enumerate(networks):
        for b in networks[i + 1 :]:
            tests = {
                f"{on}{column}": value
                for on, result in ranked.items()
                for column, value in (
                    ("friedman_chi2", result.chi2),
                    ("friedman_p", result.p),
                    ("nemenyi_p", result.p_of(a, b)),
                )
            }
            yield {"comparison": name} | _paired((a, name), (b, name), models) | tests


def _squared_errors(
    probabilities: Float[np.ndarray, "subject network"], labels: Int[np.ndarray, " subject"]
) -> Float[np.ndarray, "subject network"]:
    errors: np.ndarray = (probabilities - labels[:, None]) ** 2
    return errors


def _paired(a: tuple[str, str], b: tuple[str, str], models: Models) -> dict[str, object]:
    """Two models' names, their differences with intervals, and DeLong's p-value."""
    first, second = models[a], models[b]
    differences = {f"{m}_difference": paired_difference(first, second, m) for m in BOOTSTRAPPED}
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
    of_an_ensemble = table.drop_duplicates("comparison").set_index("comparison")
    for name in ("friedman_p", "error_friedman_p"):
        once = holm(of_an_ensemble[name].to_numpy(dtype=float))
        by_ensemble = dict(zip(of_an_ensemble.index, once, strict=True))
        table[f"{name}_holm"] = table["comparison"].map(by_ensemble)
    table["delong_p_holm"] = holm(table["delong_p"].to_numpy(dtype=float))
    return table


NUM_PERMUTATIONS = 9999
"""The smallest p-value is then 1/10,000."""


def permuted_labels(
    labels: Integer[np.ndarray, " subject"], seed: int, num_permutations: int = NUM_PERMUTATIONS
) -> Float[np.ndarray, "permutation subject"]:
    """The labels in random order, once per row.

    The stream is named "permutation": models of the same subjects are tested with the same rows.

    Args:
        labels: 1 methylated, 0 unmethylated.
        seed: the study's.
        num_permutations: rows to draw.
    """
    rows = np.tile(labels.astype(float), (num_permutations, 1))
    return stream(seed, "permutation").permuted(rows, axis=1, out=rows)


def permutation_p(
    labels: Integer[np.ndarray, " subject"],
    probabilities: Float[np.ndarray, " subject"],
    permuted: Float[np.ndarray, "permutation subject"],
) -> float:
    """Two-sided p-value of an AUC against 0.5, which no relation to the labels would give.

    p = (1 + b) / (1 + n), with b of the n permutations at least as far from 0.5 as what was seen
    (Phipson and Smyth 2010, eq. 2): the permutation that was seen counts, so p is never 0.

    Args:
        labels: 1 methylated, 0 unmethylated.
        probabilities: of methylation; only their order matters.
        permuted: of the same labels, as :func:`permuted_labels` gives them.

    Returns:
        In (0, 1]; 1 where a class is missing or all probabilities are equal.
    """
    # Four times (rank sum − its mean): AUC − 0.5 but for a factor, and a whole number, so that
    # equal distances compare as equal.
    ranks = 2 * rankdata(probabilities)
    centred = 2 * ranks - 2 * (len(ranks) + 1)
    seen = abs(float(centred @ labels))
    as_far = int((np.abs(permuted @ centred) >= seen).sum())
    return (1 + as_far) / (1 + len(permuted))
