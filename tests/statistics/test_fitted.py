from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from mgmt_ray.base import stream
from mgmt_ray.statistics.fitted import (
    TEMPERATURES,
    choose_threshold,
    fit_temperature,
    logits,
    prior_shift,
)
from mgmt_ray.training.metrics import criterion_m


def plain_threshold(labels: np.ndarray, p: np.ndarray) -> float:
    """The same choice, one candidate after the other."""
    best, chosen = (-1.0, 0.0), 0.5
    values = sorted(set(p.tolist()))
    for a, b in pairwise(values):
        t = (a + b) / 2
        sen = sum(x >= t for x in p[labels == 1]) / sum(labels == 1)
        spe = sum(x < t for x in p[labels == 0]) / sum(labels == 0)
        found = (round(criterion_m(sen, spe), 12), -abs(t - 0.5))
        if sen > 0.5 and spe > 0.5 and found > best:
            best, chosen = found, t
    return chosen


def test_the_threshold_is_the_one_that_a_plain_search_finds() -> None:
    draws = stream(0, "test")
    chosen = []
    for _ in range(60):
        labels = (np.arange(57) < 24).astype(int)
        # rounded: ties between subjects
        p = np.round(expit(draws.normal(size=57) + 0.8 * labels - 1.0), 2)
        chosen.append(choose_threshold(labels, p))
        assert chosen[-1] == pytest.approx(plain_threshold(labels, p), abs=1e-12)
    assert len(set(chosen)) > 20


def test_of_equally_good_thresholds_the_nearest_to_one_half_is_taken() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert choose_threshold(labels, np.array([0.1, 0.1, 0.1, 0.4, 0.4, 0.4])) == 0.25
    # 0.15 and 0.85: SEN 1, SPE 2/3 and SEN 2/3, SPE 1 differ in M, so the lower one
    p = np.array([0.1, 0.1, 0.2, 0.1, 0.9, 0.9])
    assert choose_threshold(labels, p) == pytest.approx(0.55)
    # an unmethylated one at 0.3 and a methylated one below it, M the same on both sides of 0.35
    p = np.array([0.1, 0.1, 0.3, 0.4, 0.45, 0.7])
    assert choose_threshold(labels, p) == pytest.approx(0.35)
    p = np.array([0.0, 0.2, 0.2, 0.8, 0.8, 1.0])
    assert choose_threshold(labels, p) == pytest.approx(0.5)


def test_equal_m_is_settled_by_the_distance_to_one_half() -> None:
    # Two thresholds: 0.25 has SEN 4/4, SPE 2/4; 0.6 has 3/4, SPE 4/4; scaled so that M is equal:
    # 0.6·a + 0.4·b with (a, b) = (1, 0.6) and (0.8, 0.9) gives 0.84 both.
    labels = np.array([1] * 10 + [0] * 10)
    p = np.array([0.4] * 2 + [0.9] * 8 + [0.4] * 3 + [0.1] * 6 + [0.95])
    assert criterion_m(1.0, 0.6) == pytest.approx(criterion_m(0.8, 0.9))
    assert choose_threshold(labels, p) == pytest.approx(0.65)
    assert choose_threshold(labels, p - 0.15) == pytest.approx(0.5)
    assert choose_threshold(labels, np.minimum(p + 0.25, 0.99)) == pytest.approx(0.5)


@pytest.mark.parametrize("p", [np.full(6, 0.3), np.array([0.9, 0.8, 0.7, 0.1, 0.2, 0.3])])
def test_where_no_threshold_qualifies_one_half_stays(p: np.ndarray) -> None:
    assert choose_threshold(np.array([0, 0, 0, 1, 1, 1]), p) == 0.5


def test_a_threshold_between_neighbouring_numbers_does_not_call_the_lower() -> None:
    low = 0.6
    for lower in (low, np.nextafter(low, 1)):
        upper = np.nextafter(lower, 1)
        t = choose_threshold(np.array([0, 1]), np.array([lower, upper]))
        assert lower < t <= upper


def test_the_shift_is_bayes_rule_with_another_prior() -> None:
    p, prior, prevalence = np.array([0.2, 0.5, 0.9]), np.full(3, 0.5), np.full(3, 0.4)
    ones = p * prevalence / prior
    others = (1 - p) * (1 - prevalence) / (1 - prior)
    shifted = expit(logits(p) + prior_shift(prior, prevalence))
    np.testing.assert_allclose(shifted, ones / (ones + others), rtol=1e-12)
    np.testing.assert_allclose(prior_shift(prevalence, prevalence), 0.0)


def test_log_odds_are_finite() -> None:
    np.testing.assert_allclose(logits(np.array([0.0, 0.3, 1.0])), logit([1e-6, 0.3, 1 - 1e-6]))


def test_the_temperature_is_the_one_that_gradient_descent_finds() -> None:
    draws = stream(1, "test")
    for sharpness in (0.3, 1.0, 4.0):
        labels = (np.arange(150) < 60).astype(int)
        z = sharpness * (draws.normal(size=150) + labels - 0.5)
        log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
        step = torch.optim.LBFGS([log_temperature], max_iter=200, tolerance_grad=1e-12)
        scores, target = torch.from_numpy(z), torch.from_numpy(labels).double()

        def closure(
            scores: torch.Tensor = scores,
            target: torch.Tensor = target,
            t: torch.Tensor = log_temperature,
            step: torch.optim.Optimizer = step,
        ) -> torch.Tensor:
            step.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(scores / t.exp(), target)
            loss.backward()
            return loss

        step.step(closure)
        # the minimum is flat: a search by values finds it to the root of the rounding, 1e-8
        assert fit_temperature(labels, z) == pytest.approx(log_temperature.exp().item(), rel=1e-4)


def test_probabilities_made_too_extreme_get_their_factor_as_temperature() -> None:
    draws = stream(2, "test")
    z = draws.normal(0, 1.5, 20_000)
    labels = (draws.random(20_000) < expit(z)).astype(int)
    # measured over 20 seeds: deviation 0.05 of 3
    assert fit_temperature(labels, 3 * z) == pytest.approx(3.0, abs=0.2)


def test_a_temperature_without_an_end_stops_at_its_bound() -> None:
    labels = np.array([0, 0, 1, 1])
    separated = np.array([-1.0, -2.0, 1.0, 2.0])
    assert fit_temperature(labels, separated) == pytest.approx(TEMPERATURES[0], rel=1e-3)
    assert fit_temperature(labels, -separated) == pytest.approx(TEMPERATURES[1], rel=1e-3)
    assert fit_temperature(labels, np.zeros(4)) == 1.0
