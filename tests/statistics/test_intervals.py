from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from mgmt_ray.base import stream
from mgmt_ray.statistics.delong import delong_variance
from mgmt_ray.statistics.intervals import (
    Interval,
    bootstrap_weights,
    defined_interval,
    exact_interval,
    jackknife_std,
    leave_one_out,
    mean_over_models,
    percentile_interval,
    std_over_models,
)
from mgmt_ray.training.metrics import auc
from tests.statistics.conftest import PAPER_LABELS


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


def test_percentiles_of_the_bootstrap_are_those_of_the_resamples() -> None:
    interval = percentile_interval(0.3, np.arange(1001.0))
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.3, 25, 975))


@pytest.mark.parametrize("decimals", [1, 6])
def test_the_jackknife_of_an_auc_is_delongs_standard_error(decimals: int) -> None:
    scores = (stream(decimals, "test").random(57) + 0.4 * PAPER_LABELS).round(decimals)
    values = auc(PAPER_LABELS, scores, leave_one_out(57))
    expected = math.sqrt(delong_variance(PAPER_LABELS, scores))
    assert jackknife_std(PAPER_LABELS, values) == pytest.approx(expected, rel=1e-9)


def test_a_class_of_one_subject_has_no_standard_error() -> None:
    assert math.isnan(jackknife_std(np.array([0, 0, 0, 1]), np.arange(4.0)))


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
