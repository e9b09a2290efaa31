from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mgmt_ray.base import MgmtError, stream
from mgmt_ray.cohort.subject import MODALITIES
from mgmt_ray.selection.ensembles import ENSEMBLE_COLUMNS, ensemble, group_ensembles


def member(
    modality: str,
    fold: int,
    probabilities: dict[str, float],
    network: str = "spottune",
    outer_fold: int = 0,
) -> pd.DataFrame:
    """One member's test predictions; subjects whose id starts with m are methylated."""
    return pd.DataFrame(
        {
            "subject": list(probabilities),
            "split": "test",
            "outer_fold": outer_fold,
            "fold": fold,
            "network": network,
            "modality": modality,
            "trial": f"{network}-{modality}-{fold}" + f"-outer{outer_fold}" * bool(outer_fold),
            "probability": list(probabilities.values()),
            "probability_std": 0.1,
            "label": [int(name.startswith("m")) for name in probabilities],
            "weights_sha256": "f" * 64,
            "prior": 0.5,
        }
    )


def probability(table: pd.DataFrame, name: str, subject: str) -> float:
    row = table[(table["ensemble"] == name) & (table["subject"] == subject)]
    return float(row["probability"].iloc[0])


def test_all_eleven_modalities_give_the_seven_groups_of_the_paper() -> None:
    groups = group_ensembles(MODALITIES)
    assert list(groups) == [
        "DSC",
        "DTI",
        "Struct",
        "DSC+DTI",
        "DSC+Struct",
        "DTI+Struct",
        "DSC+DTI+Struct",
    ]
    assert groups["DSC+DTI"] == ("ap-rCBV", "PH", "PSR", "AD", "FA", "RD", "TR")
    assert groups["DSC+DTI+Struct"] == MODALITIES


def test_groups_without_a_modality_of_the_study_are_left_out() -> None:
    assert group_ensembles(("T1", "PH")) == {
        "DSC": ("PH",),
        "Struct": ("T1",),
        "DSC+Struct": ("PH", "T1"),
    }
    assert group_ensembles(("T1+T2",)) == {}


def test_modalities_weigh_equally_however_many_folds_they_have() -> None:
    members = [member("PH", fold, {"m": 0.6, "u": 0.2}) for fold in range(3)]
    members.append(member("FA", 0, {"m": 0.0, "u": 1.0}))
    table = ensemble(pd.concat(members), {"DSC+DTI": ("PH", "FA")})
    assert probability(table, "DSC+DTI", "m") == pytest.approx(0.3)
    assert probability(table, "DSC+DTI", "u") == pytest.approx(0.6)
    assert probability(table, "PH", "m") == pytest.approx(0.6)
    assert tuple(table.columns) == ENSEMBLE_COLUMNS
    assert table.groupby("ensemble")["num_members"].first().to_dict() == {
        "DSC+DTI": 4,
        "FA": 1,
        "PH": 3,
    }


def test_a_group_is_the_mean_of_its_single_models_not_of_its_groups() -> None:
    values = {"ap-rCBV": 0.3, "PH": 0.3, "PSR": 0.3, "FA": 0.7}
    members = pd.concat([member(m, 0, {"m": p, "u": 0.5}) for m, p in values.items()])
    table = ensemble(members, group_ensembles(tuple(values)))
    assert probability(table, "DSC+DTI", "m") == pytest.approx(0.4)


def test_the_deviation_is_that_of_one_draw_per_member() -> None:
    folds = {"PH": 3, "FA": 2}
    members = pd.concat(
        [member(m, f, {"m": 0.5, "u": 0.5}) for m, number in folds.items() for f in range(number)]
    )
    members["probability_std"] = np.repeat([0.05, 0.2, 0.1, 0.15, 0.02], 2)
    table = ensemble(members, {"DSC+DTI": ("PH", "FA")})
    draws = stream(0, "test").normal(0.5, [0.05, 0.2, 0.1, 0.15, 0.02], size=(200_000, 5))
    simulated = (draws[:, :3].mean(1) / 2 + draws[:, 3:].mean(1) / 2).std()
    # The relative standard error of a deviation from n draws is 1/sqrt(2n): 0.0016; 4 of them.
    assert table.loc[0, "probability_std"] == pytest.approx(simulated, rel=0.0064)


