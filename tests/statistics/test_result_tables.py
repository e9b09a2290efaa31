from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score
from statsmodels.stats.multitest import multipletests

from mgmt_ray.base import MgmtError, stream
from mgmt_ray.cohort.cohort import Cohort, write_cohort
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.selection.best_on_validation import BEST_COLUMNS, FORWARD_COLUMNS
from mgmt_ray.selection.ensembles import ENSEMBLE_COLUMNS
from mgmt_ray.selection.predictions import read_table, write_table
from mgmt_ray.statistics.calibration import CALIBRATION_COLUMNS
from mgmt_ray.statistics.comparisons import COMPARISON_COLUMNS, permutation_p, permuted_labels
from mgmt_ray.statistics.curves import DECISION_COLUMNS
from mgmt_ray.statistics.delong import delong_interval
from mgmt_ray.statistics.operating_points import OPERATING_COLUMNS
from mgmt_ray.statistics.reliability import RELIABILITY_COLUMNS
from mgmt_ray.statistics.result_tables import METRIC_COLUMNS, evaluate_ensembles, metrics_table
from mgmt_ray.statistics.subgroups import SUBGROUP_COLUMNS
from mgmt_ray.statistics.variance import VARIANCE_COLUMNS


def member_predictions(
    networks: tuple[str, ...] = ("spottune", "random", "transfer"),
) -> pd.DataFrame:
    draws = stream(0, "test")
    labels = np.repeat([1, 0], [24, 33])
    tables = [
        pd.DataFrame(
            {
                "subject": [f"S{i:03d}" for i in range(57)],
                "split": "test",
                "outer_fold": 0,
                "fold": fold,
                "network": network,
                "modality": modality,
                "trial": f"{network}-{modality}-{fold}",
                "probability": draws.random(57) * 0.8 + 0.2 * labels,
                "probability_std": 0.1,
                "label": labels,
                "weights_sha256": "f" * 64,
                "prior": 0.5,
            }
        )
        for network in networks
        for modality in ("PH", "FA")
        for fold in range(2)
    ]
    return pd.concat(tables, ignore_index=True)


def validation_members(members: pd.DataFrame) -> pd.DataFrame:
    """Other subjects, each predicted by the fold that it validates."""
    subject = "V" + members["subject"].str.removeprefix("S")
    is_validated = members["subject"].str.removeprefix("S").astype(int) % 2 == members["fold"]
    return members.assign(subject=subject, split="validation")[is_validated]


def evaluated(out: Path, members: pd.DataFrame) -> pd.DataFrame:
    write_table(members, out / "ensembles" / "member_predictions.csv")
    write_table(validation_members(members), out / "ensembles" / "validation_members.csv")
    trials = members[["trial"]].drop_duplicates().assign(repeat=0)
    write_table(trials, out / "ensembles" / "members.csv")
    labels = members.groupby("subject")["label"].first()
    subjects = [Subject(s, int(label), {}, Path("mask.nii.gz")) for s, label in labels.items()]
    write_cohort(Cohort(tuple(subjects)), out)
    return evaluate_ensembles(out)


