from __future__ import annotations

import numpy as np
import pytest

from mgmt_ray.base import stream
from mgmt_ray.synthetic.random_fields import plain_texture, smoothed_noise, tumour_texture


def a_ball() -> np.ndarray:
    z, y, x = np.ogrid[-12:13, -12:13, -12:13]
    return z**2 + y**2 + x**2 < 121


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_smoothed_noise_has_the_correlation_of_its_kernel(sigma: float) -> None:
    fields = np.stack([smoothed_noise((16, 12, 14), sigma, stream(i, "field")) for i in range(400)])
    deviation = fields.std(axis=0)
    # Standard error of a deviation from 400 draws is 0.035; 2688 voxels stay within 5 of them.
    assert np.abs(deviation - 1).max() < 0.18
    for axis in (1, 2, 3):
        pairs = np.moveaxis(fields, axis, 1)
        correlation = np.corrcoef(pairs[:, 4].ravel(), pairs[:, 6].ravel())[0, 1]
        # White noise smoothed by a Gaussian: exp(-d²/4σ²) at distance d; the error of a correlation
        # r is (1 - r²)/n^1/2, at most 0.01 for the 800 or more independent pairs.
        assert correlation == pytest.approx(np.exp(-4 / (4 * sigma**2)), abs=0.03)


@pytest.mark.parametrize("methylated", [True, False])
def test_both_textures_have_the_same_mean_and_standard_deviation(methylated: bool) -> None:
    tumour = a_ball()
    texture = tumour_texture(tumour, methylated, 2.0, stream(1, "texture"))
    # Single precision over 5 000 voxels.
    assert texture[tumour].mean() == pytest.approx(0, abs=1e-4)
    assert texture[tumour].std() == pytest.approx(5**0.5, abs=1e-4)
    assert not texture[~tumour].any()


def test_plain_textures_differ_in_grain_from_tumour_to_tumour() -> None:
    tumour = np.ones((20, 20, 20), bool)
    neighbours = [
        float((t[1:] * t[:-1]).mean())
        for t in (plain_texture(tumour, stream(i, "plain")) for i in range(20))
    ]
    # From nearly fine (exp(-1/4) = 0.78) to nearly coarse (exp(-1/36) = 0.97).
    assert min(neighbours) < 0.85
    assert max(neighbours) > 0.93
