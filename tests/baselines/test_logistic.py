from __future__ import annotations

import numpy as np
import pytest

from mgmt_ray.baselines.logistic import fit_logistic


def drawn(number: int = 80) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    values = np.stack([random.normal(60, 12, number), random.choice([-0.5, 0.5], number)], axis=1)
    chance = 1 / (1 + np.exp(-(values[:, 0] - 60) / 15 - values[:, 1]))
    return values, (random.uniform(size=number) < chance).astype(np.int64)


def newton(scaled: np.ndarray, labels: np.ndarray) -> np.ndarray:
    design = np.column_stack([np.ones(len(scaled)), scaled])
    weights = np.zeros(design.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ weights))
        hessian = design.T @ (design * (p * (1 - p))[:, None])
        weights += np.linalg.solve(hessian, design.T @ (labels - p))
    return 1 / (1 + np.exp(-design @ weights))


def test_the_fit_is_that_of_maximum_likelihood() -> None:
    values, labels = drawn()
    model = fit_logistic(values, labels, ("age", "sex"), ("median", "mode"))
    # L-BFGS ends at a gradient of 1e-8, Newton at rounding
    assert model.predict(values) == pytest.approx(newton(values - [60, 0], labels), abs=1e-6)
    # without a penalty the mean prediction is the share of methylated
    assert model.predict(values).mean() == pytest.approx(labels.mean(), abs=1e-7)


def test_a_missing_value_becomes_the_trainings_median_or_most_frequent() -> None:
    values, labels = drawn()
    values[:3, 0] = np.nan
    values[3:8, 1] = np.nan
    model = fit_logistic(values, labels, ("age", "sex"), ("median", "mode"))
    age, sex = model.columns
    known = values[8:, 1].tolist() + values[:3, 1].tolist()
    often = max((-0.5, 0.5), key=known.count)
    assert (age.num_filled, sex.num_filled) == (3, 5)
    assert age.fill == np.nanmedian(values[:, 0])
    assert sex.fill == often
    unknown = np.array([[np.nan, np.nan], [np.nanmedian(values[:, 0]), often]])
    first, second = model.predict(unknown)
    assert first == second


def test_a_prediction_does_not_depend_on_the_other_subjects() -> None:
    values, labels = drawn()
    model = fit_logistic(values[:60], labels[:60], ("age", "sex"), ("median", "mode"))
    alone = model.predict(values[60:61])
    assert alone[0] == pytest.approx(model.predict(values)[60], rel=1e-12)
    values[0, 0] += 1
    changed = fit_logistic(values[:60], labels[:60], ("age", "sex"), ("median", "mode"))
    assert changed.checksum != model.checksum


def test_a_constant_column_has_no_weight() -> None:
    values, labels = drawn()
    values[:, 1] = 0.5
    model = fit_logistic(values, labels, ("age", "sex"), ("median", "mode"))
    assert model.columns[1].weight == pytest.approx(0.0, abs=1e-9)
    assert np.isfinite(model.predict(values)).all()
