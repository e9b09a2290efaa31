from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mgmt_ray.cohort.problem import BadScan
from mgmt_ray.preprocess.intensity import scale_to_unit

T1 = Path("S1_T1.nii.gz")
MASK = np.array([[[True, True, False]]])


def volume(*values: float) -> np.ndarray:
    return np.array([[values]], np.float32)


def test_a_positive_volume_is_divided_by_its_maximum() -> None:
    scaled = scale_to_unit(volume(2, 8, 0), MASK, T1)
    np.testing.assert_array_equal(scaled, volume(0.25, 1, 0))


def test_negative_tumour_values_start_at_zero_and_the_background_stays_zero() -> None:
    scaled = scale_to_unit(volume(-4, 12, 0), MASK, T1)
    np.testing.assert_array_equal(scaled, volume(0, 1, 0))


def test_the_background_counts_for_the_range_of_a_negative_map() -> None:
    scaled = scale_to_unit(volume(-4, -1, 0), MASK, T1)
    np.testing.assert_array_equal(scaled, volume(0, 0.75, 0))


@pytest.mark.parametrize(
    ("values", "kind"),
    [((0, 0, 0), "constant"), ((1, np.nan, 0), "not_finite"), ((1, np.inf, 0), "not_finite")],
)
def test_a_volume_without_a_range_is_refused_by_name(values: tuple[float, ...], kind: str) -> None:
    with pytest.raises(BadScan, match="S1_T1") as refused:
        scale_to_unit(volume(*values), MASK, T1)
    assert refused.value.kind == kind
