from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mgmt_ray.base import stream
from mgmt_ray.statistics.policy_summary import (
    ROUTING_COLUMNS,
    class_means,
    policy_stability,
    routing_table,
    sort_by_class,
    subject_policies,
)

BLOCKS = ["block_1", "block_2", "block_3"]


def table(
    cubes: dict[tuple[str, int, int, int], np.ndarray], labels: list[int], network: str = "spottune"
) -> pd.DataFrame:
    """Policies [subject, block] by modality, outer split, fold and seed."""
    parts = []
    for (modality, outer, fold, seed), values in cubes.items():
        keys = {"trial": f"{modality}{outer}{fold}{seed}", "network": network, "modality": modality}
        ids = [f"S{i:02d}" for i in range(len(values))]
        named = {"outer_fold": outer, "fold": fold, "repeat": seed, "subject": ids, "label": labels}
        columns = {f"block_{n + 1}": values[:, n] for n in range(values.shape[1])}
        parts.append(pd.DataFrame(keys | named | columns))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def draws() -> np.random.Generator:
    return stream(7, "policies")


def test_a_subjects_policy_is_the_mean_over_its_members(draws: np.random.Generator) -> None:
    values = draws.random((2, 4, 3))
    policies = table({("PH", 0, 0, 0): values[0], ("PH", 0, 1, 0): values[1]}, [1, 0, 1, 0])
    means = subject_policies(policies.sample(frac=1, random_state=1))
    assert means["subject"].tolist() == ["S00", "S01", "S02", "S03"]
    np.testing.assert_allclose(means[BLOCKS], values.mean(axis=0), rtol=1e-12)  # order of summing


def test_class_means_and_their_intervals_are_those_of_the_class(draws: np.random.Generator) -> None:
    labels = [1] * 30 + [0] * 20
    values = draws.normal(0.5, 0.1, (50, 3)).clip(0, 1)
    means = class_means(table({("PH", 0, 0, 0): values}, labels))
    assert list(zip(means["block"], means["label"], strict=True)) == [
        (block, label) for label in (0, 1) for block in (1, 2, 3)
    ]
    rows = means[means["label"] == 1]
    np.testing.assert_allclose(rows["tuned"], values[:30].mean(axis=0), rtol=1e-12)
    assert (rows["num_subjects"] == 30).all()
    width = (rows["tuned_high"] - rows["tuned_low"]).to_numpy()
    normal = 2 * 1.96 * values[:30].std(axis=0) / np.sqrt(30)
    # of 2000 resamples a 2.5 % percentile has a standard error of 2 to 3 % of the deviation
    np.testing.assert_allclose(width, normal, rtol=0.12)


def test_intervals_do_not_depend_on_the_order_of_rows(draws: np.random.Generator) -> None:
    policies = table({("PH", 0, 0, 0): draws.random((12, 3))}, [1, 0] * 6)
    pd.testing.assert_frame_equal(
        class_means(policies), class_means(policies.sample(frac=1, random_state=3))
    )


def test_stability_is_the_plain_mean_over_pairs_of_folds(draws: np.random.Generator) -> None:
    cube = draws.random((3, 8, 3))
    policies = table({("PH", 0, fold, 0): cube[fold] for fold in range(3)}, [1, 0] * 4)
    (row,) = policy_stability(policies).to_dict("records")
    flat = cube.reshape(3, -1)
    pairs = [(0, 1), (0, 2), (1, 2)]
    assert row["num_folds"] == 3
    assert row["tuned"] == pytest.approx(cube.mean())
    plain = np.mean([np.corrcoef(flat[a], flat[b])[0, 1] for a, b in pairs])
    assert row["correlation"] == pytest.approx(plain)
    away = (cube - cube.mean(axis=1, keepdims=True)).reshape(3, -1)
    plain = np.mean([np.corrcoef(away[a], away[b])[0, 1] for a, b in pairs])
    assert row["subject_correlation"] == pytest.approx(plain)
    assert row["fold_std"] == pytest.approx(cube.std(axis=0, ddof=1).mean())
    assert row["certain"] == pytest.approx(np.mean((cube < 0.05) | (cube > 0.95)))


def test_folds_that_differ_in_blocks_only_agree_about_subjects(draws: np.random.Generator) -> None:
    shared = draws.uniform(0.3, 0.7, (10, 3))
    shift = np.array([-0.2, 0.0, 0.2])
    policies = table({("PH", 0, 0, 0): shared + shift, ("PH", 0, 1, 0): shared - shift}, [1, 0] * 5)
    (row,) = policy_stability(policies).to_dict("records")
    assert row["subject_correlation"] == pytest.approx(1)
    assert row["correlation"] < 0.5


