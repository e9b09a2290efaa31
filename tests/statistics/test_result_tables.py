from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from mgmt_ray.base import MgmtError, stream
from mgmt_ray.cohort.cohort import Cohort, write_cohort
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.selection.best_on_validation import BEST_COLUMNS, FORWARD_COLUMNS
from mgmt_ray.selection.ensembles import ENSEMBLE_COLUMNS
from mgmt_ray.selection.predictions import read_table, write_table
from mgmt_ray.selection.result_columns import RESULT_COLUMNS
from mgmt_ray.statistics.calibration import CALIBRATION_COLUMNS
from mgmt_ray.statistics.comparisons import COMPARISON_COLUMNS, holm, permutation_p, permuted_labels
from mgmt_ray.statistics.curves import DECISION_COLUMNS
from mgmt_ray.statistics.delong import delong_interval
from mgmt_ray.statistics.operating_points import OPERATING_COLUMNS
from mgmt_ray.statistics.reliability import RELIABILITY_COLUMNS
from mgmt_ray.statistics.result_tables import (
    METRIC_COLUMNS,
    RESULT_TABLES,
    evaluate_ensembles,
    metrics_table,
)
from mgmt_ray.statistics.subgroups import SUBGROUP_COLUMNS
from mgmt_ray.statistics.variance import VARIANCE_COLUMNS
from tests.statistics.conftest import PAPER_LABELS, member_table, model_table, row_of

NETWORKS = ("spottune", "random", "transfer")


def member_predictions(
    networks: tuple[str, ...] = NETWORKS, modalities: tuple[str, ...] = ("PH", "FA")
) -> pd.DataFrame:
    draws = stream(0, "test")
    tables = [
        member_table(
            PAPER_LABELS,
            draws.random(57) * 0.8 + 0.2 * PAPER_LABELS,
            network=network,
            modality=modality,
            fold=fold,
            probability_std=0.1,
        )
        for network in networks
        for modality in modalities
        for fold in range(2)
    ]
    return pd.concat(tables, ignore_index=True)


