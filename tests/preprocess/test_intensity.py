from __future__ import annotations

import numpy as np
import pytest

from mgmt_ray.preprocess.intensity import Unscalable, scale_to_unit

MASK = np.array([[[True, True, False]]])


def volume(*values: float) -> np.ndarray:
    return np.array([[values]], np.float32)


def test_a_positive_volume_is_divided_by_its_maximum() -> None:
    scaled = scale_to_unit(volume(2, 8, 0), MASK, "S1, T1")
    np.testing.assert_array_equal(scaled, volume(0.25, 1, 0))


def test_negative_tumour_values_start_at_zero_and_the_background_stays_zero() -> None:
    scaled = scale_to_unit(volume(-4, 12, 0), MASK, "S1, T1")
    np.testing.assert_array_equal(scaled, volume(0, 1, 0))


def test_the_background_counts_for_the_range_of_a_negative_map() -> None:
    scaled = scale_to_unit(volume(-4, -1, 0), MASK, "S1, T1")
    np.testing.assert_array_equal(scaled, volume(0, 0.75, 0))


@pytest.mark.parametrize("values", [(0, 0, 0), (1, np.nan, 0), (1, np.inf, 0)])
def test_a_volume_without_a_range_is_refused_by_name(values: tuple[float, ...]) -> None:
    with pytest.raises(Unscalable, match="subject S1, T1"):
        scale_to_unit(volume(*values), MASK, "subject S1, T1")