def test_a_study_is_evaluated_from_its_members_predictions(tmp_path: Path) -> None:
    metrics = evaluated(tmp_path, member_predictions())
    assert tuple(metrics.columns) == METRIC_COLUMNS
    assert len(metrics) == 3 * 7
    assert set(metrics["num_subjects"]) == {57}
    assert set(metrics["num_methylated"]) == {24}
    written = read_table(tmp_path / "ensembles" / "metrics.csv", "")
    pd.testing.assert_frame_equal(written, metrics, check_dtype=False)
    for name in ("auc", "ap", "brier", "sen", "spe"):
        assert (metrics[f"{name}_low"] < metrics[name]).all()
        assert (metrics[name] < metrics[f"{name}_high"]).all()
    predictions = read_table(tmp_path / "ensembles" / "predictions.csv", "")
    first = predictions[
        (predictions["network"] == "random") & (predictions["ensemble"] == "DSC+DTI")
    ]
    row = metrics[(metrics["network"] == "random") & (metrics["ensemble"] == "DSC+DTI")].iloc[0]
    assert row["auc"] == pytest.approx(roc_auc_score(first["label"], first["probability"]))
    called = first["probability"] >= 0.5
    assert row["sen"] == pytest.approx(called[first["label"] == 1].mean())
    assert row["spe"] == pytest.approx(1 - called[first["label"] == 0].mean())
    assert row["num_members"] == 4
    comparisons = read_table(tmp_path / "ensembles" / "comparisons.csv", "")
    assert tuple(comparisons.columns) == COMPARISON_COLUMNS
    assert len(comparisons) == 7 * 3
    variance = read_table(tmp_path / "ensembles" / "variance.csv", "")
    assert tuple(variance.columns) == VARIANCE_COLUMNS
    assert len(variance) == 3 * 7 * 4
    assert variance[variance["source"] == "seeds"]["auc_std"].isna().all()
    subgroups = read_table(tmp_path / "ensembles" / "subgroups.csv", "")
    assert tuple(subgroups.columns) == SUBGROUP_COLUMNS
    assert set(subgroups["ensemble"]) == {"best overall"}
    for name, columns in (
        ("validation_predictions", ENSEMBLE_COLUMNS),
        ("best_ensembles", BEST_COLUMNS),
        ("forward_selection", FORWARD_COLUMNS),
        ("operating_points", OPERATING_COLUMNS),
        ("calibration", CALIBRATION_COLUMNS),
        ("reliability", RELIABILITY_COLUMNS),
        ("decision", DECISION_COLUMNS),
    ):
        table = read_table(tmp_path / "ensembles" / f"{name}.csv", "")
        assert tuple(table.columns) == columns
        assert set(table["network"]) == {"spottune", "random", "transfer"}


def test_a_rows_other_numbers_are_those_of_their_definitions(tmp_path: Path) -> None:
    metrics = evaluated(tmp_path, member_predictions())
    predictions = read_table(tmp_path / "ensembles" / "predictions.csv", "")
    chosen = (predictions["network"] == "transfer") & (predictions["ensemble"] == "FA")
    rows = predictions[chosen].sort_values("subject")
    labels, values = rows["label"].to_numpy(), rows["probability"].to_numpy()
    row = metrics[(metrics["network"] == "transfer") & (metrics["ensemble"] == "FA")].iloc[0]
    assert row["brier"] == pytest.approx(brier_score_loss(labels, values))
    interval = delong_interval(labels, values)
    assert row["auc_delong_low"] == pytest.approx(interval.low)
    assert row["auc_delong_high"] == pytest.approx(interval.high)
    assert row["auc_p"] == permutation_p(labels, values, permuted_labels(labels, 42))


def test_permutation_p_values_are_corrected_over_all_rows_of_the_table(tmp_path: Path) -> None:
    metrics = evaluated(tmp_path, member_predictions())
    assert metrics["network"].nunique() == 3
    expected = multipletests(metrics["auc_p"], method="holm")[1]
    assert list(metrics["auc_p_holm"]) == pytest.approx(expected)


def test_test_subjects_change_nothing_that_validation_fits_or_chooses(tmp_path: Path) -> None:
    members = member_predictions()
    evaluated(tmp_path, members)
    before = fitted_tables(tmp_path)
    metrics = read_table(tmp_path / "ensembles" / "metrics.csv", "")
    other = members.assign(label=1 - members["label"], probability=members["probability"] ** 2)
    write_table(other, tmp_path / "ensembles" / "member_predictions.csv")
    changed = evaluate_ensembles(tmp_path)
    assert (changed["auc"] != metrics["auc"]).all()
    for name, table in fitted_tables(tmp_path).items():
        pd.testing.assert_frame_equal(table, before[name], check_exact=True, obj=name)


def fitted_tables(out: Path) -> dict[str, pd.DataFrame]:
    keys = ["network", "ensemble"]
    columns = {
        "validation_predictions": list(ENSEMBLE_COLUMNS),
        "best_ensembles": list(BEST_COLUMNS),
        "forward_selection": list(FORWARD_COLUMNS),
        "operating_points": [*keys, "point", "threshold"],
        "calibration": [*keys, "version", "temperature", "prior_shift"],
    }
    return {
        name: read_table(out / "ensembles" / f"{name}.csv", "")[wanted]
        for name, wanted in columns.items()
    }


