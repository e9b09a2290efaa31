from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, norm
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from mgmt_ray.base import stream
from mgmt_ray.statistics.intervals import (
    Interval,
    bootstrap_weights,
    defined_interval,
    exact_interval,
    mean_over_models,
    paired_difference,
    percentile_interval,
    resample_models,
    std_over_models,
)
from mgmt_ray.training.metrics import auc
from tests.statistics.conftest import PAPER_LABELS, model_table


@pytest.mark.parametrize(("successes", "trials"), [(0, 24), (12, 24), (21, 33), (33, 33), (1, 1)])
def test_exact_intervals_agree_with_scipy(successes: int, trials: int) -> None:
    interval = exact_interval(successes, trials)
    expected = binomtest(successes, trials).proportion_ci(0.95, method="exact")
    assert interval.value == successes / trials
    # Two routes to the same beta quantile; scipy's solves for it to about 1e-9.
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-8)


def test_resamples_keep_the_size_of_each_class() -> None:
    labels = stream(0, "labels").permutation(PAPER_LABELS)
    weights = bootstrap_weights(labels, seed=42, num_resamples=100)
    assert weights.shape == (100, 57)
    assert (weights[:, labels == 1].sum(axis=1) == 24).all()
    assert (weights[:, labels == 0].sum(axis=1) == 33).all()


def test_every_subject_is_drawn_once_on_average_as_a_binomial() -> None:
    weights = bootstrap_weights(PAPER_LABELS, seed=42, num_resamples=20_000)
    # Mean 1, variance (1 - 1/n) < 1: standard error 0.0071; 5 of them for 57 subjects.
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.036)
    assert weights[:, :24].var() == pytest.approx(1 - 1 / 24, abs=0.02)


def test_resamples_that_are_not_stratified_vary_in_their_share_of_methylated() -> None:
    weights = bootstrap_weights(PAPER_LABELS, seed=42, num_resamples=20_000, stratified=False)
    assert (weights.sum(axis=1) == len(PAPER_LABELS)).all()
    shares = weights @ PAPER_LABELS / len(PAPER_LABELS)
    share = PAPER_LABELS.mean()
    # 4 standard errors of a mean and of a deviation of 20 000 values
    deviation = np.sqrt(share * (1 - share) / len(PAPER_LABELS))
    assert shares.mean() == pytest.approx(share, abs=4 * deviation / np.sqrt(20_000))
    assert shares.std() == pytest.approx(deviation, rel=4 / np.sqrt(2 * 20_000))


def test_the_seed_alone_decides_the_resamples() -> None:
    first = bootstrap_weights(PAPER_LABELS, seed=1)
    np.testing.assert_array_equal(first, bootstrap_weights(PAPER_LABELS, seed=1))
    assert (first != bootstrap_weights(PAPER_LABELS, seed=2)).any()


def test_bootstrap_intervals_of_the_papers_size_cover_the_true_auc() -> None:
    draws = stream(0, "coverage")
    true_auc = 0.66
    shift = np.sqrt(2) * norm.ppf(true_auc)
    covered, widths = 0, []
    for _ in range(300):
        scores = draws.normal(size=57) + shift * PAPER_LABELS
        weights = bootstrap_weights(PAPER_LABELS, int(draws.integers(2**31)), 500)
        interval = percentile_interval(0.0, auc(PAPER_LABELS, scores, weights))
        covered += interval.low <= true_auc <= interval.high
        widths.append(interval.high - interval.low)
    # 0.95 less the small-sample deficit of percentiles (about .01); 4 standard errors are .05.
    assert 0.89 <= covered / 300 <= 0.99
    # .66 ± 1.96 standard errors of .0744 (Hanley and McNeil 1982): .51 to .81.
    assert np.mean(widths) == pytest.approx(0.29, abs=0.03)


def test_bounds_belong_to_the_interval() -> None:
    interval = Interval(0.6, 0.5, 0.7)
    assert not interval.excludes(0.5)
    assert not interval.excludes(0.7)
    assert interval.excludes(0.499)
    assert interval.excludes(0.701)


NAN = float("nan")


def test_splits_have_equal_weight_whatever_their_number_of_models() -> None:
    values = np.array([[0.8], [0.6], [0.1]])
    assert mean_over_models(values, np.array([0, 0, 1])) == pytest.approx([0.4])


def test_a_model_without_a_value_is_left_out_and_none_at_all_is_nan() -> None:
    values = np.array([[0.8, NAN], [NAN, NAN], [0.4, NAN]])
    means = mean_over_models(values, np.array([0, 0, 0]))
    assert means[0] == pytest.approx(0.6) and math.isnan(means[1])


def test_deviation_is_the_samples() -> None:
    values, outers = np.array([0.8, 0.9, 1.0]), np.zeros(3, dtype=np.int64)
    assert std_over_models(values, outers) == pytest.approx(0.1)


def test_test_sets_that_differ_are_no_deviation_of_folds() -> None:
    outers = np.array([0, 0, 1, 1])
    assert std_over_models(np.array([0.5, 0.5, 0.9, 0.9]), outers) == 0
    # squares 2·0.1² in the first split, 0 in the second, over 1 + 1 degrees of freedom
    std = std_over_models(np.array([0.4, 0.6, 0.9, 0.9]), outers)
    assert std == pytest.approx(0.1)


def test_one_model_of_each_split_has_no_standard_deviation() -> None:
    assert math.isnan(std_over_models(np.array([0.5, 0.9]), np.array([0, 1])))


def test_resamples_without_a_value_do_not_count() -> None:
    interval = defined_interval(np.array([0.5, 0.0, NAN, 1.0, NAN]))
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.5, 0.025, 0.975))
    assert math.isnan(defined_interval(np.array([0.5, NAN])).low)


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
        for i in (0, 1, 1999):
            drawn = np.repeat(np.arange(57), weights[i])
            expected = of(model.labels[drawn], model.probabilities[drawn])
            assert model.resamples[metric][i] == pytest.approx(expected)


def test_a_difference_is_taken_in_each_resample() -> None:
    models = resample_models(predictions(), seed=42)
    a, b = models["a", "DSC"], models["b", "DSC"]
    weights = bootstrap_weights(a.labels, seed=42)
    for metric, of in LIBRARY.items():
        drawn = [np.repeat(np.arange(57), row) for row in weights[:200]]
        apart = [
            of(a.labels[i], a.probabilities[i]) - of(b.labels[i], b.probabilities[i]) for i in drawn
        ]
        difference = paired_difference(a, b, metric)
        assert difference.value == pytest.approx(a.values[metric] - b.values[metric])
        # sums of up to 1 in another order differ in the last bit
        taken = a.resamples[metric][:200] - b.resamples[metric][:200]
        np.testing.assert_allclose(taken, apart, atol=1e-14)
        # what both models share cancels: far narrower than either's own interval
        unpaired = a.interval(metric)
        assert difference.high - difference.low < 0.5 * (unpaired.high - unpaired.low)
        back = paired_difference(b, a, metric)
        assert (back.low, back.high) == pytest.approx((-difference.high, -difference.low))


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
