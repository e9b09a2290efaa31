from __future__ import annotations

import math

import numpy as np
import pytest

from mgmt_ray.statistics.over_folds import (
    deviation_over_models,
    known_interval,
    mean_over_models,
)

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
    assert deviation_over_models(values, outers) == pytest.approx(0.1)


def test_test_sets_that_differ_are_no_deviation_of_folds() -> None:
    outers = np.array([0, 0, 1, 1])
    assert deviation_over_models(np.array([0.5, 0.5, 0.9, 0.9]), outers) == 0
    # squares 2·0.1² in the first split, 0 in the second, over 1 + 1 degrees of freedom
    found = deviation_over_models(np.array([0.4, 0.6, 0.9, 0.9]), outers)
    assert found == pytest.approx(0.1)


def test_one_model_of_each_split_has_no_deviation() -> None:
    assert math.isnan(deviation_over_models(np.array([0.5, 0.9]), np.array([0, 1])))


def test_resamples_without_a_value_do_not_count() -> None:
    resampled = np.array([0.0, NAN, 1.0, NAN])
    interval = known_interval(0.5, resampled)
    assert (interval.low, interval.high) == pytest.approx((0.025, 0.975))
    assert math.isnan(known_interval(0.5, resampled[[1, 3]]).low)