def test_a_network_without_a_part_does_not_get_the_ensemble() -> None:
    members = pd.concat(
        [
            member("PH", 0, {"m": 0.6, "u": 0.2}),
            member("T1", 0, {"m": 0.6, "u": 0.2}),
            member("T1", 0, {"m": 0.4, "u": 0.2}, network="transfer-2"),
        ]
    )
    table = ensemble(members, group_ensembles(("PH", "T1")))
    given = table.groupby("network")["ensemble"].unique()
    assert list(given["spottune"]) == ["DSC", "Struct", "DSC+Struct", "PH", "T1"]
    assert list(given["transfer-2"]) == ["Struct", "T1"]


def test_nested_splits_predict_each_subject_once_and_are_pooled() -> None:
    members = pd.concat(
        [
            member("PH", 0, {"m1": 0.6, "u1": 0.2}),
            member("PH", 1, {"m1": 0.8, "u1": 0.2}),
            member("PH", 0, {"m2": 0.9, "u2": 0.4}, outer_fold=1),
            member("PH", 1, {"m2": 0.5, "u2": 0.4}, outer_fold=1),
        ]
    )
    table = ensemble(members, {})
    assert table["subject"].tolist() == ["m1", "m2", "u1", "u2"]
    assert table["probability"].tolist() == pytest.approx([0.7, 0.7, 0.2, 0.4])
    # two models of 0.1 each: 0.1 / sqrt(2)
    assert table["probability_std"].tolist() == pytest.approx([0.1 / 2**0.5] * 4)
    assert set(table["num_members"]) == {4}


def test_repeated_splits_are_averaged_where_they_share_a_subject() -> None:
    members = pd.concat(
        [
            member("PH", 0, {"m1": 0.6, "u1": 0.2}),
            member("PH", 1, {"m1": 0.8, "u1": 0.2}),
            member("PH", 0, {"m1": 0.1, "u2": 0.4}, outer_fold=1),
        ]
    )
    table = ensemble(members, {})
    # each split's mean weighs the same, whatever its number of members
    assert table["probability"].tolist() == pytest.approx([0.4, 0.2, 0.4])
    draws = stream(0, "test").normal(0.5, 0.1, size=(200_000, 3))
    simulated = (draws[:, :2].mean(1) / 2 + draws[:, 2] / 2).std()
    # The relative standard error of a deviation from n draws is 1/sqrt(2n): 0.0016; 4 of them.
    assert table.loc[0, "probability_std"] == pytest.approx(simulated, rel=0.0064)


def test_an_external_ensemble_is_of_the_subjects_with_all_its_modalities() -> None:
    members = pd.concat(
        [
            member("PH", 0, {"m": 0.6, "u": 0.2}),
            member("PH", 0, {"m": 0.8, "u": 0.4}, outer_fold=1),
            member("T1", 0, {"m": 0.1, "n": 0.3}),
            member("T1", 0, {"m": 0.1, "n": 0.5}, outer_fold=1),
        ]
    ).assign(split="external")
    table = ensemble(members, group_ensembles(("PH", "T1")))
    assert table.groupby("ensemble", sort=False)["subject"].agg("".join).to_dict() == {
        "DSC": "mu",
        "Struct": "mn",
        "DSC+Struct": "m",
        "PH": "mu",
        "T1": "mn",
    }
    assert probability(table, "DSC", "u") == pytest.approx(0.3)
    assert probability(table, "DSC+Struct", "m") == pytest.approx(0.4)
    # and so is one of test subjects that are drawn for each modality
    of_test = ensemble(members.assign(split="test"), group_ensembles(("PH", "T1")))
    pd.testing.assert_frame_equal(of_test, table)


def out_of_fold(
    modality: str, folds: list[dict[str, float]], seed: int = 0, network: str = "spottune"
) -> pd.DataFrame:
    """Validation predictions of one model: each fold's member predicts its own subjects."""
    tables = [member(modality, fold, own, network) for fold, own in enumerate(folds)]
    table = pd.concat(tables, ignore_index=True).assign(split="validation")
    return table.assign(trial=table["trial"] + f"-seed{seed}")


