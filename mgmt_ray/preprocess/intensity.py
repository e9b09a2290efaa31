"""Scaling a masked volume to [0, 1]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32

from mgmt_ray.cohort.problem import LOOK_AT_IT, BadScan


def scale_to_unit(
    volume: Float32[np.ndarray, "depth height width"],
    mask: Bool[np.ndarray, "depth height width"],
    path: Path,
) -> Float32[np.ndarray, "depth height width"]:
    """Min-max scaling of a masked volume with its background (Schmitz et al. 2024).

    The background's zeros count, as in the reference: a positive image is divided by its maximum.
    Where a map has negative tumour values the minimum is theirs, and the background, which scaling
    would lift, is set back to 0.

    Args:
        volume: 0 outside the mask.
        mask: the tumour.
        path: the scan's file, for the message.

    Raises:
        BadScan: the volume is 0 everywhere in the mask, or has a value that is not finite.
    """
    low, high = float(volume.min()), float(volume.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        found = "tumour voxels are too large for single precision"
        raise BadScan(path, "not_finite", found, LOOK_AT_IT)
    if low == high:
        raise BadScan(path, "constant", f"every tumour voxel is {low:g}", LOOK_AT_IT)
    scaled = (volume - np.float32(low)) / np.float32(high - low)
    return np.where(mask, scaled, np.float32(0))
