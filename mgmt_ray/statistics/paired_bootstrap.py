"""Models resampled together, so that their differences have intervals too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from mgmt_ray.statistics.intervals import Interval, bootstrap_weights, percentile_interval
from mgmt_ray.training.metrics import auc, average_precision, brier, unit_weights

Metric = Callable[..., Float[np.ndarray, " resample"]]

BOOTSTRAPPED: Mapping[str, Metric] = {"auc": auc, "ap": average_precision, "brier": brier}
"""Metrics whose intervals come from the bootstrap."""


@dataclass(frozen=True, slots=True)
class ResampledModel:
    """One model's metrics on its subjects and on each resample of them.

    Attributes:
        subjects: ids, each once.
        labels: 1 methylated, 0 unmethylated, in the subjects' order.
        probabilities: of methylation, in the subjects' order.
        values: by metric, on the subjects themselves.
        resamples: by metric, one value per resample.
    """

    subjects: tuple[str, ...]
    labels: Int[np.ndarray, " subject"]
    probabilities: Float[np.ndarray, " subject"]
    values: Mapping[str, float]
    resamples: Mapping[str, Float[np.ndarray, " resample"]]

    def interval(self, metric: str) -> Interval:
        """The stratified bootstrap's percentile interval of one metric."""
        return percentile_interval(self.values[metric], self.resamples[metric])


def resample_models(predictions: pd.DataFrame, seed: int) -> dict[tuple[str, str], ResampledModel]:
    """Score every model; those of subjects with the same labels get the same resamples.

    Args:
        predictions: as :func:`mgmt_ray.selection.ensembles.ensemble` returns them.
        seed: of the bootstrap.

    Returns:
        By network and ensemble, in the order given.
    """
    drawn: dict[bytes, Int[np.ndarray, "resample subject"]] = {}
    models = {}
    for (network, name), rows in predictions.groupby(["network", "ensemble"], sort=False):
        ordered = rows.sort_values("subject")
        labels = ordered["label"].to_numpy(dtype=np.int64)
        if labels.tobytes() not in drawn:
            drawn[labels.tobytes()] = bootstrap_weights(labels, seed)
        models[str(network), str(name)] = resample_model(ordered, drawn[labels.tobytes()])
    return models


def resample_model(
    predictions: pd.DataFrame, weights: Int[np.ndarray, "resample subject"]
) -> ResampledModel:
    """Score one model on its subjects and on their resamples.

    Args:
        predictions: subject, label, probability of one network's ensemble, each subject once.
        weights: how often each subject is drawn, in the order of the rows.
    """
    labels = predictions["label"].to_numpy(dtype=np.int64)
    probabilities = predictions["probability"].to_numpy(dtype=float)
    sample = unit_weights(len(labels))
    return ResampledModel(
        tuple(predictions["subject"]),
        labels,
        probabilities,
        {name: float(f(labels, probabilities, sample)[0]) for name, f in BOOTSTRAPPED.items()},
        {name: f(labels, probabilities, weights) for name, f in BOOTSTRAPPED.items()},
    )


def paired_difference(a: ResampledModel, b: ResampledModel, metric: str) -> Interval:
    """How much two models of the same subjects differ in a metric, a − b.

    Both were scored on the same resamples; the difference is taken in each of them, so that what
    the subjects do to both models alike cancels (paired bootstrap, percentile interval).
    """
    assert a.subjects == b.subjects, "only models of the same subjects are paired"
    return percentile_interval(
        a.values[metric] - b.values[metric], a.resamples[metric] - b.resamples[metric]
    )