def test_training_subjects_are_predicted_by_the_member_that_did_not_train_on_them() -> None:
    members = pd.concat(
        [
            out_of_fold("PH", [{"m1": 0.9, "u1": 0.1}, {"m2": 0.7, "u2": 0.3}]),
            out_of_fold("PH", [{"m1": 0.7, "u1": 0.3}, {"m2": 0.5, "u2": 0.5}], seed=1),
            out_of_fold("T1", [{"m1": 0.2, "u1": 0.2, "u3": 0.4}, {"m2": 0.1, "u2": 0.5}]),
        ]
    )
    table = ensemble(members, group_ensembles(("PH", "T1")))
    own = table[table["ensemble"] == "DSC+Struct"]
    assert own["subject"].tolist() == ["m1", "m2", "u1", "u2"]
    assert own["probability"].tolist() == pytest.approx([0.5, 0.35, 0.2, 0.45])
    assert set(own["num_members"]) == {6}
    assert table.loc[table["ensemble"] == "Struct", "subject"].tolist() == [
        "m1",
        "m2",
        "u1",
        "u2",
        "u3",
    ]


def test_the_prior_of_an_ensemble_is_weighted_as_its_probability() -> None:
    members = pd.concat(
        [
            member("PH", 0, {"m": 0.6, "u": 0.2}).assign(prior=0.5),
            member("PH", 1, {"m": 0.6, "u": 0.2}).assign(prior=0.3),
            member("FA", 0, {"m": 0.6, "u": 0.2}).assign(prior=0.2),
        ]
    )
    table = ensemble(members, {"DSC+DTI": ("PH", "FA")})
    priors = table.groupby("ensemble")["prior"].first().to_dict()
    # members weigh equally within a modality, modalities within an ensemble
    assert priors == pytest.approx({"DSC+DTI": 0.3, "PH": 0.4, "FA": 0.2})


BOTH = {"m": 0.6, "u": 0.2}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            [member("PH", 0, BOTH), member("PH", 1, {"m": 0.6})],
            "trial spottune-PH-1 has no prediction for u",
        ),
        ([member("PH", 0, BOTH), member("PH", 1, BOTH).assign(label=1)], "two labels for u"),
        (
            [member("PH", 0, BOTH), member("PH", 1, BOTH).assign(split="validation")],
            "several splits",
        ),
        (
            [
                member("PH", 0, {"m1": 0.6, "u1": 0.2}),
                member("PH", 0, {"m1": 0.6, "u2": 0.2}, outer_fold=1),
                member("PH", 1, {"m1": 0.6}, outer_fold=1),
            ],
            "trial spottune-PH-1-outer1 has no prediction for u2",
        ),
        (
            [
                member("PH", 0, BOTH),
                member("PH", 0, BOTH, outer_fold=1),
                member("PH", 0, BOTH, network="random"),
            ],
            "random PH: no member of outer split 1",
        ),
        (
            [
                member("PH", 0, BOTH).assign(split="external"),
                member("PH", 0, {"m": 0.8}, outer_fold=1).assign(split="external"),
            ],
            "trial spottune-PH-0-outer1 has no prediction for u",
        ),
        (
            [out_of_fold("PH", [{"m1": 0.9, "u1": 0.1}, {"m2": 0.7, "u1": 0.3}])],
            "spottune PH, outer split 0: u1 not validated by exactly",
        ),
        (
            [out_of_fold("PH", [BOTH]), out_of_fold("PH", [{"m": 0.9}], seed=1)],
            "u not validated by exactly one fold",
        ),
        (
            [out_of_fold("PH", [BOTH]), out_of_fold("PH", [{"m": 0.9}], network="random")],
            "random PH, outer split 0: u not validated, unlike",
        ),
    ],
)
def test_members_that_do_not_belong_together_are_refused_by_name(
    members: list[pd.DataFrame], message: str
) -> None:
    with pytest.raises(MgmtError, match=message):
        ensemble(pd.concat(members), {})
