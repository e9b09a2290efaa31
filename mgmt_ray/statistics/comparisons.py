"""The table of comparisons: networks on the same inputs, and each against the simple models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import get_args

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from mgmt_ray.selection.best_on_validation import BEST_OVERALL
from mgmt_ray.selection.predictions import refuse_two_labels
from mgmt_ray.statistics.compare import Comparison, compare_networks, same_subjects
from mgmt_ray.statistics.delong import delong_p
from mgmt_ray.statistics.holm import holm
from mgmt_ray.statistics.intervals import column_names, interval_columns
from mgmt_ray.statistics.paired_bootstrap import (
    BOOTSTRAPPED,
    ResampledModel,
    paired_difference,
    resample_models,
)
from mgmt_ray.study import baseline_config

COMPARISON_MODELS: tuple[str, ...] = get_args(baseline_config.Comparison)
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
        predictions: as :func:`mgmt_ray.selection.ensemble.ensemble` returns them. Networks named
            in :data:`COMPARISON_MODELS` are simple models; they are compared with the ensembles
            named "best overall" only.
        seed: of the bootstrap.

    Returns:
        :data:`COMPARISON_COLUMNS`, one row per pair; ``comparison`` is the shared ensemble, or
        "against" and the simple model.

    Raises:
        MgmtError: models that are to be compared were evaluated on different subjects, or a
            subject has two labels.
    """
    refuse_two_labels(predictions, "ensemble predictions")
    simple = predictions["network"].isin(COMPARISON_MODELS)
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
    return _corrected(table)


def _between_networks(name: str, wide: pd.DataFrame, models: Models) -> Iterator[dict[str, object]]:
    networks = tuple(str(network) for network in wide.columns)
    probabilities = wide.to_numpy(dtype=float)
    ranked: dict[str, Comparison] = {}
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


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    of_an_ensemble = table.drop_duplicates("comparison").set_index("comparison")
    for name in ("friedman_p", "error_friedman_p"):
        once = holm(of_an_ensemble[name].to_numpy(dtype=float))
        by_ensemble = dict(zip(of_an_ensemble.index, once, strict=True))
        table[f"{name}_holm"] = table["comparison"].map(by_ensemble)
    table["delong_p_holm"] = holm(table["delong_p"].to_numpy(dtype=float))
    return table
