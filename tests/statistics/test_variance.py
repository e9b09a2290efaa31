from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mgmt_ray.base import stream
from mgmt_ray.selection.ensembles import ensemble
from mgmt_ray.statistics.model_intervals import resample_models
from mgmt_ray.statistics.variance import VARIANCE_COLUMNS, row_aucs, simulated_aucs, variance_table
from tests.statistics.conftest import PAPER_LABELS as LABELS
from tests.statistics.conftest import member_table, row_of

GROUPS = {"DSC": ("PH", "PSR")}


def members(num_seeds: int = 2, num_folds: int = 3, deviation: float = 0.1) -> pd.DataFrame:
    tables = [
        member_table(
            LABELS,
            stream(0, modality, fold, seed).random(57) * 0.8 + 0.2 * LABELS,
            modality=modality,
            fold=fold,
            trial=f"{modality}-{fold}-{seed}",
            probability_std=deviation,
        )
        for modality in GROUPS["DSC"]
        for fold in range(num_folds)
        for seed in range(num_seeds)
    ]
    return pd.concat(tables, ignore_index=True)


def table(given: pd.DataFrame) -> pd.DataFrame:
    average = partial(ensemble, ensembles=GROUPS)
    seeds = {trial: int(trial[-1]) for trial in given["trial"]}
    variance = variance_table(average(given), given, seeds, average)
    assert tuple(variance.columns) == VARIANCE_COLUMNS
    return variance


def source(variance: pd.DataFrame, name: str, what: str) -> Mapping[Any, Any]:
    return row_of(variance, ensemble=name, source=what)


def auc_of(rows: pd.DataFrame) -> float:
    """Of the mean probability; here modalities have equally many members."""
    means = rows.groupby("subject")[["probability", "label"]].mean()
    return float(roc_auc_score(means["label"], means["probability"]))


def test_folds_and_seeds_scatter_as_the_ensembles_of_their_members_alone() -> None:
    given = members()
    variance = table(given)
    folds, seeds = source(variance, "DSC", "folds"), source(variance, "DSC", "seeds")
    by_fold = [auc_of(rows) for _, rows in given.groupby("fold")]
    by_seed = [auc_of(rows) for _, rows in given.groupby(given["trial"].str[-1])]
    assert (folds["num"], seeds["num"]) == (3, 2)
    assert folds["auc_std"] == pytest.approx(np.std(by_fold, ddof=1))
    assert seeds["auc_std"] == pytest.approx(np.std(by_seed, ddof=1))
    of_ph = given[given["modality"] == "PH"]
    alone = [auc_of(rows) for _, rows in of_ph.groupby("fold")]
    assert source(variance, "PH", "folds")["auc_std"] == pytest.approx(np.std(alone, ddof=1))


def test_what_there_is_one_of_has_no_standard_deviation() -> None:
    variance = table(members(num_seeds=1, num_folds=1))
    for what in ("folds", "seeds"):
        row = source(variance, "DSC", what)
        assert row["num"] == 1
        assert np.isnan(row["auc_std"])


def test_subjects_scatter_as_the_bootstrap() -> None:
    given = members()
    model = resample_models(ensemble(given, GROUPS), seed=42)["spottune", "DSC"]
    row = source(table(given), "DSC", "subjects")
    assert row["num"] == 2000
    assert row["auc_std"] == pytest.approx(model.resamples["auc"].std(ddof=1))


def test_single_draws_scatter_as_those_of_the_members() -> None:
    given = members(deviation=0.05)
    draws = stream(0, "draws of members")
    noise = 0.05 * draws.normal(size=(200, len(given)))
    noisy = given["probability"].to_numpy() + noise  # 12 members of 57 subjects each
    modelled = row_aucs(LABELS, noisy.reshape(200, 12, 57).mean(axis=1))
    row = source(table(given), "DSC", "draws")
    assert row["num"] == 500
    # A standard deviation of 200 has a standard error of 5 %, one of 500 of 3 %; 4 of them.
    assert row["auc_std"] == pytest.approx(np.std(modelled, ddof=1), rel=0.24)


def test_a_network_that_draws_nothing_does_not_scatter_by_draws() -> None:
    assert source(table(members(deviation=0.0)), "DSC", "draws")["auc_std"] == 0


def test_simulated_probabilities_are_clipped_to_their_range() -> None:
    labels, middle = np.array([1, 0]), np.array([0.5, 0.5])
    areas = simulated_aucs(labels, middle, np.full(2, 1e6), seed=0, num_simulations=4000)
    # Both end at 0 or 1 with equal chance, so half of the pairs tie: AUC 0.5. Unclipped, none do.
    # 4 standard errors at 4000 are 0.032.
    assert (areas == 0.5).mean() == pytest.approx(0.5, abs=0.032)
    assert (areas == 1).mean() == pytest.approx(0.25, abs=0.028)


def test_each_rows_auc_is_scikit_learns_ties_included() -> None:
    rows = stream(0, "rows").random((5, 57)).round(1)
    expected = [roc_auc_score(LABELS, row) for row in rows]
    np.testing.assert_allclose(row_aucs(LABELS, rows), expected, rtol=1e-12)