def test_a_table_of_members_without_their_trials_is_named(tmp_path: Path) -> None:
    evaluated(tmp_path, member_predictions())
    write_table(pd.DataFrame({"repeat": [0]}), tmp_path / "ensembles" / "members.csv")
    with pytest.raises(MgmtError, match=r"members.csv: no column trial"):
        evaluate_ensembles(tmp_path)


def test_a_missing_table_is_named_with_what_makes_it(tmp_path: Path) -> None:
    evaluated(tmp_path, member_predictions())
    (tmp_path / "ensembles" / "members.csv").unlink()
    with pytest.raises(MgmtError, match=r"members.csv: not there yet. Run `mgmt-ray ensemble"):
        evaluate_ensembles(tmp_path)


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    first = evaluated(tmp_path / "a", member_predictions())
    shuffled = member_predictions().sample(frac=1, random_state=1)
    shuffled = shuffled.sort_values("network", key=lambda n: -n.str.len(), kind="stable")
    second = evaluated(tmp_path / "b", shuffled)
    keys = ["network", "ensemble"]
    # Sums in another order differ in the last bits.
    pd.testing.assert_frame_equal(
        first.sort_values(keys, ignore_index=True),
        second.sort_values(keys, ignore_index=True),
        rtol=1e-9,
    )


def test_validation_predictions_are_not_evaluated_as_test(tmp_path: Path) -> None:
    with pytest.raises(MgmtError, match="not only of the test set"):
        evaluated(tmp_path, member_predictions().assign(split="validation"))


def test_external_subjects_are_evaluated_by_the_studys_groups(tmp_path: Path) -> None:
    members = member_predictions().assign(split="external")
    # a third has no FA, and no subject has the study's other DSC modality
    missing = members["subject"].isin([f"S{i:03d}" for i in range(0, 57, 3)])
    members = members[~(missing & (members["modality"] == "FA"))]
    write_table(members, tmp_path / "ensembles" / "member_predictions.csv")
    metrics = evaluate_ensembles(tmp_path, "external", ("PH", "PSR", "FA"))
    numbers = metrics.groupby("ensemble")["num_subjects"].first().to_dict()
    assert numbers == {"DTI": 38, "PH": 57, "FA": 38}
    metrics = evaluate_ensembles(tmp_path, "external", ("PH", "FA"))
    numbers = metrics.groupby("ensemble")["num_subjects"].first().to_dict()
    assert numbers == {"DSC": 57, "DTI": 38, "DSC+DTI": 38, "PH": 57, "FA": 38}
    with pytest.raises(MgmtError, match="not only of the test set"):
        evaluate_ensembles(tmp_path)


def test_a_study_without_ensembles_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(MgmtError, match="Run `mgmt-ray ensemble STUDY --out"):
        evaluate_ensembles(tmp_path)


def ensemble_predictions() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "network": np.repeat(["spottune", "random", "transfer"], 4),
            "ensemble": "DSC",
            "subject": list("abcd") * 3,
            "label": [0, 0, 1, 1] * 3,
            "probability": [0.1, 0.2, 0.8, 0.9] * 3,
            "probability_std": 0.0,
            "num_members": 5,
            "prior": 0.5,
        }
    )


def test_a_test_set_of_one_class_has_no_auc() -> None:
    with pytest.raises(MgmtError, match="spottune DSC: its 4 test subjects are all of one class"):
        metrics_table(ensemble_predictions().assign(label=1))
    with pytest.raises(MgmtError, match="4 external subjects") as error:
        metrics_table(ensemble_predictions().assign(label=1), "external")
    assert "modalities of that cohort" in str(error.value)
    assert "test" not in str(error.value)


def test_two_labels_of_one_subject_are_refused() -> None:
    contradictory = ensemble_predictions()
    contradictory.loc[11, "label"] = 0
    with pytest.raises(MgmtError, match="two labels for d"):
        metrics_table(contradictory)


def test_perfect_separation_has_auc_one_and_rates_with_exact_bounds() -> None:
    row = metrics_table(ensemble_predictions()).iloc[0]
    assert (row["auc"], row["ap"], row["sen"], row["spe"]) == (1, 1, 1, 1)
    # Clopper-Pearson for 2 of 2: (0.025)^(1/2) = 0.1581.
    assert row["sen_low"] == pytest.approx(0.158114, abs=1e-6)
