from __future__ import annotations

from dataclasses import astuple

import pytest

from mgmt_ray.statistics.published_results import (
    CHEN_BEST_AUC,
    CHEN_CLASSIFICATION,
    CHEN_COUNTS,
    CHEN_DICE,
    CHEN_FIGURES,
    CHEN_MODALITIES,
    CHEN_SECONDS,
)


def test_table_1_adds_up_to_the_patients_of_the_abstract_and_its_own_slices() -> None:
    totals = {
        modality: [(sum(phases[p].patients), sum(phases[p].slices)) for p in ("train", "test")]
        for modality, phases in CHEN_COUNTS.items()
    }
    # section 2.1: 66 patients with FLAIR, 87 with CE-T1WI; totals as table 1 prints them
    assert totals == {"FLAIR": [(51, 676), (15, 167)], "T1GD": [(70, 1208), (17, 220)]}
    assert (51 + 15, 70 + 17) == (66, 87)


def test_abstract_and_tables_agree() -> None:
    assert str(CHEN_DICE["FLAIR"]["test"]) == "0.897 ± 0.007"
    assert str(CHEN_DICE["T1GD"]["test"]) == "0.828 ± 0.108"
    row = CHEN_CLASSIFICATION["FLAIR"]["test"]
    cells = (row.accuracy, row.recall, row.precision, row.f1)
    assert [str(cell) for cell in cells] == [
        "0.827 ± 0.056",
        "0.852 ± 0.080",
        "0.821 ± 0.022",
        "0.836 ± 0.072",
    ]


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
