from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import t
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from mgmt_ray.base import stream
from mgmt_ray.statistics.delong import delong_interval
from mgmt_ray.statistics.intervals import bootstrap_weights
from mgmt_ray.statistics.model_intervals import (
    RESAMPLED,
    average_precision_interval,
    paired_difference,
    resample_models,
)
from tests.statistics.conftest import PAPER_LABELS, model_table

LIBRARY = {"auc": roc_auc_score, "ap": average_precision_score, "brier": brier_score_loss}


def predictions(noise: float = 0.02) -> pd.DataFrame:
    """Networks "a" and "b" that nearly agree on each subject, rows in no order."""
    draws = stream(0, "test")
    shared = draws.random(57) * 0.6 + 0.3 * PAPER_LABELS
    a = model_table(PAPER_LABELS, shared + noise * draws.random(57), network="a")
    b = model_table(PAPER_LABELS, shared, network="b")
    return pd.concat([a, b]).sample(frac=1, random_state=1)


def test_resamples_are_the_librarys_metrics_of_repeated_subjects() -> None:
    model = resample_models(predictions(), seed=42)["a", "DSC"]
    weights = bootstrap_weights(model.labels, seed=42)
    for metric, of in LIBRARY.items():
        assert model.values[metric] == pytest.approx(of(model.labels, model.probabilities))
    for metric in RESAMPLED:
        of = LIBRARY[metric]
        for i in (0, 1, 1999):
            drawn = np.repeat(np.arange(57), weights[i])
            expected = of(model.labels[drawn], model.probabilities[drawn])
            assert model.resamples[metric][i] == pytest.approx(expected)


def test_a_difference_is_of_the_same_subjects() -> None:
    models = resample_models(predictions(), seed=42)
    a, b = models["a", "DSC"], models["b", "DSC"]
    for metric in LIBRARY:
        difference = paired_difference(a, b, metric)
        assert difference.value == pytest.approx(a.values[metric] - b.values[metric])
        # what both models share cancels: far narrower than either's own interval
        unpaired = a.interval(metric)
        assert difference.high - difference.low < 0.5 * (unpaired.high - unpaired.low)
        back = paired_difference(b, a, metric)
        assert (back.low, back.high) == pytest.approx((-difference.high, -difference.low))
    resampled = a.resamples["brier"] - b.resamples["brier"]
    bounds = np.percentile(resampled, [2.5, 97.5])
    brier = paired_difference(a, b, "brier")
    assert (brier.low, brier.high) == pytest.approx(tuple(bounds))


def test_an_aps_interval_follows_its_definition() -> None:
    model = resample_models(predictions(), seed=42)["a", "DSC"]
    labels, p = model.labels, model.probabilities
    without = np.array(
        [average_precision_score(np.delete(labels, i), np.delete(p, i)) for i in range(57)]
    )
    # squares of each class about its own mean, times (n - 1) / n
    variance = sum(
        (n - 1) / n * ((without[labels == k] - without[labels == k].mean()) ** 2).sum()
        for k, n in ((1, 24), (0, 33))
    )
    ap = average_precision_score(labels, p)
    half = t.ppf(0.975, 55) * np.sqrt(variance) / (ap * (1 - ap))
    interval = model.interval("ap")
    expected = (ap, expit(logit(ap) - half), expit(logit(ap) + half))
    assert (interval.value, interval.low, interval.high) == pytest.approx(expected)


@pytest.mark.parametrize(("number", "methylated"), [(57, 24), (9, 3)])
def test_a_perfect_ap_is_as_uncertain_as_a_perfect_auc(number: int, methylated: int) -> None:
    labels = np.repeat([1, 0], [methylated, number - methylated])
    ap = average_precision_interval(labels, labels * 0.5)
    area = delong_interval(labels, labels * 0.5)
    assert (ap.value, ap.low, ap.high) == (1, area.low, 1)


def test_a_constants_ap_is_the_share_and_a_lone_subject_has_no_bounds() -> None:
    constant = average_precision_interval(PAPER_LABELS, np.full(57, 0.5))
    assert (constant.low, constant.high) == pytest.approx((24 / 57, 24 / 57))
    lone = average_precision_interval(np.array([0, 0, 1]), np.arange(3.0))
    assert lone.value == 1 and np.isnan([lone.low, lone.high]).all()


def test_equal_models_do_not_differ_at_all() -> None:
    models = resample_models(predictions(noise=0.0), seed=42)
    for metric in LIBRARY:
        nothing = paired_difference(models["a", "DSC"], models["b", "DSC"], metric)
        assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)


def test_models_of_different_subjects_are_not_paired() -> None:
    table = predictions()
    models = resample_models(table[(table["network"] == "a") | (table["subject"] > "S005")], 42)
    with pytest.raises(AssertionError, match="same subjects"):
        paired_difference(models["a", "DSC"], models["b", "DSC"], "auc")
