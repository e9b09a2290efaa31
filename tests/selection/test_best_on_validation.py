from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mgmt_ray.base import MgmtError, stream
from mgmt_ray.selection.best_on_validation import (
    BEST_COLUMNS,
    FORWARD_COLUMNS,
    Ensembles,
    choose_ensembles,
    make_ensembles,
)
from mgmt_ray.selection.ensembles import group_ensembles, mean_over_splits, single_models

MODALITIES = ("PH", "PSR", "FA", "T1")
GROUPS = group_ensembles(MODALITIES)


def members(
    split: str,
    networks: tuple[str, ...] = ("spottune",),
    outers: tuple[int, ...] = (0,),
    signal: float = 1.0,
) -> pd.DataFrame:
    """Three folds per model; T1 tells most in outer split 0, FA in split 1, PH nothing."""
    tables = []
    for network in networks:
        for outer in outers:
            subjects = [f"{split}{outer}{i:02d}" for i in range(40)]
            labels = (np.arange(40) < 16).astype(int)
            for modality in MODALITIES:
                draws = stream(0, split, network, outer, modality)
                strength = signal * {"PH": 0, "PSR": 0.5, "FA": outer, "T1": 1 - outer}[modality]
                for fold in range(3):
                    rows = np.arange(fold, 40, 3) if split == "validation" else np.arange(40)
                    score = strength * (2 * labels - 1) + draws.normal(size=40)
                    tables.append(
                        pd.DataFrame(
                            {
                                "subject": [subjects[i] for i in rows],
                                "split": split,
                                "outer_fold": outer,
                                "fold": fold,
                                "network": network,
                                "modality": modality,
                                "trial": f"{network}-{modality}-{outer}-{fold}",
                                "probability": 1 / (1 + np.exp(-score[rows])),
                                "probability_std": 0.1,
                                "label": labels[rows],
                                "weights_sha256": "f" * 64,
                                "prior": 0.4,
                            }
                        )
                    )
    return pd.concat(tables, ignore_index=True)


