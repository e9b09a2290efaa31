"""Paired bootstrap: models are scored on the same resamples, so differences have intervals too."""

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
        subjects: unique ids.
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
        """Return the percentile interval of one metric over the resamples."""
        return percentile_interval(self.values[metric], self.resamples[metric])


def resample_models(predictions: pd.DataFrame, seed: int) -> dict[tuple[str, str], ResampledModel]:
    """Score each model on a stratified bootstrap; subjects with equal labels share resamples.

    Args:
        predictions: as :func:`mgmt_ray.selection.ensembles.ensemble` returns them.
        seed: of the bootstrap.

    Returns:
        By network and ensemble, in the order given.

    Example:
        >>> predictions = pd.DataFrame(
        ...     {
        ...         "network": ["spottune"] * 4 + ["random"] * 4,
        ...         "ensemble": "DSC",
        ...         "subject": ["S1", "S2", "S3", "S4"] * 2,
        ...         "label": [1, 0, 1, 0] * 2,
        ...         "probability": [0.9, 0.2, 0.6, 0.4, 0.5, 0.3, 0.6, 0.7],
        ...     }
        ... )
        >>> models = resample_models(predictions, seed=42)
        >>> a, b = models["spottune", "DSC"], models["random", "DSC"]
        >>> a.values["auc"], b.values["auc"], paired_difference(a, b, "auc").value
        (1.0, 0.5, 0.5)
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
        predictions: subject, label, probability of one network's ensemble; subjects are unique.
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
    """Return the difference a − b of two models of the same subjects in a metric.

    Both were scored on the same resamples; the difference is taken in each of them, so that
    variation of subjects that affects both models equally cancels (percentile interval).
    """
    assert a.subjects == b.subjects, "only models of the same subjects are paired"
    return percentile_interval(
        a.values[metric] - b.values[metric], a.resamples[metric] - b.resamples[metric]
    )
