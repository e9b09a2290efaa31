from __future__ import annotations

import math

import numpy as np
import pytest

from mgmt_ray.baselines.baseline_inputs import Baselines
from mgmt_ray.baselines.first_order import (
    FIRST_ORDER_FEATURES,
    first_order_features,
    fit_first_order,
)
from mgmt_ray.baselines.fit_baselines import (
    FittedBaseline,
    fit_baselines,
    predict_validation,
)
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.splits.split import Split


def test_features_are_those_of_the_tumours_voxels_wherever_they_lie() -> None:
    volume = np.zeros((4, 5, 6), np.float16)
    volume[1, 2, :4] = (0.25, 0.5, 0.25, 1.0)
    # by hand: mean 1/2, deviations -1/4, 0, -1/4, 1/2: m2 = 3/32, m3 = 3/128
    expected = (0.5, math.sqrt(3 / 32), (3 / 128) / (3 / 32) ** 1.5, math.log(4))
    assert first_order_features(volume) == pytest.approx(expected, rel=1e-12)
    moved = np.random.default_rng(0).permutation(volume.ravel()).reshape(volume.shape)
    assert first_order_features(moved) == pytest.approx(expected, rel=1e-12)


def test_a_constant_tumour_has_features_without_nan() -> None:
    assert first_order_features(np.full((2, 1, 1), 0.5)) == (0.5, 0.0, 0.0, math.log(2))


def test_the_regression_finds_a_difference_of_deviation() -> None:
    random = np.random.default_rng(1)
    labels = np.arange(80) % 2
    volumes = 0.5 + 0.05 * (1 + labels[:, None, None, None]) * random.normal(size=(80, 4, 4, 4))
    features = np.array([first_order_features(volume) for volume in volumes])
    model = fit_first_order(features[:40], labels[:40])
    assert [column.name for column in model.columns] == [*FIRST_ORDER_FEATURES]
    assert ((model.predict(features[40:]) > 0.5) == labels[40:]).mean() > 0.9


def test_each_modality_has_a_model_of_its_training_subjects_alone() -> None:
    ids = [f"S{i:02}" for i in range(16)]
    cohort = Cohort(tuple(Subject(name, i % 2, {}, None) for i, name in enumerate(ids)))
    split = Split(tuple(ids[:4]), (tuple(ids[4:10]), tuple(ids[10:])), (), seed=0, cohort="")
    random = np.random.default_rng(2)
    rows = {name: tuple(random.normal(size=4).tolist()) for name in ids}

    def fit(values: dict[str, tuple[float, ...]]) -> tuple[list[FittedBaseline], Baselines]:
        without_s15 = {name: row for name, row in values.items() if name != "S15"}
        by_model = {("first_order", "PH"): values, ("first_order", "T1"): without_s15}
        baselines = Baselines(values=by_model)
        resources = Resources(backend="in-process")
        return fit_baselines(baselines, cohort, [split], resources, lambda *_: None), baselines

    fitted, baselines = fit(rows)
    assert [baseline.task.trial for baseline in fitted] == [
        f"first_order-{modality}-outer0-fold{fold}" for modality in ("PH", "T1") for fold in (0, 1)
    ]
    assert [len(baseline.task.labels) for baseline in fitted] == [6, 6, 5, 6]
    validated = predict_validation(fitted, baselines, cohort, [split])
    assert [table["modality"].iloc[0] for table in validated] == ["PH", "PH", "T1", "T1"]
    assert validated[-1]["subject"].tolist() == ids[10:15]
    other_test, _ = fit(
        {name: row if i > 3 else (9.0,) * 4 for i, (name, row) in enumerate(rows.items())}
    )
    assert [b.model.checksum for b in other_test] == [b.model.checksum for b in fitted]
