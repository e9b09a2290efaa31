"""The six radiomic features of Li et al. 2018 that Schmitz et al. 2024 compare with.

Of a subject's raw scans, in the scanner's units: nothing is scaled, resampled or filtered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Shaped
from scipy import ndimage

from mgmt_ray.baselines.texture import (
    glcm_contrast,
    glszm_level_variance,
    glszm_low_level_emphasis,
    grey_levels,
    ngtdm_busyness,
)
from mgmt_ray.study.baseline_config import REGIONS

EMPTY_VALUE = 0.0
"""What a feature of an empty region is: the energy of nothing. The region is flagged."""

Values: TypeAlias = Float64[np.ndarray, " voxel"]
Image: TypeAlias = Shaped[np.ndarray, "depth height width"]


@dataclass(frozen=True, slots=True)
class Feature:
    """One number of one region of one scan.

    Attributes:
        name: the column of a table.
        modality: of the scan.
        region: one of ``REGIONS``.
        measure: of what the region holds.
        of_levels: whether that are grey levels in space, or else values in any order.
    """

    name: str
    modality: str
    region: str
    measure: Callable[[np.ndarray], float]
    of_levels: bool = True


def skewness(values: Values) -> float:
    """Third central moment over the cubed standard deviation (IBSI 3.3, KE2A).

    Args:
        values: of a region's voxels, at least one.

    Returns:
        Without unit; 0 where all values are equal, as PyRadiomics has it.
    """
    if values.min() == values.max():
        return 0.0
    centred = values - values.mean()
    return float(np.mean(centred**3) / np.mean(centred**2) ** 1.5)


def energy(values: Values) -> float:
    """Sum of the squared values (IBSI 3.3, N8CA), in squared units of the scan; grows with size."""
    return float((values**2).sum())


FEATURES: tuple[Feature, ...] = (
    Feature("skewness_T1_core", "T1", "core", skewness, of_levels=False),
    Feature("energy_T1_edema", "T1", "edema", energy, of_levels=False),
    Feature("glcm_contrast_FLAIR_necrosis", "FLAIR", "necrosis", glcm_contrast),
    Feature("glszm_level_variance_T1GD_enhancing", "T1GD", "enhancing", glszm_level_variance),
    Feature("glszm_low_level_emphasis_T2_edema", "T2", "edema", glszm_low_level_emphasis),
    Feature("ngtdm_busyness_T2_core", "T2", "core", ngtdm_busyness),
)


def measure_features(scans: Mapping[str, Image], mask: Image) -> dict[str, float]:
    """All six features of a subject.

    Args:
        scans: by modality, each of ``FEATURE_SCANS``, on the mask's grid.
        mask: tumour labels.

    Returns:
        By name, in the order of :data:`FEATURES`; :data:`EMPTY_VALUE` where the region is empty.
    """
    return {f.name: _measure(f, scans[f.modality], mask) for f in FEATURES}


def empty_regions(mask: Image) -> tuple[str, ...]:
    """Regions of a mask without any voxel, in the order of ``REGIONS``."""
    return tuple(name for name, labels in REGIONS.items() if not np.isin(mask, labels).any())


def measure_volumes(mask: Image, voxel_ml: float) -> dict[str, float]:
    """Volumes in ml of necrosis, edema, enhancing tumour, and of all that the mask marks.

    Args:
        mask: tumour labels.
        voxel_ml: volume of a voxel.
    """
    counts = {
        name: np.count_nonzero(np.isin(mask, REGIONS[name]))
        for name in ("necrosis", "edema", "enhancing")
    }
    counts["tumour"] = np.count_nonzero(mask)
    return {f"{name}_ml": float(number * voxel_ml) for name, number in counts.items()}


def _measure(feature: Feature, scan: Image, mask: Image) -> float:
    region: Bool[np.ndarray, "depth height width"] = np.isin(mask, REGIONS[feature.region])
    if not region.any():
        return EMPTY_VALUE
    (box,) = ndimage.find_objects(region.astype(np.int8))
    inside, part = region[box], scan[box]
    if not feature.of_levels:
        return feature.measure(part[inside].astype(np.float64))
    levels = np.zeros(part.shape, np.int64)
    levels[inside] = grey_levels(part[inside])
    return feature.measure(levels)
