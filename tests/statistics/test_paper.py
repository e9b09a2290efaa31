from __future__ import annotations

import math

import pytest
from scipy.stats import chi2, studentized_range

from mgmt_ray.statistics.published_results import (
    NUM_TEST_METHYLATED,
    NUM_TEST_SUBJECTS,
    PAPER_BEST_OVERALL,
    PAPER_COMPARISONS,
    PAPER_FOREST,
    PAPER_RESULTS,
    PaperComparison,
)


def test_every_printed_rate_is_a_count_of_the_papers_test_subjects() -> None:
    num_unmethylated = NUM_TEST_SUBJECTS - NUM_TEST_METHYLATED
    for results in PAPER_RESULTS.values():
        for result in results.values():
            for rate, number in (
                (result.sen, NUM_TEST_METHYLATED),
                (result.spe, num_unmethylated),
                (result.auc, NUM_TEST_METHYLATED * num_unmethylated * 2),
            ):
                # Four printed decimals: a wrong digit is not a count of so few subjects.
                assert rate == pytest.approx(round(rate * number) / number, abs=5.1e-5)


def test_the_forest_was_evaluated_on_fewer_subjects() -> None:
    assert pytest.approx((5 / 23, 29 / 31), abs=5e-5) == (PAPER_FOREST.sen, PAPER_FOREST.spe)


def test_abstract_and_tables_agree() -> None:
    best = PAPER_RESULTS["spottune"]["DSC+DTI"]
    assert (best.auc, best.ap, best.sen, best.spe) == (0.6604, 0.6179, 0.6667, 0.6061)


def test_pairs_are_found_in_either_order() -> None:
    row = PAPER_COMPARISONS["DSC+Struct"]
    assert row.nemenyi_p("transfer", "random") == row.nemenyi_p("random", "transfer") == 0.0395
    assert row.nemenyi_p("spottune", "transfer-2") is None


def least_nemenyi_p(friedman_p: float) -> float:
    """Of three networks ranked without ties: the widest pair's statistic is at most √(2·χ²)."""
    return float(studentized_range.sf(math.sqrt(2 * chi2.isf(friedman_p, 2)), 3, math.inf))


def test_only_the_last_row_of_table_5_has_a_nemenyi_p_that_its_friedman_p_rules_out() -> None:
    def least(row: PaperComparison) -> float:
        return min(row.spottune_random, row.random_transfer, row.spottune_transfer)

    for row in PAPER_COMPARISONS.values():
        assert least(row) > least_nemenyi_p(row.friedman_p)
    bound = least_nemenyi_p(PAPER_BEST_OVERALL.friedman_p)
    assert least(PAPER_BEST_OVERALL) < 0.049 < bound
