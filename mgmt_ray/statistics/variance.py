"""Sources of variation of an AUC: policy draws, folds, seeds, or the subjects themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import rankdata

from mgmt_ray.base import stream
from mgmt_ray.statistics.intervals import Labels, PerSubject
from mgmt_ray.statistics.model_intervals import resample_models

NUM_SIMULATIONS = 500
VARIANCE_COLUMNS: tuple[str, ...] = ("network", "ensemble", "source", "num", "auc_std")
FIRST_SEED = 0
_SINGLE_PART = np.full(1, np.nan)
"""In place of AUCs where there is one fold or seed only."""

Average = Callable[[pd.DataFrame], pd.DataFrame]
"""Averages members into ensembles, like :func:`mgmt_ray.selection.ensembles.ensemble`."""


def variance_table(
    predictions: pd.DataFrame,
    members: pd.DataFrame,
    seeds: Mapping[str, int],
    average: Average,
    seed: int = 42,
) -> pd.DataFrame:
    """Return the standard deviation of AUC due to each source alone, by network and ensemble.

    - "draws": if each member used a single policy draw instead of the mean of many. A normal
      approximation: the ensemble's probability is drawn from a normal distribution with its
      mean and standard deviation, clipped to [0, 1], independently per subject; ``num``
      simulations. 0 for networks without policies.
    - "folds": ensembles of fold f's members only, for each of the ``num`` folds. Such an ensemble
      has fewer members than the whole one, which varies less. Members of different folds differ in
      their training subjects, but also in initial weights and augmentation, since the fold is part
      of the random streams' names. So this is the variation of single folds' models, not that of
      the choice of training subjects alone.
    - "seeds": the same for each of the ``num`` seeds.
    - "subjects": stratified bootstrap of the test subjects, ``num`` resamples.

    Args:
        members: the prediction table that they were averaged from.
        seeds: number of the repetition by trial; :data:`FIRST_SEED` for trials not in it.
        average: makes ``predictions`` from ``members``, and the same ensembles from a part of them.

    Returns:
        :data:`VARIANCE_COLUMNS`, four rows per network and ensemble in the order given;
        ``auc_std`` is NaN where ``num`` is 1.
    """
    repetition = members["trial"].map(lambda trial: seeds.get(trial, FIRST_SEED))
    by_fold = _part_aucs(members, members["fold"], average)
    by_seed = _part_aucs(members, repetition, average)
    groups = dict(iter(predictions.groupby(["network", "ensemble"], sort=False)))
    rows = []
    for key, model in resample_models(predictions, seed).items():
        std = groups[key].sort_values("subject")["probability_std"].to_numpy(dtype=float)
        sources = {
            "draws": simulated_aucs(model.labels, model.probabilities, std, seed),
            "folds": by_fold.get(key, _SINGLE_PART),
            "seeds": by_seed.get(key, _SINGLE_PART),
            "subjects": model.resamples["auc"],
        }
        rows += [
            (*key, source, len(aucs), float(np.std(aucs, ddof=1)) if len(aucs) > 1 else math.nan)
            for source, aucs in sources.items()
        ]
    return pd.DataFrame(rows, columns=list(VARIANCE_COLUMNS))


def simulated_aucs(
    labels: Labels,
    probabilities: PerSubject,
    std: PerSubject,
    seed: int,
    num_simulations: int = NUM_SIMULATIONS,
) -> Float[np.ndarray, " simulation"]:
    """Return AUCs of probabilities with independent normal noise, clipped to [0, 1].

    The random stream is named "draws".

    >>> labels, p = np.array([0, 0, 1, 1]), np.array([0.2, 0.4, 0.6, 0.8])
    >>> simulated_aucs(labels, p, np.zeros(4), seed=42, num_simulations=2)
    array([1., 1.])
    """
    noise = stream(seed, "draws").normal(size=(num_simulations, len(labels)))
    return row_aucs(labels, np.clip(probabilities + std * noise, 0.0, 1.0))


def row_aucs(
    labels: Labels, probabilities: Float[np.ndarray, "row subject"]
) -> Float[np.ndarray, " row"]:
    """Return the AUC of each row of probabilities (Mann-Whitney); both classes must occur.

    >>> row_aucs(np.array([0, 0, 1, 1]), np.array([[0.1, 0.4, 0.3, 0.9], [0.5] * 4]))
    array([0.75, 0.5 ])
    """
    num_methylated = int(labels.sum())
    num_unmethylated = len(labels) - num_methylated
    ranks = rankdata(probabilities, axis=1)[:, labels == 1].sum(axis=1)
    lowest_sum = num_methylated * (num_methylated + 1) / 2
    areas: np.ndarray = (ranks - lowest_sum) / (num_methylated * num_unmethylated)
    return areas


def _part_aucs(
    members: pd.DataFrame, part: pd.Series[int], average: Average
) -> dict[tuple[str, str], Float[np.ndarray, " part"]]:
    """Return AUCs of ensembles of one part of the members each, by network and ensemble.

    Empty where there is one part only, since its ensembles are the whole ones.
    """
    aucs: dict[tuple[str, str], list[float]] = {}
    if part.nunique() == 1:
        return {}
    for _, rows in members.groupby(part.to_numpy(), sort=True):
        for (network, name), model in average(rows).groupby(["network", "ensemble"], sort=False):
            labels = model["label"].to_numpy(dtype=np.int64)
            area = row_aucs(labels, model["probability"].to_numpy(dtype=float)[None])
            aucs.setdefault((str(network), str(name)), []).append(float(area[0]))
    return {key: np.array(values) for key, values in aucs.items()}
