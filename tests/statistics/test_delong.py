from __future__ import annotations

import numpy as np
import pytest
from MLstatkit import Delong_test
from scipy.special import expit, logit
from scipy.stats import mannwhitneyu, norm, t

from mgmt_ray.base import stream
from mgmt_ray.statistics.delong import (
    delong_difference,
    delong_interval,
    delong_p,
    delong_variance,
    prospect,
)
from tests.statistics.conftest import PAPER_LABELS


def two_models(case: int, ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draws = stream(case, "test")
    labels = draws.permutation(PAPER_LABELS)
    shared = draws.normal(size=57)
    a = expit(shared + draws.normal(size=57) + 0.9 * labels)
    b = expit(shared + draws.normal(size=57) + 0.3 * labels)
    return (labels, a.round(1), b.round(1)) if ties else (labels, a, b)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("case", range(4))
def test_intervals_and_differences_are_those_of_mlstatkit(case: int, ties: bool) -> None:
    labels, a, b = two_models(case, ties)
    z, _, bounds, _, auc, _, info = Delong_test(labels, a, b)
    assert info["method"] == "delong"
    # Both are sums of a few dozen terms; MLstatkit's bounds are on the probability's scale.
    assert delong_p(labels, a, b) == pytest.approx(2 * t.sf(abs(z), 55), rel=1e-9)
    difference = delong_difference(labels, a, b)
    half = abs(difference.value / z) * t.ppf(0.975, 55)
    assert difference.high - difference.value == pytest.approx(half, rel=1e-9)
    assert difference.excludes(0.0) == (delong_p(labels, a, b) < 0.05)
    deviation = (auc - bounds[0]) / norm.ppf(0.975)
    assert delong_variance(labels, a) == pytest.approx(deviation**2, rel=1e-9)
    interval = delong_interval(labels, a)
    half = norm.ppf(0.975) * deviation / (auc * (1 - auc))
    expected = (auc, expit(logit(auc) - half), expit(logit(auc) + half))
    assert (interval.value, interval.low, interval.high) == pytest.approx(expected, rel=1e-9)


def test_perfect_separation_has_the_exact_interval_of_disjoint_pairs() -> None:
    values = np.linspace(0, 1, 57)
    labels = np.repeat([0, 1], [33, 24])
    assert delong_variance(labels, values) == 0
    interval = delong_interval(labels, values)
    # 24 of 24 pairs in order: (0.025)^(1/24) = 0.8575
    assert (interval.value, interval.high) == (1, 1)
    assert interval.low == pytest.approx(0.025 ** (1 / 24))
    wrong_way = delong_interval(1 - labels, values)
    assert (wrong_way.value, wrong_way.low) == (0, 0)
    assert wrong_way.high == pytest.approx(1 - 0.025 ** (1 / 24))


def test_small_samples_of_a_strong_model_are_covered_perfect_separation_included() -> None:
    draws = stream(0, "coverage")
    labels = np.repeat([1, 0], [8, 10])
    shift, true_auc = np.sqrt(2) * norm.ppf(0.95), 0.95
    intervals = [
        delong_interval(labels, draws.normal(size=18) + shift * labels) for _ in range(2000)
    ]
    assert sum(i.value == 1 for i in intervals) > 200
    # 0.95 less what 18 subjects cost the normal approximation; 4 standard errors are 0.02
    assert np.mean([i.low <= true_auc <= i.high for i in intervals]) > 0.92


def test_a_constant_model_has_auc_one_half_for_certain() -> None:
    interval = delong_interval(PAPER_LABELS, np.full(57, 0.3))
    assert (interval.value, interval.low, interval.high) == (0.5, 0.5, 0.5)


def test_models_of_the_same_order_do_not_differ() -> None:
    labels, a, _ = two_models(0, False)
    assert delong_p(labels, a, a**3) == 1


def test_the_p_value_is_uniform_when_models_are_equally_good() -> None:
    draws = stream(0, "null")
    p = [
        delong_p(PAPER_LABELS, *(draws.normal(size=(2, 57)) + 0.8 * PAPER_LABELS))
        for _ in range(1000)
    ]
    # 4 standard errors at 1000 are 0.028 and 0.063
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.028)
    assert np.mean(np.array(p) < 0.5) == pytest.approx(0.5, abs=0.063)


def test_what_cannot_be_tested_is_nan() -> None:
    perfect, constant = np.arange(4) / 4, np.full(4, 0.5)
    assert np.isnan(delong_p(np.array([0, 0, 1, 1]), perfect, constant))
    assert np.isnan(delong_p(np.array([0, 0, 0, 1]), perfect, constant))
    assert np.isnan(delong_variance(np.array([0, 0, 0, 1]), perfect))
    single = delong_interval(np.array([0, 1, 0, 0]), perfect)
    assert single.value == pytest.approx(1 / 3)
    assert np.isnan([single.low, single.high]).all()
    assert np.isnan(delong_interval(np.zeros(4, dtype=int), perfect).value)


def test_a_difference_from_a_constant_is_an_auc_less_one_half_and_not_tested_again() -> None:
    labels, a, _ = two_models(0, False)
    constant, area = np.full(57, 0.4), delong_interval(labels, a)
    over, under = delong_difference(labels, a, constant), delong_difference(labels, constant, a)
    bounds = (over.value, over.low, over.high)
    assert bounds == pytest.approx((area.value - 0.5, area.low - 0.5, area.high - 0.5))
    mirrored = (-over.value, -over.high, -over.low)
    assert (under.value, under.low, under.high) == pytest.approx(mirrored)
    assert np.isnan([delong_p(labels, a, constant), delong_p(labels, constant, a)]).all()


@pytest.mark.parametrize("sizes", [(24, 33), (10, 15)])
def test_what_a_test_set_can_show_is_what_simulated_ones_show(sizes: tuple[int, int]) -> None:
    draws, auc, number = stream(0, "prospect"), 0.7, 400
    labels = np.repeat([1, 0], sizes)
    scores = draws.normal(size=(number, sum(sizes))) + np.sqrt(2) * norm.ppf(auc) * labels
    p = mannwhitneyu(scores[:, labels == 1], scores[:, labels == 0], axis=1).pvalue
    expected = prospect(auc, *sizes, num_models=3)
    # 4 standard errors of 400 are .1
    assert np.mean(p < 0.05) == pytest.approx(expected.power, abs=0.1)
    assert np.mean(p < 0.05 / 3) == pytest.approx(expected.corrected_power, abs=0.1)
    widths = [i.high - i.low for i in (delong_interval(labels, row) for row in scores[:100])]
    width = expected.interval.high - expected.interval.low
    assert np.mean(widths) == pytest.approx(width, abs=0.04)


def test_at_chance_the_power_is_the_level() -> None:
    at_chance = prospect(0.5, 24, 33, num_models=1)
    assert at_chance.power == pytest.approx(0.05, abs=0.005)
    assert at_chance.corrected_power == at_chance.power
