"""Scaling a masked volume to [0, 1]."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32

from mgmt_ray.base import MgmtError


class Unscalable(MgmtError):
    """A masked volume has no range to scale by."""

    def __init__(self, what: str, found: str) -> None:
        super().__init__(
            f"{what}: {found} inside the tumour mask. Look at the scan and its mask in a viewer; "
            "leave the subject out with cohort.exclude, or drop the modality."
        )


def scale_to_unit(
    volume: Float32[np.ndarray, "depth height width"],
    mask: Bool[np.ndarray, "depth height width"],
    what: str,
) -> Float32[np.ndarray, "depth height width"]:
    """Min-max scaling of a masked volume with its background (Schmitz et al. 2024).

    The background's zeros count, as in the reference: a positive image is divided by its maximum.
    Where a map has negative tumour values the minimum is theirs, and the background, which scaling
    would lift, is set back to 0.

    Args:
        volume: 0 outside the mask.
        mask: the tumour.
        what: subject and modality, for the message.

    Raises:
        Unscalable: the volume is 0 everywhere in the mask, or has a value that is not finite.
    """
    low, high = float(volume.min()), float(volume.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise Unscalable(what, "values that are not finite (NaN or infinite)")
    if low == high:
        raise Unscalable(what, f"every voxel is {low:g}")
    scaled = (volume - np.float32(low)) / np.float32(high - low)
    return np.where(mask, scaled, np.float32(0))
