from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import brier_score_loss, roc_auc_score

from mgmt_ray.base import stream
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.statistics.delong import delong_interval
from mgmt_ray.statistics.subgroups import SUBGROUP_COLUMNS, subgroups_table, subject_levels
from tests.statistics.conftest import model_table, row_of


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
    labels = [s.label for s in COHORT]
    tables = [
        model_table(
            labels, stream(0, network, ensemble).random(57), network=network, ensemble=ensemble
        )
        for network, ensemble in models
    ]
    return pd.concat(tables, ignore_index=True)


def chosen(table: pd.DataFrame, attribute: str, level: str) -> Mapping[Any, Any]:
    return row_of(table, attribute=attribute, level=level, network="spottune")


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
    assert np.isnan([row[name] for name in ("auc", "auc_low", "sen", "sen_high")]).all()
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


def test_ages_fall_into_the_papers_bands() -> None:
    bands = {
        "under 18": ("17.9",),
        "18-29": ("18", "29.99"),
        "30-49": ("30",),
        "50-69": ("50", "69.9"),
        "70+": ("70", "90+"),
        "unknown": ("", "unknown", "-3", "nan", "150"),
    }
    for band, ages in bands.items():
        assert {subject_levels(subject("a", age=age))["age"] for age in ages} == {band}


IDH = {
    # UPENN-GBM writes Wildtype, Mutated and NOS/NEC, UCSF-PDGM wildtype and the mutation
    "wildtype": (
        "Wildtype",
        "wildtype",
        "WT",
        "wild-type",
        "not mutated",
        "unmutated",
        "no mutation",
    ),
    "mutated": ("Mutated", "IDH1 p.R132H", "mutated (NOS)", "IDH2 p.Arg172Lys", "Mutant"),
    "unknown": (
        "NOS/NEC",
        "",
        "not wildtype",
        "mutation not tested",
        "Newton",
        "commuted",
        "sample 1320",
    ),
}


@pytest.mark.parametrize("column", ["idh1", "IDH"])
def test_idh_is_read_as_the_public_tables_write_it(column: str) -> None:
    read = {
        level: [subject_levels(subject("a", **{column: text}))["idh"] for text in texts]
        for level, texts in IDH.items()
    }
    assert read == {level: [level] * len(texts) for level, texts in IDH.items()}


def test_sex_is_read_in_any_case() -> None:
    levels = [subject_levels(subject("a", sex=text))["sex"] for text in ("F", "male", "M", "x", "")]
    assert levels == ["female", "male", "male", "unknown", "unknown"]
