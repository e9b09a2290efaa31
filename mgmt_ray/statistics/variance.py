"""Where an AUC's scatter comes from: policy draws, folds, seeds, or the subjects themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import rankdata

from mgmt_ray.base import stream
from mgmt_ray.statistics.paired_bootstrap import ResampledModel, resample_models

NUM_SIMULATIONS = 500
VARIANCE_COLUMNS: tuple[str, ...] = ("network", "ensemble", "source", "num", "auc_std")
FIRST_SEED = 0
ONE_PART = np.full(1, np.nan)

Average = Callable[[pd.DataFrame], pd.DataFrame]
"""From members' predictions to ensembles', as :func:`mgmt_ray.selection.ensembles.ensemble`."""


def variance_table(
    predictions: pd.DataFrame,
    members: pd.DataFrame,
    seeds: Mapping[str, int],
    average: Average,
    seed: int = 42,
) -> pd.DataFrame:
    """The standard deviation of AUC that each source alone gives, by network and ensemble.

    - "draws": every member used a single policy draw instead of the mean of many. A normal
      approximation: the ensemble's probability is drawn from a normal distribution with its own
      mean and ``deviation`` on the probability's scale, clipped to [0, 1], independently per
      subject; ``num`` simulations. 0 for networks that draw nothing.
    - "folds": the ensemble made of fold f's members alone, for each of the ``num`` folds. Such an
      ensemble has fewer members than the whole one, which scatters less. Members of different folds
      differ in their training subjects, and in initial weights and augmentation too: the fold is
      part of the streams' names. So this is the scatter of single folds' models, not that of the
      choice of training subjects alone.
    - "seeds": likewise for each of the ``num`` seeds.
    - "subjects": stratified bootstrap of the test subjects, ``num`` resamples.

    Args:
        predictions: the ensembles' of test subjects.
        members: the prediction table that they were averaged from.
        seeds: number of the repetition by trial; a trial that is not named has only one.
        average: makes ``predictions`` of ``members``, and the same ensembles of a part of them.
        seed: of simulations and bootstrap.

    Returns:
        :data:`VARIANCE_COLUMNS`, four rows per network and ensemble in the order given;
        ``auc_std`` is NaN where ``num`` is 1.
    """
    repetition = members["trial"].map(lambda trial: seeds.get(trial, FIRST_SEED))
    by_fold = _part_aucs(members, members["fold"], average)
    by_seed = _part_aucs(members, repetition, average)
    rows = []
    for key, model in resample_models(predictions, seed).items():
        sources = {
            "draws": _draws(predictions, key, model, seed),
            "folds": by_fold.get(key, ONE_PART),
            "seeds": by_seed.get(key, ONE_PART),
            "subjects": model.resamples["auc"],
        }
        rows += [(*key, what, len(of), _std(of)) for what, of in sources.items()]
    return pd.DataFrame(rows, columns=list(VARIANCE_COLUMNS))


def _draws(
    predictions: pd.DataFrame, key: tuple[str, str], model: ResampledModel, seed: int
) -> Float[np.ndarray, " simulation"]:
    network, name = key
    of_model = (predictions["network"] == network) & (predictions["ensemble"] == name)
    deviations = (
        predictions[of_model].sort_values("subject")["probability_std"].to_numpy(dtype=float)
    )
    return simulated_aucs(model.labels, model.probabilities, deviations, seed)


def simulated_aucs(
    labels: Int[np.ndarray, " subject"],
    probabilities: Float[np.ndarray, " subject"],
    deviations: Float[np.ndarray, " subject"],
    seed: int,
    num_simulations: int = NUM_SIMULATIONS,
) -> Float[np.ndarray, " simulation"]:
    """AUCs of probabilities that scatter about their means, independently per subject.

    The stream is named "draws".

    Args:
        labels: 1 methylated, 0 unmethylated.
        probabilities: means, in [0, 1].
        deviations: standard deviations, at least 0.
        seed: the study's.
        num_simulations: how many.
    """
    noise = stream(seed, "draws").normal(size=(num_simulations, len(labels)))
    return row_aucs(labels, np.clip(probabilities + deviations * noise, 0.0, 1.0))


def row_aucs(
    labels: Int[np.ndarray, " subject"], probabilities: Float[np.ndarray, "row subject"]
) -> Float[np.ndarray, " row"]:
    """The AUC of each row of probabilities, by the Mann-Whitney rank sum; both classes needed."""
    num_methylated = int(labels.sum())
    num_unmethylated = len(labels) - num_methylated
    ranks = rankdata(probabilities, axis=1)[:, labels == 1].sum(axis=1)
    least = num_methylated * (num_methylated + 1) / 2
    areas: np.ndarray = (ranks - least) / (num_methylated * num_unmethylated)
    return areas


def _part_aucs(
    members: pd.DataFrame, part: pd.Series[int], average: Average
) -> dict[tuple[str, str], Float[np.ndarray, " part"]]:
    """By network and ensemble the AUCs of the ensembles made of one part of the members each.

    Empty where there is one part only: its ensembles would be the whole ones again.
    """
    found: dict[tuple[str, str], list[float]] = {}
    if part.nunique() == 1:
        return {}
    for _, rows in members.groupby(part.to_numpy(), sort=True):
        for (network, name), model in average(rows).groupby(["network", "ensemble"], sort=False):
            labels = model["label"].to_numpy(dtype=np.int64)
            area = row_aucs(labels, model["probability"].to_numpy(dtype=float)[None])
            found.setdefault((str(network), str(name)), []).append(float(area[0]))
    return {key: np.array(areas) for key, areas in found.items()}


def _std(values: Float[np.ndarray, " value"]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
