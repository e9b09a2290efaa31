"""Whether scans and masks say something and belong together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mgmt_ray.cohort.problem import VIEW_SCAN, BadScan
from mgmt_ray.cohort.scan import Scan

RESAMPLE_OR_EXCLUDE = (
    "Resample one to the other, set recipe.resample: true, or leave the subject out with "
    "cohort.exclude"
)


def check_mask(mask: Scan, path: Path, labels: Sequence[int]) -> None:
    """Make sure that a mask marks a tumour, with known labels only.

    Raises:
        BadScan: it marks none, or has other labels.
    """
    found = np.unique(mask.voxels)
    strange = [f"{value:g}" for value in found if value not in (0, *labels)]
    if strange:
        more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
        known = ", ".join(map(str, (0, *labels)))
        raise BadScan(
            path,
            "unknown_mask_label",
            f"the mask has labels {', '.join(strange[:5])}{more}; known are {known}",
            "Mend the mask, or name all its labels in cohort.mask_labels",
        )
    if not (found > 0).any():
        found_in_words = "the mask marks no tumour (no label above 0)"
        raise BadScan(path, "empty_mask", found_in_words, VIEW_SCAN)


def check_values(scan: Scan, path: Path) -> None:
    """Make sure that an image says something.

    Raises:
        BadScan: it has one value only.
    """
    low = scan.voxels.min()
    if low == scan.voxels.max():
        raise BadScan(path, "constant", f"every voxel is {low:g}", VIEW_SCAN)


def check_grid(scan: Scan, mask: Scan, path: Path, mask_path: Path) -> None:
    """Make sure that an image and its mask are on the same grid.

    Raises:
        BadScan: size, spacing, origin or direction differ.
    """
    difference = scan.grid.difference(mask.grid)
    if difference:
        found = f"is not on the grid of its mask {mask_path.name}: {difference}"
        raise BadScan(path, "other_grid", found, RESAMPLE_OR_EXCLUDE)
