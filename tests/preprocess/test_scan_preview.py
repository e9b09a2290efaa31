from __future__ import annotations

from pathlib import Path

import numpy as np

from mgmt_ray.base import stream
from mgmt_ray.preprocess.scan_preview import BINS, PICTURE, view_scan
from tests.preprocess.conftest import ball

SHAPE = (24, 32, 28)
TUMOUR = ball(SHAPE, (11, 15, 11), 6)


def test_a_view_shows_the_slice_with_the_most_tumour_and_all_tumour_values() -> None:
    noise = stream(0, "view").integers(1, 2000, SHAPE)
    scan = np.where(TUMOUR, noise + 5000, noise).astype(np.int16)
    view = view_scan("T1", Path("T1.nii.gz"), scan, TUMOUR)
    assert view.slice_number == 11
    inside = scan[TUMOUR]
    assert (view.low, view.high) == (inside.min(), inside.max())
    wanted, _ = np.histogram(inside, BINS, (view.low, view.high))
    np.testing.assert_array_equal(view.counts, wanted)
    # 32 x 28 voxels in 96 x 96 pixels: three pixels a voxel, six empty columns on each side
    rows, columns = np.arange(PICTURE) // 3, np.arange(6, PICTURE - 6) // 3 - 2
    np.testing.assert_array_equal(view.tumour[:, 6:-6], TUMOUR[11][np.ix_(rows, columns)])
    for beside in (np.s_[:, :6], np.s_[:, -6:]):
        assert not view.tumour[beside].any()
        assert not view.picture[beside].any()
    plane = scan[11].astype(np.float64)
    black, white = np.percentile(plane, (1, 99))
    grey = 255 * np.clip((plane - black) / (white - black), 0, 1)
    # rounding to whole greys, in single precision
    np.testing.assert_allclose(
        view.picture[:, 6:-6], grey[np.ix_(rows, columns)], rtol=0, atol=0.51
    )
