from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mgmt_ray.statistics.leak_detection import (
    associate_numbers,
    associate_voxels,
    compute_similarity,
    familywise_p,
    move_to_origin,
    rank_aucs,
    tumour_box,
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


def tumours(number: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    volumes = (0.1 + 0.9 * random.random((number, 6, 7, 8))).astype(np.float16)
    return np.where(random.random(volumes.shape) < 0.6, volumes, np.float16(0))


def test_correlation_and_overlap_are_numpys_over_common_voxels() -> None:
    one, other = tumours(3, 0), tumours(4, 1)
    agreement = compute_similarity(one, other)
    for i, a in enumerate(one.astype(np.float64)):
        for j, b in enumerate(other.astype(np.float64)):
            both = (a != 0) & (b != 0)
            # products of float32 sums of some hundred values near 1
            assert agreement.correlation[i, j] == pytest.approx(
                np.corrcoef(a[both], b[both])[0, 1], abs=1e-5
            )
            jaccard = both.sum() / ((a != 0) | (b != 0)).sum()
            assert agreement.overlap[i, j] == pytest.approx(jaccard)


def test_a_volume_is_itself_and_a_flat_or_distant_one_is_like_nobody() -> None:
    volumes = tumours(2, 2)
    assert np.diag(compute_similarity(volumes, volumes).correlation) == pytest.approx(1.0, abs=1e-5)
    flat = np.where(volumes != 0, np.float16(0.5), np.float16(0))
    assert not compute_similarity(volumes, flat).correlation.any()
    empty = np.zeros_like(volumes)
    assert not compute_similarity(volumes, empty).overlap.any()


def test_at_the_origin_a_tumour_is_the_same_wherever_it_was() -> None:
    volume = np.zeros((2, 9, 9, 9), np.float16)
    part = tumours(1, 3)[0, :3, :4, :5] + np.float16(0.1)
    volume[0, 1:4, 2:6, 3:8] = part
    volume[1, 6:9, 5:9, 0:5] = part
    assert tumour_box(volume[0] != 0) == (slice(1, 4), slice(2, 6), slice(3, 8))
    moved = move_to_origin(volume, (4, 4, 5))
    assert (moved[0] == moved[1]).all()
    assert (moved[0, :3] == part).all() and not moved[0, 3].any()
