from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mgmt_ray.statistics.leak_detection import (
    Value,
    associate_numbers,
    associate_properties,
    associate_voxels,
    familywise_p,
    rank_aucs,
)


def labels_of(number: int) -> np.ndarray:
    return (np.arange(number) % 5 < 2).astype(np.int64)


def permuted_of(labels: np.ndarray, number: int) -> np.ndarray:
    random = np.random.default_rng(1)
    return np.stack([random.permutation(labels) for _ in range(number)])


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_every_area_is_scikit_learns_ties_included(kind: type) -> None:
    random = np.random.default_rng(0)
    numbers = np.round(random.normal(size=(40, 33)), 1).astype(kind)
    numbers[:10] = np.abs(numbers[:10])
    numbers[10] = 0.0
    labels = labels_of(33)
    labellings = np.concatenate([labels[None], permuted_of(labels, 3)])
    expected = [[roc_auc_score(row, number) for row in labellings] for number in numbers]
    # ranks and their sums are exact in float32 here
    np.testing.assert_allclose(rank_aucs(numbers, labellings), expected, atol=1e-12)


def test_a_minus_zero_is_a_zero() -> None:
    numbers = np.array([[-0.0, 0.0, 0.5, 0.5]], dtype=np.float16)
    assert rank_aucs(numbers, np.array([[1, 0, 1, 0]]))[0, 0] == 0.5


def test_a_voxel_with_the_label_is_found_and_others_are_at_chance() -> None:
    random = np.random.default_rng(2)
    labels = labels_of(60)
    volumes = random.random((60, 4, 5, 6)).astype(np.float16)
    volumes[:, 2, 3, 1] = 0.2 + 0.6 * labels
    telling = associate_voxels(volumes, labels, permuted_of(labels, 200))
    assert telling.aucs[2, 3, 1] == 1.0
    assert familywise_p(0.5, telling.null_distances) == pytest.approx(1 / 201)
    rest = np.abs(telling.aucs - 0.5)
    rest[2, 3, 1] = 0.0
    # 119 voxels without a label: the best of them is an ordinary maximum of chance
    assert familywise_p(float(rest.max()), telling.null_distances) > 0.05


@pytest.mark.parametrize("block_size", [1, 7, 1 << 14])
def test_the_maximum_by_chance_is_over_the_voxels_of_all_blocks(block_size: int) -> None:
    random = np.random.default_rng(4)
    labels = labels_of(25)
    volumes = random.random((25, 2, 3, 4)).astype(np.float16)
    permuted = permuted_of(labels, 12)
    telling = associate_voxels(volumes, labels, permuted, block_size)
    voxels = volumes.reshape(25, 24).T
    plain = [max(abs(roc_auc_score(row, v) - 0.5) for v in voxels) for row in permuted]
    np.testing.assert_allclose(
        telling.null_distances, plain, atol=1e-12
    )  # ranks are exact in float32
    expected = [roc_auc_score(labels, v) for v in voxels]
    np.testing.assert_allclose(telling.aucs.ravel(), expected, atol=1e-12)


def test_voxels_that_hardly_anybody_fills_are_not_asked() -> None:
    labels = labels_of(60)
    volumes = np.zeros((60, 1, 1, 2), dtype=np.float16)
    volumes[:2, 0, 0, 0] = 1.0
    volumes[:, 0, 0, 1] = labels
    telling = associate_voxels(volumes, labels, permuted_of(labels, 10))
    assert telling.aucs.ravel().tolist() == [0.5, 1.0]


def test_the_corrected_p_is_uniform_where_nothing_tells() -> None:
    random = np.random.default_rng(3)
    labels = labels_of(30)
    permuted = permuted_of(labels, 199)
    p = []
    for _ in range(200):
        telling = associate_numbers(random.normal(size=(20, 30)), labels, permuted)
        p.append(familywise_p(float(np.abs(telling.aucs - 0.5).max()), telling.null_distances))
    # 200 studies: 0.05 ± 0.046 is three standard errors
    assert np.mean(np.array(p) <= 0.05) < 0.096
    assert np.mean(p) == pytest.approx(0.5, abs=0.062)  # 3 × sqrt(1/12/200)


CODES: dict[str, list[list[Value]]] = {
    "text": [["Basel", "Bern"]],
    "number": [[1.0, 1.001]],
    "unknown": [[None, 3.0]],
    "parity": [[float(2 * i + k) for k in (0, 1)] for i in range(40)],
    "many numbers": [[float(i), 100.0 + i] for i in range(40)],
    "both sides": [[0.0, -1.0], [0.0, 1.0]],
    "many scanners": [[f"a{i}", f"b{i}"] for i in range(8)],
}
"""Values of an unmethylated and a methylated subject, taken in turn."""


@pytest.mark.parametrize("code", CODES)
def test_every_way_to_code_the_label_is_found_among_others(code: str) -> None:
    labels = labels_of(60)
    random = np.random.default_rng(5)
    noise: list[list[Value]] = [random.normal(size=60).tolist() for _ in range(200)]
    values = [CODES[code][i % len(CODES[code])][k] for i, k in enumerate(labels)]
    *others, found = associate_properties([*noise, values], labels, permuted_of(labels, 199))
    assert found.p == pytest.approx(1 / 200)
    assert found.auc >= 0.75
    assert min(each.p for each in others) > 0.01


def test_properties_of_any_kind_are_called_associated_as_rarely_as_the_level_says() -> None:
    random = np.random.default_rng(6)
    labels = labels_of(40)
    least = []
    for _ in range(60):
        table: list[list[Value]] = [random.normal(size=40).tolist() for _ in range(5)]
        table += [[str(v) for v in random.integers(0, k, 40)] for k in (2, 6, 15, 40)]
        table += [[None if v < 1 else float(v) for v in random.integers(0, 4, 40)]]
        table += [["same"] * 40, [float(i) for i in range(40)]]
        permuted = np.stack([random.permutation(labels) for _ in range(99)])
        truly = random.permutation(labels)
        least.append(min(each.p for each in associate_properties(table, truly, permuted)))
    assert np.mean(np.array(least) <= 0.1) <= 0.1 + 3 * (0.09 / 60) ** 0.5
