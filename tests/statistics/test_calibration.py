from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit
from sklearn.metrics import brier_score_loss

from mgmt_ray.statistics.adapted import CALIBRATION_VERSIONS, Adapted, adapt
from mgmt_ray.statistics.calibration import CALIBRATION_COLUMNS, calibration_table
from mgmt_ray.statistics.intervals import bootstrap_weights
from mgmt_ray.statistics.recalibration import intercept_at_slope_1, logistic_recalibration
from mgmt_ray.statistics.reliability import expected_calibration_error
from mgmt_ray.training.metrics import once
from tests.statistics.conftest import SplitPredictions


@pytest.fixture(scope="module")
def adapted(make_split_predictions: SplitPredictions) -> Adapted:
    validation = make_split_predictions("validation", subjects=range(130))
    return adapt(validation, make_split_predictions("test"))


@pytest.fixture(scope="module")
def table(adapted: Adapted) -> pd.DataFrame:
    return calibration_table(adapted)


def test_the_table_has_each_version_with_its_intervals(
    table: pd.DataFrame, adapted: Adapted
) -> None:
    assert tuple(table.columns) == CALIBRATION_COLUMNS
    assert table["version"].tolist() == list(CALIBRATION_VERSIONS) * 2
    assert set(table["num_subjects"]) == {57}
    for row in table.itertuples():
        own = adapted.probabilities[adapted.probabilities["network"] == row.network]
        p = own[row.version]
        assert row.brier == pytest.approx(brier_score_loss(own["label"], p))
        assert row.brier_low < row.brier < row.brier_high
        assert row.slope_low < row.slope < row.slope_high
        assert row.intercept_low < row.intercept < row.intercept_high
        in_the_large = (
            row.intercept_at_slope_1_low,
            row.intercept_at_slope_1,
            row.intercept_at_slope_1_high,
        )
        assert in_the_large == tuple(sorted(in_the_large))
        assert in_the_large[0] < in_the_large[2]
        assert row.ece == expected_calibration_error(own["label"].to_numpy(), p.to_numpy())


def test_slopes_and_intercepts_follow_from_what_was_applied(table: pd.DataFrame) -> None:
    for _, rows in table.groupby("network"):
        plain, prior, scaled = (r._asdict() for r in rows.itertuples())
        assert (plain["temperature"], plain["prior_shift"], prior["temperature"]) == (1, 0, 1)
        assert prior["prior_shift"] == scaled["prior_shift"] == pytest.approx(logit(0.4))
        # adding s to all log-odds keeps b and lowers a by b·s, dividing by T multiplies b with T
        assert prior["slope"] == pytest.approx(plain["slope"])
        shifted = plain["intercept"] - plain["slope"] * logit(0.4)
        assert prior["intercept"] == pytest.approx(shifted)
        in_the_large = plain["intercept_at_slope_1"] - logit(0.4)
        assert prior["intercept_at_slope_1"] == pytest.approx(in_the_large)
        assert scaled["slope"] == pytest.approx(plain["slope"] * scaled["temperature"])
        assert scaled["intercept"] == pytest.approx(prior["intercept"])
        # validation and test were made too extreme by 2, about so much is undone
        assert 1.2 < scaled["temperature"] < 4
        assert abs(scaled["slope"] - 1) < abs(plain["slope"] - 1)
        assert scaled["brier"] < plain["brier"]


@pytest.mark.parametrize("outers", [(0,), (0, 1)])
def test_estimates_and_bounds_are_those_of_regressions_of_the_resamples(
    outers: tuple[int, ...], make_split_predictions: SplitPredictions
) -> None:
    adapted = adapt(
        make_split_predictions("validation", outers=outers, subjects=range(130)),
        make_split_predictions("test", outers=outers, shared=30),
    )
    table = calibration_table(adapted)
    for row in table.to_dict("records"):
        own = adapted.probabilities[adapted.probabilities["network"] == row["network"]]
        labels = own["label"].to_numpy()
        drawn = bootstrap_weights(labels, 42, stratified=False)
        weights = np.concatenate([once(len(labels)), drawn])
        fitted = logistic_recalibration(labels, logit(own[row["version"]].to_numpy()), weights)
        log_odds = logit(own[row["version"]].to_numpy())
        fitted = (*fitted, intercept_at_slope_1(labels, log_odds, weights))
        for name, values in zip(
            ("slope", "intercept", "intercept_at_slope_1"), fitted, strict=True
        ):
            expected = [values[0], *np.percentile(values[1:], [2.5, 97.5])]
            found = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
            assert found == pytest.approx(expected, rel=1e-6)


def test_separated_classes_have_a_brier_score_and_no_slope(adapted: Adapted) -> None:
    rows = adapted.probabilities
    separated = Adapted(rows.assign(**{"as predicted": 0.2 + 0.6 * rows["label"]}), adapted.fits)
    row = calibration_table(separated).iloc[0]
    assert row["brier"] == pytest.approx(0.04)
    names = [f"{m}{b}" for m in ("slope", "intercept") for b in ("", "_low", "_high")]
    assert row[names].isna().all()


def test_bounds_are_open_where_too_many_resamples_are_separated(adapted: Adapted) -> None:
    rows = adapted.probabilities
    p = 0.3 + 0.4 * rows["label"] + 0.002 * (rows["subject"].rank() % 10)
    p = p.where(rows["subject"] != "test0_000", 0.3)  # the one that makes the classes overlap
    row = calibration_table(Adapted(rows.assign(**{"as predicted": p}), adapted.fits)).iloc[0]
    assert np.isfinite(row["slope"])
    # a third of the resamples lacks that subject
    assert np.isnan([row["slope_low"], row["slope_high"]]).all()


def test_ensembles_take_a_fraction_of_a_second_each(adapted: Adapted) -> None:
    rows = [adapted.probabilities.assign(ensemble=f"e{i}") for i in range(5)]
    fits = [adapted.fits.assign(ensemble=f"e{i}") for i in range(5)]
    many = Adapted(pd.concat(rows, ignore_index=True), pd.concat(fits, ignore_index=True))
    started = time.process_time()
    assert len(calibration_table(many)) == 30
    # measured: 0.1 s each; regressions fitted one after the other would take a minute each
    assert time.process_time() - started < 10