def write_study(out: Path, members: pd.DataFrame) -> Path:
    """Write what is evaluated; other subjects are validated, each by one fold."""
    number = members["subject"].str.removeprefix("S")
    validation = members.assign(subject="V" + number, split="validation")
    validation = validation[number.astype(int) % 2 == members["fold"]]
    trials = members[["trial"]].drop_duplicates().assign(repeat=0)
    write_table(members, out / "ensembles" / "member_predictions.csv")
    write_table(validation, out / "ensembles" / "validation_members.csv")
    write_table(trials, out / "ensembles" / "members.csv")
    labels = members.groupby("subject")["label"].first()
    subjects = [Subject(s, int(label), {}, Path("mask.nii.gz")) for s, label in labels.items()]
    write_cohort(Cohort(tuple(subjects)), out)
    return out


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluated study, which no test may change."""
    out = write_study(tmp_path_factory.mktemp("study"), member_predictions())
    evaluate_ensembles(out)
    return out


def table(out: Path, name: str) -> pd.DataFrame:
    return read_table(out / "ensembles" / f"{name}.csv", "")


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("metrics", METRIC_COLUMNS),
        ("variance", VARIANCE_COLUMNS),
        ("subgroups", SUBGROUP_COLUMNS),
        ("validation_predictions", ENSEMBLE_COLUMNS),
        ("best_ensembles", BEST_COLUMNS),
        ("forward_selection", FORWARD_COLUMNS),
        ("operating_points", OPERATING_COLUMNS),
        ("calibration", CALIBRATION_COLUMNS),
        ("reliability", RELIABILITY_COLUMNS),
        ("decision", DECISION_COLUMNS),
    ],
)
def test_every_table_has_its_columns_and_networks(
    study: Path, name: str, columns: tuple[str, ...]
) -> None:
    written = table(study, name)
    assert tuple(written.columns) == columns
    assert set(written["network"]) == set(NETWORKS)


def test_a_study_is_evaluated_from_its_members_predictions(study: Path) -> None:
    metrics = table(study, "metrics")
    assert len(metrics) == 3 * 7
    assert set(metrics["num_subjects"]) == {57} and set(metrics["num_methylated"]) == {24}
    for name in ("auc", "ap", "brier", "sen", "spe"):
        assert (metrics[f"{name}_low"] < metrics[name]).all()
        assert (metrics[name] < metrics[f"{name}_high"]).all()
    comparisons = table(study, "comparisons")
    assert tuple(comparisons.columns) == COMPARISON_COLUMNS and len(comparisons) == 7 * 3
    variance = table(study, "variance")
    assert len(variance) == 3 * 7 * 4
    assert variance[variance["source"] == "seeds"]["auc_std"].isna().all()
    assert set(table(study, "subgroups")["ensemble"]) == {"best overall"}


def test_a_rows_numbers_are_those_of_their_definitions(study: Path) -> None:
    metrics, predictions = table(study, "metrics"), table(study, "predictions")
    model = {"network": "random", "ensemble": "best overall"}
    row = row_of(metrics, **model)
    chosen = (predictions[list(model)] == pd.Series(model)).all(axis=1)
    rows = predictions[chosen].sort_values("subject")
    labels, p = rows["label"].to_numpy(), rows["probability"].to_numpy()
    assert row["num_members"] == 4
    assert row["auc"] == pytest.approx(roc_auc_score(labels, p))
    assert row["brier"] == pytest.approx(brier_score_loss(labels, p))
    assert row["sen"] == pytest.approx((p >= 0.5)[labels == 1].mean())
    assert row["spe"] == pytest.approx((p < 0.5)[labels == 0].mean())
    delong = delong_interval(labels, p)
    bounds = (row["auc_low"], row["auc_high"])
    assert bounds == pytest.approx((delong.low, delong.high))
    assert row["auc_p"] == permutation_p(labels, p, permuted_labels(labels, 42))


def test_p_values_are_corrected_within_their_family_and_copies_have_none(study: Path) -> None:
    metrics = table(study, "metrics")
    for _, rows in metrics.groupby("family"):
        corrected = holm(rows["auc_p"].to_numpy())
        assert list(rows["auc_p_holm"]) == pytest.approx(list(corrected), nan_ok=True)
    primary = metrics[metrics["family"] == "primary"]
    assert list(primary["network"]) == list(NETWORKS)
    assert set(primary["ensemble"]) == {"best overall"}
    copies = metrics[metrics["copy_of"] != ""]
    # DSC is PH and DTI is FA; the best of the groups is best overall, and forward selection is one
    assert len(copies) >= 3 * 4
    assert copies[["auc_p", "auc_p_holm"]].isna().all(axis=None) and set(copies["family"]) == {""}
    originals = metrics.set_index(["network", "ensemble"])
    for copy in copies.to_dict("records"):
        original = originals.loc[(copy["network"], copy["copy_of"])]
        assert original["auc"] == pytest.approx(copy["auc"]) and original["copy_of"] == ""


def test_test_subjects_change_nothing_that_validation_fits_or_chooses(tmp_path: Path) -> None:
    members = member_predictions(("spottune",))
    studies = [write_study(tmp_path / name, members) for name in "ab"]
    other = members.assign(label=1 - members["label"], probability=members["probability"] ** 2)
    write_table(other, studies[1] / "ensembles" / "member_predictions.csv")
    metrics = [evaluate_ensembles(out) for out in studies]
    assert (metrics[0]["auc"] != metrics[1]["auc"]).all()
    keys = ["network", "ensemble"]
    for name, columns in {
        "validation_predictions": list(ENSEMBLE_COLUMNS),
        "best_ensembles": list(BEST_COLUMNS),
        "forward_selection": list(FORWARD_COLUMNS),
        "operating_points": [*keys, "point", "threshold"],
        "calibration": [*keys, "version", "temperature", "prior_shift"],
    }.items():
        before, after = (table(out, name)[columns] for out in studies)
        pd.testing.assert_frame_equal(after, before, check_exact=True, obj=name)


def test_a_table_of_members_that_is_missing_or_faulty_is_named(tmp_path: Path) -> None:
    path = write_study(tmp_path, member_predictions(("random",), ("PH",))) / "ensembles/members.csv"
    write_table(pd.DataFrame({"repeat": [0]}), path)
    with pytest.raises(MgmtError, match=r"members.csv: no column trial"):
        evaluate_ensembles(tmp_path)
    path.unlink()
    with pytest.raises(MgmtError, match=r"members.csv: not there yet. Run `mgmt-ray ensemble"):
        evaluate_ensembles(tmp_path)


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    members = member_predictions(("spottune", "random"), ("PH",))
    shuffled = members.sample(frac=1, random_state=1)
    shuffled = shuffled.sort_values("network", key=lambda n: -n.str.len(), kind="stable")
    first, second = (
        evaluate_ensembles(write_study(tmp_path / name, rows)).sort_values(
            ["network", "ensemble"], ignore_index=True
        )
        for name, rows in (("a", members), ("b", shuffled))
    )
    # Sums in another order differ in the last bits.
    pd.testing.assert_frame_equal(first, second, rtol=1e-9)


def test_validation_predictions_are_not_evaluated_as_test(tmp_path: Path) -> None:
    with pytest.raises(MgmtError, match="not only of the test set"):
        evaluate_ensembles(write_study(tmp_path, member_predictions().assign(split="validation")))


def test_external_subjects_are_evaluated_by_the_studys_groups(tmp_path: Path) -> None:
    members = member_predictions(("spottune",)).assign(split="external")
    # a third has no FA, and no subject has the study's other DSC modality
    missing = members["subject"].isin([f"S{i:03d}" for i in range(0, 57, 3)])
    members = members[~(missing & (members["modality"] == "FA"))]
    write_table(members, tmp_path / "ensembles" / "member_predictions.csv")
    for modalities, expected in (
        (("PH", "PSR", "FA"), {"DTI": 38, "PH": 57, "FA": 38}),
        (("PH", "FA"), {"DSC": 57, "DTI": 38, "DSC+DTI": 38, "PH": 57, "FA": 38}),
    ):
        metrics = evaluate_ensembles(tmp_path, "external", modalities)
        assert metrics.set_index("ensemble")["num_subjects"].to_dict() == expected
    with pytest.raises(MgmtError, match="not only of the test set"):
        evaluate_ensembles(tmp_path)


def test_a_study_without_ensembles_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(MgmtError, match="Run `mgmt-ray ensemble STUDY --out"):
        evaluate_ensembles(tmp_path)


def four_subjects() -> pd.DataFrame:
    return model_table([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])


def test_a_test_set_of_one_class_has_no_auc() -> None:
    with pytest.raises(MgmtError, match="spottune DSC: its 4 test subjects are all of one class"):
        metrics_table(four_subjects().assign(label=1))
    with pytest.raises(MgmtError, match="4 external subjects") as error:
        metrics_table(four_subjects().assign(label=1), "external")
    assert "modalities of that cohort" in str(error.value)
    assert "test" not in str(error.value)


def test_two_labels_of_one_subject_are_refused() -> None:
    other = four_subjects().assign(network="random", label=[0, 0, 1, 0])
    with pytest.raises(MgmtError, match="two labels for S003"):
        metrics_table(pd.concat([four_subjects(), other], ignore_index=True))


def test_perfect_separation_has_auc_one_and_rates_with_exact_bounds() -> None:
    row = metrics_table(four_subjects()).iloc[0]
    assert (row["auc"], row["ap"], row["sen"], row["spe"]) == (1, 1, 1, 1)
    # Clopper-Pearson for 2 of 2: (0.025)^(1/2) = 0.1581.
    assert row["sen_low"] == pytest.approx(0.158114, abs=1e-6)


def test_every_column_of_a_result_is_described_and_every_described_one_is_in_a_result() -> None:
    columns = {name for table in RESULT_TABLES.values() for name in table.columns}
    values = {
        name if name in RESULT_COLUMNS else name.removesuffix("_low").removesuffix("_high")
        for name in columns
    }
    assert values == {*RESULT_COLUMNS}
