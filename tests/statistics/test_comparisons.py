from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from MLstatkit import Delong_test
from scipy.stats import friedmanchisquare, permutation_test, rankdata, studentized_range, t
from sklearn.metrics import brier_score_loss, roc_auc_score
from statsmodels.stats.multitest import multipletests

from mgmt_ray.base import MgmtError, stream
from mgmt_ray.statistics.comparisons import (
    COMPARISON_COLUMNS,
    compare_networks,
    comparisons_table,
    holm,
    permutation_p,
    permuted_labels,
)
from tests.statistics.conftest import PAPER_LABELS as LABELS
from tests.statistics.conftest import model_table, row_of

NETWORKS = ("spottune", "random", "transfer")


def probabilities(network: str, ensemble: str) -> np.ndarray:
    if network == "prevalence":
        return np.full(57, 0.4)
    return stream(0, network, ensemble).random(57) * 0.7 + 0.2 * LABELS


def predictions(
    networks: tuple[str, ...] = NETWORKS, simple: tuple[str, ...] = ("age_sex", "prevalence")
) -> pd.DataFrame:
    models = [(n, e) for n in networks for e in ("DSC", "DTI", "best overall")]
    models += [(name, name) for name in simple]
    tables = [model_table(LABELS, probabilities(n, e), network=n, ensemble=e) for n, e in models]
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return comparisons_table(predictions())


def test_every_pair_of_networks_and_each_best_ensemble_against_each_simple_model(
    table: pd.DataFrame,
) -> None:
    assert tuple(table.columns) == COMPARISON_COLUMNS
    assert list(table["comparison"]) == [
        *("DSC",) * 3,
        *("DTI",) * 3,
        *("best overall",) * 3,
        *("against age_sex",) * 3,
        *("against prevalence",) * 3,
    ]
    against = table[table["comparison"] == "against age_sex"]
    # networks keep their order
    assert list(against["network_a"]) == list(NETWORKS)
    assert list(table["network_b"][:3]) == ["random", "transfer", "transfer"]
    assert set(against["ensemble_a"]) == {"best overall"}
    assert set(against["network_b"]) == set(against["ensemble_b"]) == {"age_sex"}
    assert set(table["num_subjects"]) == {57}
    assert against.filter(like="friedman").isna().all(axis=None)


def test_a_rows_numbers_are_those_of_the_libraries(table: pd.DataFrame) -> None:
    row = row_of(table, comparison="DTI", network_a="spottune", network_b="transfer")
    a, b = probabilities("spottune", "DTI"), probabilities("transfer", "DTI")
    z = Delong_test(LABELS, a, b)[0]
    assert row["delong_p"] == pytest.approx(2 * t.sf(abs(z), 55))
    auc = roc_auc_score(LABELS, a) - roc_auc_score(LABELS, b)
    assert row["auc_difference"] == pytest.approx(auc)
    brier = brier_score_loss(LABELS, a) - brier_score_loss(LABELS, b)
    assert row["brier_difference"] == pytest.approx(brier)
    for metric in ("auc", "ap", "brier"):
        of = f"{metric}_difference"
        assert row[f"{of}_low"] < row[of] < row[f"{of}_high"]
    wide = [probabilities(network, "DTI") for network in NETWORKS]
    on_probabilities = friedmanchisquare(*wide)
    assert row["friedman_chi2"] == pytest.approx(on_probabilities.statistic)
    assert row["friedman_p"] == pytest.approx(on_probabilities.pvalue)
    on_errors = friedmanchisquare(*((p - LABELS) ** 2 for p in wide))
    assert row["error_friedman_chi2"] == pytest.approx(on_errors.statistic)
    assert row["error_friedman_p"] == pytest.approx(on_errors.pvalue)
    assert 0 <= row["nemenyi_p"] <= 1
    assert row["nemenyi_p"] != row["error_nemenyi_p"]


def test_holm_counts_each_ensembles_friedman_test_once_within_its_family(
    table: pd.DataFrame,
) -> None:
    first = table[:9].drop_duplicates("comparison").set_index("comparison")
    for name in ("friedman_p", "error_friedman_p"):
        secondary = first.loc[["DSC", "DTI"]]
        assert list(secondary[f"{name}_holm"]) == list(holm(secondary[name].to_numpy()))
        best = first.loc["best overall"]
        assert best[f"{name}_holm"] == best[name]
    families = table.groupby("family")
    assert families.size().to_dict() == {"": 3, "primary": 6, "secondary": 6}
    for _, rows in families:
        assert rows["delong_p_holm"].tolist() == pytest.approx(
            holm(rows["delong_p"].to_numpy()).tolist(), nan_ok=True
        )


def test_no_model_is_tested_against_one_half_once_more(table: pd.DataFrame) -> None:
    rows = table[table["comparison"] == "against prevalence"]
    assert rows[["delong_p", "delong_p_holm"]].isna().all(axis=None)
    assert set(rows["family"]) == {""} and rows["auc_difference_low"].notna().all()


