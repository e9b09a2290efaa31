from __future__ import annotations

import math
from dataclasses import astuple

import pytest
from scipy.stats import chi2, studentized_range

from mgmt_ray.statistics.published_results import (
    CHEN_BEST_AUC,
    CHEN_CLASSIFICATION,
    CHEN_COUNTS,
    CHEN_DICE,
    CHEN_FIGURES,
    CHEN_MODALITIES,
    CHEN_SECONDS,
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
    # the forest was evaluated on fewer
    assert pytest.approx((5 / 23, 29 / 31), abs=5e-5) == (PAPER_FOREST.sen, PAPER_FOREST.spe)


def test_abstract_and_tables_of_the_paper_agree() -> None:
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


def test_chens_table_1_adds_up_to_the_patients_of_the_abstract_and_its_own_slices() -> None:
    totals = {
        modality: [(sum(phases[p].patients), sum(phases[p].slices)) for p in ("train", "test")]
        for modality, phases in CHEN_COUNTS.items()
    }
    # section 2.1: 66 patients with FLAIR, 87 with CE-T1WI; totals as table 1 prints them
    assert totals == {"FLAIR": [(51, 676), (15, 167)], "T1GD": [(70, 1208), (17, 220)]}
    assert (51 + 15, 70 + 17) == (66, 87)


def test_every_printed_f1_is_near_that_of_the_printed_precision_and_recall() -> None:
    for phases in CHEN_CLASSIFICATION.values():
        for row in phases.values():
            harmonic = 2 / (1 / row.precision.mean + 1 / row.recall.mean)
            # a mean of F1s is not the F1 of means; over folds of these deviations it is near
            assert row.f1.mean == pytest.approx(harmonic, abs=0.01)


def test_each_modality_has_every_table_and_shares_lie_between_0_and_1() -> None:
    tables = (CHEN_COUNTS, CHEN_DICE, CHEN_SECONDS, CHEN_CLASSIFICATION, CHEN_BEST_AUC)
    assert all({*table} == {*CHEN_MODALITIES} == {*CHEN_FIGURES} for table in tables)
    for modality in CHEN_MODALITIES:
        shares = [*CHEN_BEST_AUC[modality].values()]
        shares += [spread.mean for spread in CHEN_DICE[modality].values()]
        shares += [s[0] for row in CHEN_CLASSIFICATION[modality].values() for s in astuple(row)]
        assert all(0.75 < share < 1 for share in shares)


# of table 2, and the rows of table 4 (accuracy, recall, precision, F1) with the AUC of section 3.2
PRINTED_DICE = {
    "T1GD": ("0.832 ± 0.009", "0.831 ± 0.012", "0.828 ± 0.108"),
    "FLAIR": ("0.893 ± 0.004", "0.892 ± 0.008", "0.897 ± 0.007"),
}
PRINTED_ROWS = {
    ("T1GD", "train"): "0.894 ± 0.012 0.906 ± 0.007 0.886 ± 0.018 0.896 ± 0.010 | 0.973",
    ("T1GD", "validation"): "0.839 ± 0.046 0.866 ± 0.044 0.823 ± 0.051 0.845 ± 0.045 | 0.942",
    ("T1GD", "test"): "0.804 ± 0.011 0.818 ± 0.033 0.798 ± 0.014 0.808 ± 0.015 | 0.887",
    ("FLAIR", "train"): "0.941 ± 0.056 0.943 ± 0.104 0.947 ± 0.026 0.945 ± 0.081 | 0.985",
    ("FLAIR", "validation"): "0.885 ± 0.090 0.941 ± 0.105 0.857 ± 0.028 0.889 ± 0.101 | 0.968",
    ("FLAIR", "test"): "0.827 ± 0.056 0.852 ± 0.080 0.821 ± 0.022 0.836 ± 0.072 | 0.905",
}


def test_tables_2_and_4_and_the_areas_are_as_printed() -> None:
    phases = ("train", "validation", "test")
    dice = {m: tuple(str(of[phase]) for phase in phases) for m, of in CHEN_DICE.items()}
    assert dice == PRINTED_DICE
    assert all({*of} == {*phases} for of in (*CHEN_DICE.values(), *CHEN_BEST_AUC.values()))
    rows = {}
    for modality, by_phase in CHEN_CLASSIFICATION.items():
        for phase, row in by_phase.items():
            cells = (row.accuracy, row.recall, row.precision, row.f1)
            area = CHEN_BEST_AUC[modality][phase]
            rows[modality, phase] = f"{' '.join(map(str, cells))} | {area:.3f}"
    assert rows == PRINTED_ROWS
