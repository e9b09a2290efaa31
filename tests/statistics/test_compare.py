from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import friedmanchisquare, rankdata, studentized_range

from mgmt_ray.base import MgmtError, stream
from mgmt_ray.statistics.comparisons import compare_networks, pivot_by_network

NETWORKS = ("spottune", "random", "transfer")


def test_friedman_is_scipys_and_nemenyi_follows_its_definition() -> None:
    values = stream(0, "test").random((57, 3)) + np.array([0.0, 0.1, 0.3])
    result = compare_networks(values, NETWORKS)
    expected = friedmanchisquare(*values.T)
    assert (result.chi2, result.p) == (expected.statistic, expected.pvalue)
    ranks = rankdata(values, axis=1).mean(axis=0)
    for network_a, network_b, p in result.pairs:
        apart = abs(ranks[NETWORKS.index(network_a)] - ranks[NETWORKS.index(network_b)])
        q = apart / np.sqrt(3 * 4 / (6 * 57)) * np.sqrt(2)
        # Demšar 2006, sec. 3.2.2; the tail is computed to about 1e-9.
        assert p == pytest.approx(studentized_range.sf(q, 3, np.inf), abs=1e-6)
    assert [pair[:2] for pair in result.pairs] == [
        ("spottune", "random"),
        ("spottune", "transfer"),
        ("random", "transfer"),
    ]


def test_a_shifted_network_differs_from_the_others_only() -> None:
    values = stream(1, "test").random((57, 3))
    values[:, 2] += 2
    result = compare_networks(values, NETWORKS)
    assert result.p_of("spottune", "transfer") < 0.001
    assert result.p_of("random", "transfer") < 0.001
    assert result.p_of("spottune", "random") > 0.05


def test_identical_networks_have_no_p_value() -> None:
    values = np.repeat(stream(1, "test").random((10, 1)), 3, axis=1)
    result = compare_networks(values, NETWORKS)
    assert np.isnan([result.chi2, result.p, *(pair[2] for pair in result.pairs)]).all()


def rows(**subjects: str) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"network": network, "subject": subject, "probability": 0.5}
            for network, named in subjects.items()
            for subject in named
        ]
    )


def test_networks_of_different_subjects_are_refused_by_name() -> None:
    with pytest.raises(MgmtError, match="DSC: c not predicted by all of spottune, random"):
        pivot_by_network(rows(spottune="abc", random="ab"), "DSC")


def test_a_subject_twice_is_refused() -> None:
    with pytest.raises(MgmtError, match="DSC: b predicted twice"):
        pivot_by_network(rows(spottune="abb", random="ab"), "DSC")


def test_columns_keep_the_order_of_networks_and_rows_are_sorted() -> None:
    wide = pivot_by_network(rows(spottune="cab", random="abc"), "DSC")
    assert list(wide.columns) == ["spottune", "random"]
    assert list(wide.index) == ["a", "b", "c"]
