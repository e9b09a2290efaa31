"""Checks that scans and masks are not empty and share a grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mgmt_ray.cohort.csv_rows import join_first
from mgmt_ray.cohort.problem import VIEW_SCAN, BadScan
from mgmt_ray.cohort.scan import Scan

RESAMPLE_OR_EXCLUDE = (
    "Resample one to the other, set recipe.resample: true, or leave the subject out with "
    "cohort.exclude"
)


def check_mask(mask: Scan, path: Path, labels: Sequence[int]) -> None:
    """Check that a mask marks a tumour, with known labels only.

    Args:
        labels: accepted in addition to 0 (background).

    Raises:
        BadScan: it marks no tumour, or has other labels.

    >>> from mgmt_ray.cohort.scan import Grid
    >>> mask = Scan(np.full((2, 2, 2), 3), Grid((2, 2, 2), np.eye(4)))
    >>> check_mask(mask, Path("mask.nii.gz"), (1, 2, 3, 4))
    >>> try:
    ...     check_mask(mask, Path("mask.nii.gz"), (1, 2, 4))
    ... except BadScan as error:
    ...     print(error.found)
    the mask has labels 3; known are 0, 1, 2, 4
    """
    present = np.unique(mask.voxels)
    unknown = [f"{value:g}" for value in present if value not in (0, *labels)]
    if unknown:
        known = ", ".join(map(str, (0, *labels)))
        raise BadScan(
            path,
            "unknown_mask_label",
            f"the mask has labels {join_first(unknown, 5)}; known are {known}",
            "Fix the mask, or name all its labels in cohort.mask_labels",
        )
    if not (present > 0).any():
        found = "the mask marks no tumour (no label above 0)"
        raise BadScan(path, "empty_mask", found, VIEW_SCAN)


def check_values(scan: Scan, path: Path) -> None:
    """Check that an image is not constant.

    Raises:
        BadScan: all its voxels have one value.
    """
    low = scan.voxels.min()
    if low == scan.voxels.max():
        raise BadScan(path, "constant", f"every voxel is {low:g}", VIEW_SCAN)


def check_grid(scan: Scan, mask: Scan, path: Path, mask_path: Path) -> None:
    """Check that an image and its mask are on the same grid.

    Raises:
        BadScan: size, spacing, origin or direction differ.

    >>> from mgmt_ray.cohort.scan import Grid
    >>> scan, mask = (Scan(np.ones((2, 2, 2)), Grid((2, 2, 2), np.eye(4) * s)) for s in (1, 2))
    >>> check_grid(scan, scan, Path("flair.nii.gz"), Path("mask.nii.gz"))
    >>> try:
    ...     check_grid(scan, mask, Path("flair.nii.gz"), Path("mask.nii.gz"))
    ... except BadScan as error:
    ...     print(error.found)
    is not on the grid of its mask mask.nii.gz: spacing (mm) 1 1 1 against 2 2 2
    """
    difference = scan.grid.difference(mask.grid)
    if difference:
        found = f"is not on the grid of its mask {mask_path.name}: {difference}"
        raise BadScan(path, "other_grid", found, RESAMPLE_OR_EXCLUDE)
