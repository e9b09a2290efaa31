from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import brier_score_loss, roc_auc_score

from mgmt_ray.base import stream
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.statistics.delong import delong_interval
from mgmt_ray.statistics.subgroups import SUBGROUP_COLUMNS, subgroups_table, subject_levels


def subject(name: str, label: int = 0, **covariates: str) -> Subject:
    return Subject(name, label, {}, Path("mask.nii.gz"), covariates)


COHORT = tuple(
    subject(
        f"S{i:03d}",
        i % 2,
        sex="F" if i % 3 else "M",
        age=str(25 if i < 4 else 40 if i < 20 else 60 if i < 40 else 75.5),
        **({"idh1": "Mutated" if i == 0 else "Wildtype"} if i < 50 else {}),
    )
    for i in range(57)
)


def predictions() -> pd.DataFrame:
    models = (("spottune", "best overall"), ("spottune", "DSC"), ("age_sex", "age_sex"))
    tables = [
        pd.DataFrame(
            {
                "network": network,
                "ensemble": ensemble,
                "subject": [s.id for s in COHORT],
                "label": [s.label for s in COHORT],
                "probability": stream(0, network, ensemble).random(57),
            }
        )
        for network, ensemble in models
    ]
    return pd.concat(tables, ignore_index=True)


def chosen(table: pd.DataFrame, attribute: str, level: str) -> pd.Series:
    rows = table[(table["attribute"] == attribute) & (table["level"] == level)]
    return rows[rows["network"] == "spottune"].iloc[0]


def test_each_level_holds_its_subjects_and_every_subject_is_in_one_level() -> None:
    table = subgroups_table(predictions(), COHORT)
    assert tuple(table.columns) == SUBGROUP_COLUMNS
    assert set(zip(table["network"], table["ensemble"], strict=True)) == {
        ("spottune", "best overall"),
        ("age_sex", "age_sex"),
    }
    of_network = table[table["network"] == "spottune"]
    numbers = {
        attribute: dict(zip(rows["level"], rows["num_subjects"], strict=True))
        for attribute, rows in of_network.groupby("attribute", sort=False)
    }
    assert numbers == {
        "sex": {"female": 38, "male": 19},
        "age": {"18-29": 4, "30-49": 16, "50-69": 20, "70+": 17},
        "idh": {"wildtype": 49, "mutated": 1, "unknown": 7},
    }
    assert chosen(table, "age", "70+")["num_methylated"] == 8


def test_a_subgroups_numbers_are_those_of_its_subjects_alone() -> None:
    given = predictions()
    row = chosen(subgroups_table(given, COHORT), "sex", "male")
    rows = given[
        (given["ensemble"] == "best overall")
        & given["subject"].isin([s.id for s in COHORT if s.covariates["sex"] == "M"])
    ]
    labels, values = rows["label"].to_numpy(), rows["probability"].to_numpy()
    assert row["auc"] == pytest.approx(roc_auc_score(labels, values))
    interval = delong_interval(labels, values)
    assert (row["auc_low"], row["auc_high"]) == pytest.approx((interval.low, interval.high))
    assert row["brier"] == pytest.approx(brier_score_loss(labels, values))
    assert row["brier_low"] < row["brier"] < row["brier_high"]
    called = int((values[labels == 1] >= 0.5).sum())
    exact = binomtest(called, int(labels.sum())).proportion_ci(method="exact")
    # scipy solves for the same bounds to about 1e-9
    assert (row["sen_low"], row["sen_high"]) == pytest.approx((exact.low, exact.high), abs=1e-8)
    assert row["spe"] == pytest.approx((values[labels == 0] < 0.5).mean())


def test_what_a_missing_class_leaves_undefined_is_nan() -> None:
    row = chosen(subgroups_table(predictions(), COHORT), "idh", "mutated")
    assert (row["num_subjects"], row["num_methylated"]) == (1, 0)
    assert row[["auc", "auc_low", "sen", "sen_high"]].isna().all()
    assert row["spe"] in (0, 1)
    assert 0 <= row["brier"] <= 1


def test_a_perfectly_separated_subgroup_is_not_certain() -> None:
    given = predictions()
    young = given["subject"].isin([s.id for s in COHORT[:4]])
    given.loc[young, "probability"] = given.loc[young, "label"]
    row = chosen(subgroups_table(given, COHORT), "age", "18-29")
    assert (row["auc"], row["auc_high"]) == (1, 1)
    # 2 of 2 disjoint pairs in order: sqrt(0.025)
    assert row["auc_low"] == pytest.approx(np.sqrt(0.025))


def test_without_chosen_ensembles_there_are_no_subgroups() -> None:
    given = predictions()
    table = subgroups_table(given[given["ensemble"] == "DSC"], COHORT)
    assert table.empty
    assert tuple(table.columns) == SUBGROUP_COLUMNS


@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("17.9", "under 18"),
        ("18", "18-29"),
        ("29.99", "18-29"),
        ("30", "30-49"),
        ("50", "50-69"),
        ("69.9", "50-69"),
        ("70", "70+"),
        ("90+", "70+"),
        ("", "unknown"),
        ("unknown", "unknown"),
        ("-3", "unknown"),
        ("nan", "unknown"),
        ("150", "unknown"),
    ],
)
def test_ages_fall_into_the_papers_bands(age: str, band: str) -> None:
    assert subject_levels(subject("a", age=age))["age"] == band


@pytest.mark.parametrize(
    ("column", "text", "level"),
    [
        ("idh1", "Wildtype", "wildtype"),  # UPENN-GBM
        ("idh1", "Mutated", "mutated"),
        ("idh1", "NOS/NEC", "unknown"),
        ("idh1", "wildtype", "wildtype"),  # UCSF-PDGM
        ("idh1", "IDH1 p.R132H", "mutated"),
        ("idh1", "mutated (NOS)", "mutated"),
        ("IDH", "IDH2 p.Arg172Lys", "mutated"),
        ("IDH", "", "unknown"),
        ("IDH", "WT", "wildtype"),
        ("IDH", "wild-type", "wildtype"),
        ("IDH", "Mutant", "mutated"),
        ("IDH", "not mutated", "wildtype"),
        ("IDH", "unmutated", "wildtype"),
        ("IDH", "no mutation", "wildtype"),
        ("IDH", "not wildtype", "unknown"),
        ("IDH", "mutation not tested", "unknown"),
        ("IDH", "Newton", "unknown"),
        ("IDH", "commuted", "unknown"),
        ("IDH", "sample 1320", "unknown"),
    ],
)
def test_idh_is_read_as_the_public_tables_write_it(column: str, text: str, level: str) -> None:
    assert subject_levels(subject("a", **{column: text}))["idh"] == level


def test_sex_is_read_in_any_case() -> None:
    levels = [subject_levels(subject("a", sex=text))["sex"] for text in ("F", "male", "M", "x", "")]
    assert levels == ["female", "male", "male", "unknown", "unknown"]