def test_seeds_are_averaged_before_folds_are_compared(draws: np.random.Generator) -> None:
    noise = draws.uniform(-0.1, 0.1, (6, 3))
    middle = draws.uniform(0.3, 0.7, (6, 3))
    cubes = {
        ("PH", 0, fold, seed): middle + sign * (1 + fold) * noise
        for fold in (0, 1)
        for seed, sign in ((0, 1), (1, -1))
    }
    (row,) = policy_stability(table(cubes, [1, 0] * 3)).to_dict("records")
    assert row["correlation"] == pytest.approx(1)
    assert row["fold_std"] == pytest.approx(0, abs=1e-12)  # rounding


def test_outer_splits_are_compared_each_for_itself(draws: np.random.Generator) -> None:
    first, second = draws.random((2, 6, 3))
    cubes = {("PH", outer, fold, 0): (first, second)[outer] for outer in (0, 1) for fold in (0, 1)}
    (row,) = policy_stability(table(cubes, [1, 0] * 3)).to_dict("records")
    assert row["correlation"] == pytest.approx(1)
    assert row["fold_std"] == pytest.approx(0, abs=1e-12)


def test_what_cannot_be_known_is_nan(draws: np.random.Generator) -> None:
    one = policy_stability(table({("PH", 0, 0, 0): draws.random((4, 3))}, [1, 0] * 2))
    assert one[["correlation", "subject_correlation", "fold_std"]].isna().all(axis=None)
    same = np.tile([0.1, 0.6, 0.9], (4, 1))
    fixed = policy_stability(table({("PH", 0, f, 0): same for f in (0, 1)}, [1, 0] * 2))
    assert fixed["correlation"].tolist() == pytest.approx([1])
    assert fixed["subject_correlation"].isna().all()  # the same for every subject


def test_networks_of_different_depths_share_a_table(draws: np.random.Generator) -> None:
    deep = table({("PH", 0, 0, 0): draws.random((4, 3))}, [1, 0] * 2)
    flat = table({("PH", 0, 0, 0): draws.random((4, 2))}, [1, 0] * 2, network="small")
    both = pd.concat([deep, flat], ignore_index=True)
    assert class_means(both).groupby("network")["block"].max().to_dict() == {
        "spottune": 3,
        "small": 2,
    }
    assert policy_stability(both)["tuned"].notna().all()


def test_rows_are_sorted_by_class_and_then_by_how_much_is_tuned() -> None:
    values = np.array([[0.9, 0.9, 0.9], [0.2, 0.2, 0.2], [0.1, 0.1, 0.1], [0.5, 0.5, 0.5]])
    means = subject_policies(table({("PH", 0, 0, 0): values}, [1, 0, 1, 0]))
    order, labels = sort_by_class(means, BLOCKS)
    assert order == ["S01", "S03", "S02", "S00"]
    assert labels.tolist() == [0, 0, 1, 1]


def test_routing_is_compared_on_the_same_subjects_with_delongs_interval() -> None:
    random = stream(0, "routing")
    labels = np.repeat([0, 1], 20)
    frames = []
    for policy, shift in (("agent", 1.5), ("random", 0.2), ("frozen", 0.0)):
        for trial in ("a", "b"):
            p = 1 / (1 + np.exp(-(shift * labels + random.standard_normal(40))))
            frames.append(
                pd.DataFrame(
                    {
                        "subject": [f"S{i:02}" for i in range(40)],
                        "split": "test",
                        "outer_fold": 0,
                        "fold": int(trial == "b"),
                        "network": "spottune",
                        "modality": "FA",
                        "trial": trial,
                        "probability": p,
                        "probability_std": 0.0,
                        "label": labels,
                        "weights_sha256": "",
                        "prior": 0.5,
                        "policy": policy,
                    }
                )
            )
    table = pd.concat(frames, ignore_index=True)
    agent = table[table["policy"] == "agent"].drop(columns="policy")
    other_network = agent.assign(network="random", trial="c", fold=0).drop_duplicates("subject")
    members = pd.concat([agent, other_network], ignore_index=True)
    routing = routing_table(members, table[table["policy"] != "agent"], {"DTI": ("FA",)})
    assert tuple(routing.columns) == ROUTING_COLUMNS
    assert set(routing["network"]) == {"spottune"}
    assert routing["policy"].tolist() == ["agent", "random", "frozen"] * 2
    means = table.groupby(["policy", "subject"])["probability"].mean()
    for row in routing.itertuples():
        assert row.auc == pytest.approx(roc_auc_score(labels, means[row.policy].to_numpy()))
    of_agent, worse, _ = routing.head(3).itertuples()
    assert np.isnan([of_agent.routing_difference, of_agent.routing_p]).all()
    assert worse.routing_difference == pytest.approx(worse.auc - of_agent.auc)
    assert worse.routing_difference_low < worse.routing_difference < worse.routing_difference_high
    assert worse.routing_p < 0.05