def test_a_comparison_of_the_same_models_under_other_names_has_no_test() -> None:
    given = predictions()
    copied = given[given["ensemble"] == "best overall"].assign(ensemble="Struct")
    # means in another order differ in the last bit
    copied["probability"] += 1e-12
    partly = given[given["ensemble"] == "DTI"].assign(ensemble="FA")
    partly.loc[partly["network"] == "spottune", "probability"] **= 2
    table = comparisons_table(pd.concat([given, copied, partly]))
    struct, fa = (table[table["comparison"] == name] for name in ("Struct", "FA"))
    assert set(struct["copy_of"]) == {"best overall"} and set(struct["family"]) == {""}
    assert struct.filter(regex="_p$|_holm$|chi2").isna().all(axis=None)
    assert struct["auc_difference_low"].notna().all()
    assert fa["copy_of"].tolist() == ["", "", "DTI"]
    assert fa["delong_p"].isna().tolist() == [False, False, True]
    assert fa[["friedman_p", "friedman_p_holm"]].notna().all(axis=None)
    without = comparisons_table(pd.concat([given, partly]))
    same = table[table["comparison"] != "Struct"].reset_index(drop=True)
    pd.testing.assert_frame_equal(same, without)


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


def test_simple_models_do_not_enter_friedmans_test(table: pd.DataFrame) -> None:
    columns = ["friedman_chi2", "error_friedman_chi2"]
    without = comparisons_table(predictions(simple=()))[columns]
    pd.testing.assert_frame_equal(table[columns][:9], without)


def test_different_subjects_are_refused_by_name() -> None:
    given = predictions()
    lost = (given["subject"] == "S003") & (given["ensemble"] == "DSC")
    with pytest.raises(MgmtError, match="DSC: S003 not predicted by all"):
        comparisons_table(given[~(lost & (given["network"] == "random"))])
    lost = (given["subject"] == "S004") & (given["network"] == "age_sex")
    with pytest.raises(MgmtError, match="against age_sex: S004 not predicted by all"):
        comparisons_table(given[~lost])
    with pytest.raises(MgmtError, match="DSC: S000 predicted twice"):
        comparisons_table(pd.concat([given, given[:1]]))


def test_two_labels_of_one_subject_are_refused() -> None:
    contradictory = predictions()
    contradictory.loc[0, "label"] = 0
    with pytest.raises(MgmtError, match="two labels for S000"):
        comparisons_table(contradictory)


def test_friedman_is_scipys_and_nemenyi_follows_its_definition() -> None:
    values = stream(0, "test").random((57, 3)) + np.array([0.0, 0.1, 0.3])
    result = compare_networks(values, NETWORKS)
    expected = friedmanchisquare(*values.T)
    assert (result.chi2, result.p) == (expected.statistic, expected.pvalue)
    ranks = rankdata(values, axis=1).mean(axis=0)
    for (network_a, network_b), p in result.pairs.items():
        apart = abs(ranks[NETWORKS.index(network_a)] - ranks[NETWORKS.index(network_b)])
        q = apart / np.sqrt(3 * 4 / (6 * 57)) * np.sqrt(2)
        # Demšar 2006, sec. 3.2.2; the tail is computed to about 1e-9.
        assert p == pytest.approx(studentized_range.sf(q, 3, np.inf), abs=1e-6)
    assert list(result.pairs) == [
        ("spottune", "random"),
        ("spottune", "transfer"),
        ("random", "transfer"),
    ]


def test_a_shifted_network_differs_from_the_others_only() -> None:
    values = stream(1, "test").random((57, 3))
    values[:, 2] += 2
    result = compare_networks(values, NETWORKS)
    assert result.pairs["spottune", "transfer"] < 0.001
    assert result.pairs["random", "transfer"] < 0.001
    assert result.pairs["spottune", "random"] > 0.05


def test_identical_networks_have_no_p_value() -> None:
    values = np.repeat(stream(1, "test").random((10, 1)), 3, axis=1)
    result = compare_networks(values, NETWORKS)
    assert np.isnan([result.chi2, result.p, *result.pairs.values()]).all()


def test_corrected_values_are_those_of_statsmodels() -> None:
    draws = stream(0, "holm")
    for size in (1, 40):  # statsmodels collects all garbage at each call: a second
        p = draws.random(size).round(2) ** 2  # with ties, 0 and 1
        np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], rtol=1e-12)


def test_tests_that_were_not_made_are_not_counted() -> None:
    corrected = holm(np.array([np.nan, 0.01, 0.04, np.nan, 0.03]))
    np.testing.assert_allclose(corrected, [np.nan, 0.03, 0.06, np.nan, 0.06])


def test_nothing_is_corrected_to_nothing() -> None:
    assert holm(np.array([])).shape == (0,)
    assert np.isnan(holm(np.array([np.nan]))).all()


@pytest.mark.parametrize("decimals", [1, 3])
def test_p_values_agree_with_scipys_exact_ones(decimals: int) -> None:
    draws = stream(decimals, "test")
    labels = np.repeat([1, 0], [4, 6])
    permuted = permuted_labels(labels, seed=42, num_permutations=20_000)
    for _ in range(5):
        values = (draws.random(10) + 0.3 * labels).round(decimals)
        exact = permutation_test(
            (values[labels == 1], values[labels == 0]),
            lambda a, b: abs(np.sign(a[:, None] - b).sum()),  # proportional to |AUC − 0.5|
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
