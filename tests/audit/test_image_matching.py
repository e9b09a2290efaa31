from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import affine_transform, binary_dilation, binary_erosion, gaussian_filter
from scipy.spatial.transform import Rotation

from mgmt_ray.audit.image_matching import (
    ALIGNMENTS,
    LEAST_CORRELATION,
    copy_scores,
    copy_threshold,
    fine_structure,
    match_tumours,
    register,
    tumour_box,
)

SHAPE = (24, 24, 24)
NUMBER = 10


def ball(radius: float = 8.0) -> np.ndarray:
    grid = np.indices(SHAPE) - 11.5
    inside: np.ndarray = (grid**2).sum(axis=0) <= radius**2
    return inside


def scans() -> np.ndarray:
    """Noise of the grain of tissue around one bright core, which all of them have."""
    random = np.random.default_rng(0)
    noise = np.stack([gaussian_filter(random.normal(size=SHAPE), 1.0) for _ in range(NUMBER)])
    return 0.4 + 0.15 * noise / noise.std() + 0.3 * ball(5.0)


def tumours() -> np.ndarray:
    """Compact tumours of different persons: one shape and one place."""
    return np.where(ball(), scans(), 0).astype(np.float16)


def turned(values: np.ndarray, order: int) -> np.ndarray:
    """Three degrees about an oblique axis, and half a voxel."""
    turn = Rotation.from_rotvec(np.deg2rad(3) * np.array([0.6, 0.0, 0.8])).as_matrix()
    centre = np.full(3, 11.5)
    offset = centre - turn @ centre + np.array([0.3, -0.4, 0.0])
    moved: np.ndarray = affine_transform(values.astype(np.float64), turn, offset, order=order)
    return moved


COPIES = {
    "turned": np.where(turned(ball(), 0), turned(scans()[0], 1), 0),
    "mirrored": np.where(ball(), scans()[0], 0)[..., ::-1],
    "moved": np.roll(np.where(ball(), scans()[0], 0), (3, -2), (0, 1)),
    "mask grown": np.where(binary_dilation(ball(), iterations=2), scans()[0], 0),
    "mask shrunk": np.where(binary_erosion(ball(), iterations=2), scans()[0], 0),
}


def best_pairs(volumes: np.ndarray) -> dict[tuple[int, int], tuple[float, int]]:
    fine = fine_structure(volumes)
    matches = match_tumours(fine, fine)
    return {
        (i, j): register(volumes[i], volumes[j], ALIGNMENTS[matches.alignment[i, j]])
        for i in range(len(volumes))
        for j in range(i + 1, len(volumes))
    }


def called(pairs: dict[tuple[int, int], tuple[float, int]]) -> list[tuple[int, int]]:
    correlation, shared = (np.array(column) for column in zip(*pairs.values(), strict=True))
    scores = copy_scores(correlation, shared)
    copies = (scores > copy_threshold(scores, 0.01)) & (correlation >= LEAST_CORRELATION)
    return [pair for pair, is_copy in zip(pairs, copies, strict=True) if is_copy]


def test_compact_tumours_of_one_shape_and_place_are_different_persons() -> None:
    assert called(best_pairs(tumours())) == []


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_told_from_the_other_persons(kind: str) -> None:
    volumes = np.concatenate([tumours(), COPIES[kind][None].astype(np.float16)])
    assert called(best_pairs(volumes)) == [(0, NUMBER)]


def test_registration_finds_what_whole_voxels_miss() -> None:
    original, copy = tumours()[0], COPIES["turned"].astype(np.float16)
    fine = [fine_structure(volume[None]) for volume in (original, copy)]
    whole = match_tumours(*fine)
    registered, shared = register(original, copy, ALIGNMENTS[whole.alignment[0, 0]])
    assert registered > 0.92 > whole.correlation[0, 0]
    assert 0.5 * ball().sum() < shared < ball().sum()  # without the border


def test_a_flat_or_tiny_tumour_is_like_nobody() -> None:
    original = tumours()[0]
    flat = np.where(original != 0, np.float16(0.5), np.float16(0))
    tiny = np.where(ball(1.5), original, np.float16(0))
    for other in (flat, tiny):
        assert register(original, other, ALIGNMENTS[0]) == (-1.0, 0)


def test_distinct_persons_rarely_reach_the_threshold() -> None:
    random = np.random.default_rng(1)
    reached = []
    for _ in range(200):
        shared = random.integers(50, 2000, 150)
        correlation = np.tanh(0.3 + random.normal(size=150) / np.sqrt(shared / 4))
        scores = copy_scores(correlation, shared)
        reached.append(scores.max() > copy_threshold(scores, 0.01))
    assert np.mean(reached) <= 0.03  # 0.01 and three standard errors


def test_the_box_of_a_tumour_holds_it_exactly() -> None:
    mask = np.zeros((9, 9, 9), bool)
    mask[1:4, 2:6, 3:8] = True
    assert tumour_box(mask) == (slice(1, 4), slice(2, 6), slice(3, 8))
