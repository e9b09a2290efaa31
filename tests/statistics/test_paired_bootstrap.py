from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from mgmt_ray.base import stream
from mgmt_ray.statistics.intervals import bootstrap_weights
from mgmt_ray.statistics.paired_bootstrap import paired_difference, resample_models

LIBRARY = {"auc": roc_auc_score, "ap": average_precision_score, "brier": brier_score_loss}
LABELS = np.repeat([1, 0], [24, 33])


def predictions(noise: float = 0.02) -> pd.DataFrame:
    """Networks "a" and "b" that nearly agree on each subject, rows in no order."""
    draws = stream(0, "test")
    shared = draws.random(57) * 0.6 + 0.3 * LABELS
    rows = pd.DataFrame(
        {
            "network": np.repeat(["a", "b"], 57),
            "ensemble": "DSC",
            "subject": [f"S{i:03d}" for i in range(57)] * 2,
            "label": np.tile(LABELS, 2),
            "probability": np.tile(shared, 2) + np.repeat([noise, 0], 57) * draws.random(114),
        }
    )
    return rows.sample(frac=1, random_state=1)


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
