"""Scans made from others, for copies of data sets in which more was scanned than in the source."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from isal import igzip

from mgmt_ray.base import write_atomically
from mgmt_ray.cohort.scan import RAS_TO_LPS, read_scan

FROM_DEPTH_FIRST = np.eye(4)[[2, 1, 0, 3]]
"""Exchanges depth and width, for NIfTI counts width first."""


def write_inverted_contrast(source: Path, target: Path, step: int = 1) -> None:
    """Write a scan with bright and dark exchanged, on the same grid and with the same background.

    Args:
        source: a scan without negative values.
        target: ends in ``.nii.gz``; complete or not there.
        step: at least 1, the least new value; another step gives other voxels. 0 makes every voxel
            0, as in the faulty cases of BraTS21.
    """
    scan = read_scan(source)
    inverted = scan.voxels.max() + step - scan.voxels
    voxels = np.where((scan.voxels != 0) & (step > 0), inverted, 0).astype(scan.voxels.dtype)
    affine = RAS_TO_LPS @ scan.grid.affine @ FROM_DEPTH_FIRST
    content = igzip.compress(nibabel.Nifti1Image(voxels.T, affine).to_bytes(), 1)
    write_atomically(target, lambda aside: aside.write_bytes(content))
