from __future__ import annotations

import pandas as pd
import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.selection.members import MEMBER_COLUMNS, choose_members


def trials(**scores: list[float]) -> pd.DataFrame:
    """One training per fold for each hyper-parameter ``rate`` of one network and modality."""
    rows = [
        {
            "network": "spottune",
            "modality": "PH",
            "repeat": 42,
            "outer_fold": 0,
            "fold": fold,
            "trial": f"{rate}-{fold}",
            "hyperparameters": f'{{"rate": "{rate}", "batch": 12}}',
            "rule": "best_m",
            "epoch": 3,
            "validation_m": m,
            "weights_sha256": "f" * 64,
        }
        for rate, ms in scores.items()
        for fold, m in enumerate(ms)
    ]
    return pd.DataFrame(rows)


def test_the_best_mean_over_folds_wins_not_the_best_single_fold() -> None:
    chosen = choose_members(trials(lucky=[0.9, 0.3], steady=[0.65, 0.65]))
    assert chosen["trial"].tolist() == ["steady-0", "steady-1"]
    assert tuple(chosen.columns) == MEMBER_COLUMNS


def test_folds_that_qualify_count_before_their_m() -> None:
    # SEN 1, SPE 0 in each fold against SEN .58, SPE .60
    table = trials(all_methylated=[0.6] * 5, honest=[0.588] * 5, once=[0.9] * 5)
    is_fallback = table["trial"].str.startswith("all")
    is_fallback |= table["trial"].isin([f"once-{fold}" for fold in range(1, 5)])
    table["rule"] = table["rule"].mask(is_fallback, "last_epoch")
    assert choose_members(table)["trial"].tolist() == [f"honest-{fold}" for fold in range(5)]
    fallbacks = table[~table["trial"].str.startswith("honest")].assign(rule="last_epoch")
    assert choose_members(fallbacks)["trial"].tolist() == [f"once-{fold}" for fold in range(5)]


def test_the_first_combination_given_wins_a_tie() -> None:
    assert choose_members(trials(b=[0.1, 0.7], a=[0.3, 0.5]))["trial"].tolist() == ["b-0", "b-1"]


def test_each_network_and_modality_is_chosen_for_itself() -> None:
    first, second = trials(a=[0.6], b=[0.5]), trials(a=[0.4], b=[0.7]).assign(modality="T1")
    third = trials(a=[0.1], b=[0.2]).assign(network="random")
    chosen = choose_members(pd.concat([first, second, third]))
    assert chosen["trial"].tolist() == ["a-0", "b-0", "b-0"]
    assert chosen["modality"].tolist() == ["PH", "T1", "PH"]


def test_each_outer_split_is_chosen_for_itself() -> None:
    first, second = trials(a=[0.6], b=[0.5]), trials(a=[0.4], b=[0.7]).assign(outer_fold=1)
    chosen = choose_members(pd.concat([first, second]))
    assert list(zip(chosen["outer_fold"], chosen["trial"], strict=True)) == [(0, "a-0"), (1, "b-0")]


def test_the_order_of_keys_does_not_make_another_combination() -> None:
    table = trials(a=[0.6, 0.6], b=[0.5, 0.5])
    table.loc[1, "hyperparameters"] = '{"batch": 12, "rate": "a"}'
    assert choose_members(table)["trial"].tolist() == ["a-0", "a-1"]


def test_an_undefined_criterion_counts_as_nothing() -> None:
    chosen = choose_members(trials(a=[float("nan"), 0.9], b=[0.5, 0.5]))
    assert chosen["trial"].tolist() == ["b-0", "b-1"]


def test_combinations_of_different_folds_are_not_compared() -> None:
    with pytest.raises(MgmtError, match=r'spottune PH: \{"batch": 12, "rate": "b"\} not trained'):
        choose_members(trials(a=[0.6, 0.6], b=[0.7]))


def test_a_fold_trained_twice_is_refused() -> None:
    with pytest.raises(MgmtError, match="exactly once"):
        choose_members(pd.concat([trials(a=[0.6]), trials(a=[0.7])]))


def test_a_missing_column_is_named() -> None:
    with pytest.raises(MgmtError, match="validation_m"):
        choose_members(trials(a=[0.6]).drop(columns="validation_m"))


def with_diverged(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    """The same trials, some of which have left no weights and no M."""
    nothing = {"rule": "diverged", "epoch": 0, "validation_m": float("nan"), "weights_sha256": None}
    lost = table["trial"].isin(names)
    return table.assign(**{k: table[k].mask(lost, v) for k, v in nothing.items()})


def test_a_combination_of_which_one_training_diverged_is_out() -> None:
    table = with_diverged(trials(wild=[0.9, 0.9], tame=[0.5, 0.4], dull=[0.1, 0.2]), "wild-1")
    assert choose_members(table)["trial"].tolist() == ["tame-0", "tame-1"]


def test_it_stays_for_another_modality_where_it_did_not_diverge() -> None:
    table = with_diverged(trials(wild=[0.9], tame=[0.5]), "wild-0")
    both = pd.concat([table, trials(wild=[0.9], tame=[0.5]).assign(modality="T1")])
    assert choose_members(both)["trial"].tolist() == ["tame-0", "wild-0"]


def test_no_combination_without_divergence_ends_it_and_says_where_and_what_to_do() -> None:
    table = with_diverged(trials(a=[0.9, 0.9], b=[0.5, 0.5]), "a-0", "b-1")
    other = trials(a=[0.5, 0.5], b=[0.5, 0.5]).assign(modality="T1")
    with pytest.raises(MgmtError, match=r"^spottune PH: .*\(a-0, b-1\). Lower .*learning_rate"):
        choose_members(pd.concat([table, other]))
