from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import permutation_test
from sklearn.metrics import roc_auc_score

from mgmt_ray.base import stream
from mgmt_ray.statistics.permutation import permutation_p, permuted_labels


@pytest.mark.parametrize("decimals", [1, 3])
def test_p_values_agree_with_scipys_exact_ones(decimals: int) -> None:
    draws = stream(decimals, "test")
    labels = np.repeat([1, 0], [4, 6])
    permuted = permuted_labels(labels, seed=42, num_permutations=20_000)
    for _ in range(5):
        values = (draws.random(10) + 0.3 * labels).round(decimals)
        exact = permutation_test(
            (values[labels == 1], values[labels == 0]),
            lambda a, b: round(abs(roc_auc_score(labels, np.concatenate([a, b])) - 0.5), 9),
            alternative="greater",
            n_resamples=np.inf,
        ).pvalue
        # 4 standard errors of 20,000 permutations are at most 0.014
        assert permutation_p(labels, values, permuted) == pytest.approx(exact, abs=0.014)


def test_the_p_value_counts_what_was_seen_and_is_the_plain_loops() -> None:
    labels = np.repeat([1, 0], [8, 12])
    values = stream(3, "test").random(20).round(1)
    permuted = permuted_labels(labels, seed=1, num_permutations=200)
    far = abs(roc_auc_score(labels, values) - 0.5)
    as_far = sum(abs(roc_auc_score(row, values) - 0.5) >= far - 1e-12 for row in permuted)
    assert permutation_p(labels, values, permuted) == (1 + as_far) / 201
    assert permutation_p(labels, 1 - values, permuted) == (1 + as_far) / 201


def test_perfect_separation_has_the_least_p_value_and_a_constant_the_greatest() -> None:
    labels = np.repeat([0, 1], [33, 24])
    permuted = permuted_labels(labels, seed=42)
    assert permutation_p(labels, np.linspace(0, 1, 57), permuted) == 1 / 10_000
    assert permutation_p(labels, np.linspace(1, 0, 57), permuted) == 1 / 10_000
    assert permutation_p(labels, np.full(57, 0.4), permuted) == 1


def test_every_row_holds_the_same_labels_in_an_order_that_the_seed_decides() -> None:
    labels = np.repeat([0, 1], [33, 24])
    permuted = permuted_labels(labels, seed=1)
    assert (permuted.sum(axis=1) == 24).all()
    # 4 standard errors of a share of 24/57 at 9,999 rows are 0.02; 57 subjects
    np.testing.assert_allclose(permuted.mean(axis=0), 24 / 57, atol=0.022)
    np.testing.assert_array_equal(permuted, permuted_labels(labels, seed=1))
    assert (permuted != permuted_labels(labels, seed=2)).any()
