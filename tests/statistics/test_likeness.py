from __future__ import annotations

import numpy as np
import pytest

from mgmt_ray.statistics.likeness import at_origin, likeness, tumour_box


def tumours(number: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    volumes = (0.1 + 0.9 * random.random((number, 6, 7, 8))).astype(np.float16)
    return np.where(random.random(volumes.shape) < 0.6, volumes, np.float16(0))


def test_correlation_and_overlap_are_numpys_over_common_voxels() -> None:
    one, other = tumours(3, 0), tumours(4, 1)
    alike = likeness(one, other)
    for i, a in enumerate(one.astype(np.float64)):
        for j, b in enumerate(other.astype(np.float64)):
            both = (a != 0) & (b != 0)
            # products of float32 sums of some hundred values near 1
            assert alike.correlation[i, j] == pytest.approx(
                np.corrcoef(a[both], b[both])[0, 1], abs=1e-5
            )
            jaccard = both.sum() / ((a != 0) | (b != 0)).sum()
            assert alike.overlap[i, j] == pytest.approx(jaccard)


def test_a_volume_is_itself_and_a_flat_or_distant_one_is_like_nobody() -> None:
    volumes = tumours(2, 2)
    assert np.diag(likeness(volumes, volumes).correlation) == pytest.approx(1.0, abs=1e-5)
    flat = np.where(volumes != 0, np.float16(0.5), np.float16(0))
    assert not likeness(volumes, flat).correlation.any()
    empty = np.zeros_like(volumes)
    assert not likeness(volumes, empty).overlap.any()


def test_at_the_origin_a_tumour_is_the_same_wherever_it_was() -> None:
    volume = np.zeros((2, 9, 9, 9), np.float16)
    part = tumours(1, 3)[0, :3, :4, :5] + np.float16(0.1)
    volume[0, 1:4, 2:6, 3:8] = part
    volume[1, 6:9, 5:9, 0:5] = part
    assert tumour_box(volume[0] != 0) == (slice(1, 4), slice(2, 6), slice(3, 8))
    moved = at_origin(volume, (4, 4, 5))
    assert (moved[0] == moved[1]).all()
    assert (moved[0, :3] == part).all() and not moved[0, 3].any()
