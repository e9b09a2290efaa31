"""Models' metrics with intervals, and paired differences between models of the same subjects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mgmt_ray.selection.best_on_validation import BEST_OVERALL
from mgmt_ray.statistics.delong import delong_difference, delong_interval
from mgmt_ray.statistics.intervals import (
    Draws,
    Interval,
    Labels,
    PerResample,
    PerSubject,
    bootstrap_weights,
    jackknife_std,
    leave_one_out,
    logit_interval,
    percentile_interval,
    student_quantile,
)
from mgmt_ray.training.metrics import auc, average_precision, brier, unit_weights

METRICS: Mapping[str, Callable[..., PerResample]] = {
    "auc": auc,
    "ap": average_precision,
    "brier": brier,
}
"""Metrics of probabilities without a threshold, whose differences between models are tabled."""

RESAMPLED = ("auc", "brier")
"""Metrics that are computed on bootstrap resamples."""


@dataclass(frozen=True, slots=True)
class ResampledModel:
    """One model's :data:`METRICS` on its subjects (sorted by id), and on resamples of them."""

    subjects: tuple[str, ...]
    labels: Labels
    probabilities: PerSubject
    values: Mapping[str, float]
    resamples: Mapping[str, PerResample]

    def interval(self, metric: str) -> Interval:
        """Return one metric's interval: each metric by the method that covers best.

        AUC: :func:`delong_interval`; AP: :func:`average_precision_interval`; Brier: percentiles
        of the bootstrap. ``python -m benchmarks.coverage`` measures their coverage.
        """
        if metric == "auc":
            area = delong_interval(self.labels, self.probabilities)
            return replace(area, value=self.values[metric])  # equal but for the last bit
        if metric == "ap":
            return average_precision_interval(self.labels, self.probabilities)
        return percentile_interval(self.values[metric], self.resamples[metric])


def resample_models(predictions: pd.DataFrame, seed: int) -> dict[tuple[str, str], ResampledModel]:
    """Score each network and ensemble on a stratified bootstrap, in the order given.

    Models of equal labels share resamples, so that differences between them have intervals too.

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
    drawn: dict[bytes, Draws] = {}
    models = {}
    for (network, name), rows in predictions.groupby(["network", "ensemble"], sort=False):
        ordered = rows.sort_values("subject")
        labels = ordered["label"].to_numpy(dtype=np.int64)
        if labels.tobytes() not in drawn:
            drawn[labels.tobytes()] = bootstrap_weights(labels, seed)
        p, sample = ordered["probability"].to_numpy(dtype=float), unit_weights(len(labels))
        models[str(network), str(name)] = ResampledModel(
            tuple(ordered["subject"]),
            labels,
            p,
            {metric: float(f(labels, p, sample)[0]) for metric, f in METRICS.items()},
            {metric: METRICS[metric](labels, p, drawn[labels.tobytes()]) for metric in RESAMPLED},
        )
    return models


def find_copies(models: Mapping[tuple[str, str], ResampledModel]) -> dict[tuple[str, str], str]:
    """Find ensembles that are another one of their network under a second name.

    So is the best overall ensemble, and a group of one modality; in a study of one modality all
    are. The original is "best overall" if it is among them, else the first in the order given.

    Returns:
        By network and ensemble the name of the original; "" for originals.

    >>> predictions = pd.DataFrame(
    ...     {
    ...         "network": "spottune",
    ...         "ensemble": ["DSC"] * 2 + ["best overall"] * 2 + ["DTI"] * 2,
    ...         "subject": ["S1", "S2"] * 3,
    ...         "label": [1, 0] * 3,
    ...         "probability": [0.9, 0.2, 0.9, 0.2, 0.9, 0.3],
    ...     }
    ... )
    >>> copies = find_copies(resample_models(predictions, seed=42))
    >>> copies["spottune", "DSC"], copies["spottune", "DTI"]
    ('best overall', '')
    """
    originals: dict[str, list[tuple[str, ResampledModel]]] = {}
    copy_of: dict[tuple[str, str], str] = {}
    for key in sorted(models, key=lambda key: key[1] != BEST_OVERALL):  # stable
        model, earlier = models[key], originals.setdefault(key[0], [])
        copy_of[key] = next((name for name, other in earlier if _are_equal(model, other)), "")
        if not copy_of[key]:
            earlier.append((key[1], model))
    return copy_of


def _are_equal(a: ResampledModel, b: ResampledModel) -> bool:
    """Return whether two models agree but for rounding, as means in another order do."""
    return a.subjects == b.subjects and np.allclose(
        a.probabilities, b.probabilities, rtol=0, atol=1e-9
    )


def average_precision_interval(labels: Labels, probabilities: PerSubject) -> Interval:
    """Return an AP with its interval on the logit scale.

    :func:`logit_interval` with the margin t·s, s being :func:`jackknife_std`. Percentiles of a
    bootstrap cover 80 to 89 % (in a resample a subject that is drawn twice is ranked beside
    itself, which raises AP). A perfect AP has the interval of a perfect AUC
    (:func:`delong_interval`), from as many pairs as the smaller class has subjects.

    Returns:
        Bounds in [0, 1]; NaN where a class has fewer than two subjects. Where all probabilities
        are equal, AP is the share of methylated, and the interval is this point.

    >>> labels = np.repeat([0, 1], 20)
    >>> str(average_precision_interval(labels, np.arange(40.0) % 20 + 4 * labels))
    '0.700 [0.521, 0.833]'
    """
    ap = float(average_precision(labels, probabilities, unit_weights(len(labels)))[0])
    std = jackknife_std(labels, _leave_one_out_precision(labels, probabilities))
    pairs = int(min(labels.sum(), len(labels) - labels.sum()))
    return logit_interval(ap, student_quantile(len(labels)) * std, pairs)


def average_precision_difference(labels: Labels, a: PerSubject, b: PerSubject) -> Interval:
    """Return the difference a − b of two models' APs on the same subjects, ± t·s by the jackknife.

    Returns:
        Bounds are NaN where a class has fewer than two subjects.
    """
    sample = unit_weights(len(labels))
    ap_a, ap_b = (float(average_precision(labels, p, sample)[0]) for p in (a, b))
    without = _leave_one_out_precision(labels, a) - _leave_one_out_precision(labels, b)
    half = student_quantile(len(labels)) * jackknife_std(labels, without)
    return Interval(ap_a - ap_b, ap_a - ap_b - half, ap_a - ap_b + half)


def _leave_one_out_precision(labels: Labels, probabilities: PerSubject) -> PerSubject:
    return average_precision(labels, probabilities, leave_one_out(len(labels)))


def paired_difference(a: ResampledModel, b: ResampledModel, metric: str) -> Interval:
    """Return the difference a − b of two models of the same subjects in a metric.

    Variation of subjects that affects both models equally cancels: AUC by
    :func:`delong_difference`, AP by :func:`average_precision_difference`, Brier by percentiles of
    the differences in the resamples that both were scored on.
    """
    assert a.subjects == b.subjects, "only models of the same subjects are paired"
    value = a.values[metric] - b.values[metric]
    if metric == "auc":
        return replace(delong_difference(a.labels, a.probabilities, b.probabilities), value=value)
    if metric == "ap":
        return average_precision_difference(a.labels, a.probabilities, b.probabilities)
    return percentile_interval(value, a.resamples[metric] - b.resamples[metric])
