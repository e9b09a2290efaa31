"""Making further scans from others, for data sets with more modalities than the source."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from isal import igzip

from mgmt_ray.base import write_atomically
from mgmt_ray.cohort.scan import RAS_TO_LPS, read_scan

FROM_DEPTH_FIRST = np.eye(4)[[2, 1, 0, 3]]
"""Swaps depth and width, since NIfTI has width first."""


def write_inverted_contrast(source: Path, target: Path, step: int = 1) -> None:
    """Write a scan with inverted contrast, on the same grid and with the same background.

    Args:
        source: a scan without negative values.
        target: ends in ``.nii.gz``; written completely or not at all.
        step: the smallest new value, at least 1; different steps give different voxels. 0 makes
            every voxel 0, as in the faulty cases of BraTS21.
    """
    scan = read_scan(source)
    inverted = scan.voxels.max() + step - scan.voxels
    voxels = np.where((scan.voxels != 0) & (step > 0), inverted, 0).astype(scan.voxels.dtype)
    affine = RAS_TO_LPS @ scan.grid.affine @ FROM_DEPTH_FIRST
    content = igzip.compress(nibabel.Nifti1Image(voxels.T, affine).to_bytes(), 1, mtime=0)
    write_atomically(target, lambda aside: aside.write_bytes(content))
