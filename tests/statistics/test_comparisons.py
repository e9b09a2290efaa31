from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from MLstatkit import Delong_test
from scipy.stats import friedmanchisquare
from sklearn.metrics import brier_score_loss, roc_auc_score
from statsmodels.stats.multitest import multipletests

from mgmt_ray.base import MgmtError, stream
from mgmt_ray.statistics.comparisons import COMPARISON_COLUMNS, comparisons_table

LABELS = np.repeat([1, 0], [24, 33])
NETWORKS = ("spottune", "random", "transfer")


def predictions(
    networks: tuple[str, ...] = NETWORKS, simple: tuple[str, ...] = ("age_sex", "prevalence")
) -> pd.DataFrame:
    models = [(n, e) for n in networks for e in ("DSC", "DTI", "best overall")]
    models += [(name, name) for name in simple]
    tables = [
        pd.DataFrame(
            {
                "network": network,
                "ensemble": ensemble,
                "subject": [f"S{i:03d}" for i in range(57)],
                "label": LABELS,
                "probability": 0.4
                if network == "prevalence"
                else stream(0, network, ensemble).random(57) * 0.7 + 0.2 * LABELS,
                "deviation": 0.0,
                "num_members": 5,
            }
        )
        for network, ensemble in models
    ]
    return pd.concat(tables, ignore_index=True)


def values(table: pd.DataFrame, network: str, ensemble: str) -> np.ndarray:
    chosen = table[(table["network"] == network) & (table["ensemble"] == ensemble)]
    return chosen["probability"].to_numpy()


def test_every_pair_of_networks_and_each_best_ensemble_against_each_simple_model() -> None:
    table = comparisons_table(predictions())
    assert tuple(table.columns) == COMPARISON_COLUMNS
    assert list(table["comparison"]) == [
        *("DSC",) * 3,
        *("DTI",) * 3,
        *("best overall",) * 3,
        *("against age_sex",) * 3,
        *("against prevalence",) * 3,
    ]
    against = table[table["comparison"] == "against age_sex"]
    assert list(against["network_a"]) == list(NETWORKS)
    assert set(against["ensemble_a"]) == {"best overall"}
    assert set(against["network_b"]) == set(against["ensemble_b"]) == {"age_sex"}
    assert set(table["num_subjects"]) == {57}
    assert against.filter(like="friedman").isna().all(axis=None)


def test_a_rows_numbers_are_those_of_the_libraries() -> None:
    given = predictions()
    table = comparisons_table(given)
    row = table[(table["comparison"] == "DTI") & (table["network_b"] == "transfer")].iloc[0]
    a, b = values(given, "spottune", "DTI"), values(given, "transfer", "DTI")
    assert row["delong_p"] == pytest.approx(Delong_test(LABELS, a, b)[1])
    auc = roc_auc_score(LABELS, a) - roc_auc_score(LABELS, b)
    assert row["auc_difference"] == pytest.approx(auc)
    brier = brier_score_loss(LABELS, a) - brier_score_loss(LABELS, b)
    assert row["brier_difference"] == pytest.approx(brier)
    for metric in ("auc", "ap", "brier"):
        of = f"{metric}_difference"
        assert row[f"{of}_low"] < row[of] < row[f"{of}_high"]
    wide = [values(given, network, "DTI") for network in NETWORKS]
    on_probabilities = friedmanchisquare(*wide)
    assert row["friedman_chi2"] == pytest.approx(on_probabilities.statistic)
    assert row["friedman_p"] == pytest.approx(on_probabilities.pvalue)
    on_errors = friedmanchisquare(*((p - LABELS) ** 2 for p in wide))
    assert row["error_friedman_chi2"] == pytest.approx(on_errors.statistic)
    assert row["error_friedman_p"] == pytest.approx(on_errors.pvalue)
    assert 0 <= row["nemenyi_p"] <= 1
    assert row["nemenyi_p"] != row["error_nemenyi_p"]


def test_holm_counts_each_ensembles_friedman_test_once() -> None:
    table = comparisons_table(predictions())
    first = table[:9].drop_duplicates("comparison")
    for name in ("friedman_p", "error_friedman_p"):
        expected = multipletests(first[name], method="holm")[1]
        assert list(first[f"{name}_holm"]) == pytest.approx(expected)
        assert (table[f"{name}_holm"] >= table[name])[:9].all()
    expected = multipletests(table["delong_p"], method="holm")[1]
    assert list(table["delong_p_holm"]) == pytest.approx(expected)


def test_two_networks_differ_by_pairs_only() -> None:
    table = comparisons_table(predictions(("spottune", "random"), simple=()))
    assert list(table["comparison"]) == ["DSC", "DTI", "best overall"]
    assert table.filter(regex="friedman|nemenyi").isna().all(axis=None)
    assert table[["auc_difference", "auc_difference_low", "delong_p"]].notna().all(axis=None)


def test_a_single_network_is_compared_with_simple_models_only() -> None:
    table = comparisons_table(predictions(("spottune",)))
    assert list(table["comparison"]) == ["against age_sex", "against prevalence"]
    alone = comparisons_table(predictions(("spottune",), simple=()))
    assert alone.empty
    assert tuple(alone.columns) == COMPARISON_COLUMNS


def test_simple_models_do_not_enter_friedmans_test() -> None:
    columns = ["friedman_chi2", "error_friedman_chi2"]
    without = comparisons_table(predictions(simple=()))[columns]
    pd.testing.assert_frame_equal(comparisons_table(predictions())[columns][:9], without)


def test_different_subjects_are_refused_by_name() -> None:
    given = predictions()
    lost = (given["subject"] == "S003") & (given["ensemble"] == "DSC")
    with pytest.raises(MgmtError, match="DSC: S003 not predicted by all"):
        comparisons_table(given[~(lost & (given["network"] == "random"))])
    lost = (given["subject"] == "S004") & (given["network"] == "age_sex")
    with pytest.raises(MgmtError, match="against age_sex: S004 not predicted by all"):
        comparisons_table(given[~lost])


def test_two_labels_of_one_subject_are_refused() -> None:
    torn = predictions()
    torn.loc[0, "label"] = 0
    with pytest.raises(MgmtError, match="two labels for S000"):
        comparisons_table(torn)
