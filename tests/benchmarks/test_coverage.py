from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm

from benchmarks.coverage import Cell, Options, measure, outside
from mgmt_ray.training.metrics import auc, average_precision, brier, unit_weights


def test_the_true_values_are_those_of_a_large_sample() -> None:
    cell = Cell(24, 33, 0.8)
    labels = np.repeat([1, 0], [240_000, 330_000])
    noise = np.random.default_rng(0).normal(size=len(labels))
    p = expit(noise + cell.shift * labels - cell.shift / 2)
    truth, sample = cell.truth(), unit_weights(len(labels))
    for name, metric in {"auc": auc, "ap": average_precision, "brier": brier}.items():
        # 570,000 subjects: standard errors below .001
        assert metric(labels, p, sample)[0] == pytest.approx(truth[name], abs=0.004)
    assert (p[labels == 1] >= 0.5).mean() == pytest.approx(truth["sen"], abs=0.005)
    assert labels[p >= 0.5].mean() == pytest.approx(truth["ppv"], abs=0.005)
    # log P(score | methylated) / P(score | unmethylated) is linear in the score
    score = logit(p[:3]) + cell.shift / 2
    odds = logit(24 / 57) + norm.logpdf(score - cell.shift) - norm.logpdf(score)
    assert truth["intercept"] + truth["slope"] * logit(p[:3]) == pytest.approx(odds)
    assert expit(truth["intercept_at_slope_1"] + logit(p)).mean() == pytest.approx(
        24 / 57, abs=0.002
    )


def test_every_interval_and_test_is_counted() -> None:
    options = Options(
        simulations=4, slow_simulations=2, sizes=((7, 9),), aucs=(0.5,), permutations=99
    )
    found = measure(options)
    cells = found["cells"]
    assert isinstance(cells, dict)
    (cell,) = cells.values()
    assert {"auc", "ap", "brier", "sen", "npv", "ap difference"} <= set(cell["intervals"])
    assert {"calibration slope", "auc by patient", "accuracy by slice"} <= set(cell["intervals"])
    assert {"delong", "permutation", "error friedman"} <= set(cell["tests"])
    for shares in cell["intervals"].values():
        assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert found == measure(options)


def test_what_is_not_wanted_is_named() -> None:
    cell = {
        "intervals": {"auc": [0.95, 0.03, 0.02], "ap": [0.9, 0.05, 0.05], "sen": [0.95, 0.0, 0.05]},
        "tests": {"delong": [0.05], "friedman": [0.07]},
    }
    named = [text.split(":")[0] for text in outside({"24/33 0.5": cell})]
    assert named == ["24/33 0.5 ap", "24/33 0.5 sen", "24/33 0.5 friedman"]