def model_of(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return table[table["ensemble"] == name].reset_index(drop=True)


@pytest.fixture(scope="module")
def nested() -> Ensembles:
    networks, outers = ("spottune", "random"), (0, 1)
    return make_ensembles(
        members("validation", networks, outers), members("test", networks, outers), GROUPS
    )


def test_one_group_is_chosen_per_network_and_outer_split(nested: Ensembles) -> None:
    best = nested.choices.best
    assert tuple(best.columns) == BEST_COLUMNS
    assert len(best) == 2 * 2 * len(GROUPS)
    assert (best.groupby(["network", "outer_fold"])["chosen"].sum() == 1).all()
    for _, rows in best.groupby(["network", "outer_fold"]):
        qualified = (rows["validation_sen"] > 0.5) & (rows["validation_spe"] > 0.5)
        assert qualified.any()
        chosen = rows[rows["chosen"] == 1].iloc[0]
        assert chosen["validation_m"] == rows.loc[qualified, "validation_m"].max()


def test_the_scores_are_those_of_the_out_of_fold_ensemble(nested: Ensembles) -> None:
    for row in nested.choices.best.itertuples():
        rows = nested.validation[
            (nested.validation["network"] == row.network)
            & (nested.validation["ensemble"] == row.ensemble)
            & (nested.validation["outer_fold"] == row.outer_fold)
        ]
        assert row.num_subjects == len(rows) == 40
        assert row.validation_auc == pytest.approx(
            roc_auc_score(rows["label"], rows["probability"])
        )
        called = rows["probability"] >= 0.5
        assert row.validation_sen == pytest.approx(called[rows["label"] == 1].mean())
        assert row.validation_spe == pytest.approx(1 - called[rows["label"] == 0].mean())
        assert row.validation_m == pytest.approx(
            0.6 * row.validation_sen + 0.4 * row.validation_spe
        )


def test_the_test_subjects_of_an_outer_split_get_the_ensemble_chosen_in_it(
    nested: Ensembles,
) -> None:
    best = nested.choices.best
    assert best[best["chosen"] == 1]["ensemble"].nunique() > 1  # else nothing is shown here
    for row in best[best["chosen"] == 1].itertuples():
        for table in (nested.test, nested.validation):
            own = table[(table["network"] == row.network) & (table["outer_fold"] == row.outer_fold)]
            columns = ["subject", "label", "probability", "probability_std", "num_members", "prior"]
            pd.testing.assert_frame_equal(
                model_of(own, "best overall")[columns], model_of(own, row.ensemble)[columns]
            )


def test_forward_selection_adds_what_improves_most_until_nothing_does(nested: Ensembles) -> None:
    forward = nested.choices.forward
    assert tuple(forward.columns) == FORWARD_COLUMNS
    models = single_models(members("validation", ("spottune", "random"), (0, 1)))
    for (network, outer), steps in forward.groupby(["network", "outer_fold"]):
        own = models[network][outer]
        reached = (False, -1.0, -1.0)
        selected: list[str] = []
        assert steps["step"].tolist() == list(range(1, len(steps) + 1))
        for row in steps.itertuples():
            tried = {}
            for modality in (m for m in MODALITIES if m not in selected):
                p = own.probability[[*selected, modality]].mean(axis=1)
                sen = (p[own.label == 1] >= 0.5).mean()
                spe = (p[own.label == 0] < 0.5).mean()
                area = roc_auc_score(own.label, p)
                tried[modality] = (
                    sen > 0.5 and spe > 0.5,
                    round(0.6 * sen + 0.4 * spe, 12),
                    round(area, 12),
                )
            assert tried[row.modality] == max(tried.values())
            assert row.kept == int(tried[row.modality] > reached)
            if row.kept:
                reached = tried[row.modality]
                selected.append(row.modality)
        assert steps["kept"].tolist()[:-1] == [1] * (len(steps) - 1)
        assert steps["kept"].iloc[-1] == 0 or len(selected) == len(MODALITIES)
        assert tuple(selected) == nested.choices.modalities[network]["forward selection"][outer]


def test_forward_selection_starts_with_the_modality_that_tells_most() -> None:
    models = single_models(members("validation", outers=(0, 1), signal=3.0))
    first = choose_ensembles(models, GROUPS).forward.query("step == 1")
    assert first["modality"].tolist() == ["T1", "FA"]


def test_the_forward_ensemble_is_the_mean_of_its_modalities(nested: Ensembles) -> None:
    for network, named in nested.choices.modalities.items():
        for outer, chosen in named["forward selection"].items():
            own = nested.test[
                (nested.test["network"] == network) & (nested.test["outer_fold"] == outer)
            ]
            singles = own[own["ensemble"].isin(chosen)]
            expected = singles.groupby("subject")["probability"].mean()
            table = model_of(own, "forward selection").set_index("subject")
            np.testing.assert_allclose(table["probability"], expected, rtol=1e-12)
            assert set(table["num_members"]) == {3 * len(chosen)}


@pytest.mark.parametrize("change", ["labels", "probabilities"])
def test_the_test_set_changes_no_choice_and_no_validation_prediction(
    change: str, nested: Ensembles
) -> None:
    networks, outers = ("spottune", "random"), (0, 1)
    test = members("test", networks, outers)
    if change == "labels":
        test["label"] = 1 - test["label"]
    else:
        test["probability"] = stream(9, "test").random(len(test))
    other = make_ensembles(members("validation", networks, outers), test, GROUPS)
    pd.testing.assert_frame_equal(other.choices.best, nested.choices.best)
    pd.testing.assert_frame_equal(other.choices.forward, nested.choices.forward)
    assert other.choices.modalities == nested.choices.modalities
    pd.testing.assert_frame_equal(other.validation, nested.validation)
    assert not other.test.equals(nested.test)


def test_candidates_are_compared_on_the_subjects_that_have_all_modalities() -> None:
    table = members("validation")
    missing = table["subject"].isin([f"validation0{i:02d}" for i in range(0, 40, 4)])
    choices = choose_ensembles(
        single_models(table[~(missing & (table["modality"] == "FA"))]), GROUPS
    )
    assert set(choices.best["num_subjects"]) == {30}
    assert set(choices.forward["num_subjects"]) == {30}


def test_of_equal_ensembles_the_earlier_is_chosen_and_nothing_is_added() -> None:
    table = members("validation", signal=3.0)
    same = table[table["modality"] == "T1"]
    copies = pd.concat(
        [same.assign(modality=m, trial=m + same["fold"].astype(str)) for m in ("PSR", "PH", "T1")]
    )
    choices = choose_ensembles(single_models(copies), group_ensembles(("PH", "PSR", "T1")))
    assert choices.modalities["spottune"]["best overall"] == {0: ("PH", "PSR")}
    assert choices.modalities["spottune"]["forward selection"] == {0: ("PSR",)}
    assert choices.forward["kept"].tolist() == [1, 0]
    assert choices.forward["modality"].tolist() == ["PSR", "PH"]


def test_an_ensemble_that_qualifies_goes_before_one_with_a_higher_m() -> None:
    labels = [1] * 10 + [0] * 10
    # all called methylated: M = 0.6; 6 of 10 right in each class: M = 0.6 less 0.002
    called = {"PH": [1] * 20, "T1": [1] * 6 + [0] * 4 + [1] * 4 + [0] * 6}
    tables = [
        members("validation")
        .head(20)
        .assign(
            subject=[f"s{i:02d}" for i in range(20)],
            fold=0,
            modality=m,
            trial=m,
            label=labels,
            probability=np.array(calls) * 0.4 + 0.3,
        )
        for m, calls in called.items()
    ]
    choices = choose_ensembles(
        single_models(pd.concat(tables)), {"DSC": ("PH",), "Struct": ("T1",)}
    )
    assert choices.best["validation_m"].tolist() == pytest.approx([0.6, 0.6])
    assert choices.best["chosen"].tolist() == [0, 1]


def test_a_comparison_model_stands_for_itself() -> None:
    def with_forest(split: str) -> pd.DataFrame:
        table = members(split)
        forest = table[table["modality"] == "T1"].assign(
            network="radiomics_forest", modality="radiomics_forest"
        )
        forest["trial"] = "radiomics_forest" + forest["fold"].astype(str)
        return pd.concat([table, forest], ignore_index=True)

    ensembles = make_ensembles(with_forest("validation"), with_forest("test"), GROUPS)
    own = ensembles.test[ensembles.test["network"] == "radiomics_forest"]
    assert set(own["ensemble"]) == {"radiomics_forest"}
    assert set(ensembles.choices.best["network"]) == {"spottune"}
    assert set(ensembles.choices.modalities) == {"spottune"}


def test_a_network_of_several_channels_chooses_among_its_models() -> None:
    def renamed(split: str) -> pd.DataFrame:
        table = members(split)
        return table[table["modality"] == "T1"].assign(modality="T1+T2")

    ensembles = make_ensembles(renamed("validation"), renamed("test"), group_ensembles(("T1+T2",)))
    assert list(dict.fromkeys(ensembles.test["ensemble"])) == [
        "best overall",
        "forward selection",
        "T1+T2",
    ]


def test_ensembles_come_as_groups_then_choices_then_single_modalities(nested: Ensembles) -> None:
    names = [*GROUPS, "best overall", "forward selection", *MODALITIES]
    pooled = mean_over_splits(nested.test)
    for _, rows in pooled.groupby("network"):
        assert list(dict.fromkeys(rows["ensemble"])) == names
    assert pooled.groupby(["network", "ensemble"]).size().unique().tolist() == [80]


def test_faulty_validation_is_refused() -> None:
    both = pd.concat([members("validation"), members("test")], ignore_index=True)
    with pytest.raises(MgmtError, match="several splits"):
        make_ensembles(both, members("test"), GROUPS)


def test_a_baseline_with_modalities_has_one_ensemble_of_those_that_validation_chose() -> None:
    networks = ("spottune", "first_order")
    made = make_ensembles(members("validation", networks), members("test", networks), GROUPS)
    rows = made.test[made.test["network"] == "first_order"]
    assert set(rows["ensemble"]) == {"first_order"}
    best = made.choices.best.query("network == 'first_order' and chosen == 1")
    (chosen,) = best["ensemble"]
    assert "first_order" not in set(made.choices.forward["network"])
    single = members("test", ("first_order",))
    in_chosen = single[single["modality"].isin(GROUPS[chosen])]
    by_modality = in_chosen.groupby(["subject", "modality"])["probability"].mean()
    expected = by_modality.groupby("subject").mean()
    assert rows.set_index("subject")["probability"].to_numpy() == pytest.approx(
        expected.to_numpy(), rel=1e-12
    )
