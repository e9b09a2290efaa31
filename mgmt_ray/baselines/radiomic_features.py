"""The six radiomic features of Li et al. 2018 that Schmitz et al. 2024 compare with.

Of a subject's raw scans, in the scanner's units: nothing is scaled, resampled or filtered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Int64, Num, Shaped
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mgmt_ray.study.baseline_config import REGIONS

BIN_WIDTH = 25.0
"""Of a grey level, in the scan's own unit: PyRadiomics' default.

Neither Li et al. 2018 nor Schmitz et al. 2024 says which they took.
"""

DIRECTIONS = tuple(d for d in product((-1, 0, 1), repeat=3) if d > (0, 0, 0))
"""13 of the 26 neighbours; the others are their opposites."""

Levels: TypeAlias = Int64[np.ndarray, "depth height width"]


def grey_levels(values: Num[np.ndarray, " voxel"]) -> Int64[np.ndarray, " voxel"]:
    """Levels of a fixed width whose edges are multiples of it; the lowest is 1.

    PyRadiomics' discretisation, floor(x / w) - floor(min(x) / w) + 1; IBSI's counts from min(x).

    Args:
        values: of a region's voxels, at least one.
    """
    bins = np.floor(values.astype(np.float64) / BIN_WIDTH).astype(np.int64)
    return bins - bins.min() + 1


def glcm_contrast(levels: Levels) -> float:
    """Mean squared difference of neighbours' levels: the contrast of co-occurrence matrices.

    Of each direction's matrix, Σ (i - j)² p(i, j), then the mean over the directions that have any
    pair (IBSI 3.6, feature ACUI; 3-D, averaged without merging). Making a matrix symmetric does not
    change it.

    Returns:
        At least 0; 0 where no voxel has a neighbour.
    """
    contrasts = []
    for near, far in _pairs(levels):
        both = (near > 0) & (far > 0)
        if both.any():
            contrasts.append(float(np.mean((near[both] - far[both]) ** 2)))
    return float(np.mean(contrasts)) if contrasts else 0.0


def zone_levels(levels: Levels) -> Int64[np.ndarray, " zone"]:
    """The level of each zone: voxels of one level that are connected through 26 neighbours.

    Args:
        levels: of a region with at least one voxel.
    """
    inside = levels > 0
    number = np.zeros(levels.shape, np.int64)
    number[inside] = np.arange(np.count_nonzero(inside))
    ends = []
    for (near, far), (here, there) in zip(_pairs(levels), _pairs(number), strict=True):
        same = (near > 0) & (near == far)
        ends.append(np.stack([here[same], there[same]]))
    rows, columns = np.concatenate(ends, axis=1)
    num_voxels = np.count_nonzero(inside)
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(num_voxels, num_voxels))
    _, zones = connected_components(graph, directed=False)
    _, firsts = np.unique(zones, return_index=True)
    return levels[inside][firsts]


def glszm_level_variance(levels: Levels) -> float:
    """Variance of zones' levels, each zone counted once: GLSZM grey-level variance.

    Σ p(i, j) (i - μ)² over the size-zone matrix (Thibault et al. 2009; IBSI 3.8, feature BYLV).

    Returns:
        At least 0, in squared levels.
    """
    return float(np.var(zone_levels(levels)))


def glszm_low_level_emphasis(levels: Levels) -> float:
    """Mean of 1 / level² over zones: GLSZM low-grey-level-zone emphasis (IBSI 3.8, XMSY).

    Returns:
        Above 0, at most 1.
    """
    return float(np.mean(1.0 / zone_levels(levels).astype(np.float64) ** 2))


def ngtdm_busyness(levels: Levels) -> float:
    """How quickly levels change from voxel to neighbourhood: NGTDM busyness.

    Σ p_i s_i / Σ_i Σ_j |i p_i - j p_j|, where s_i sums, over voxels of level i, the distance to the
    mean level of their neighbours inside the region, and p_i is their share (Amadasun and King
    1989, with the denominator of IBSI 3.9, NQ30). A voxel without a neighbour has distance 0 and
    counts in p_i, as in PyRadiomics; IBSI leaves it out.

    Returns:
        At least 0; 0 for a region of one level, where it is 0 / 0, as PyRadiomics has it.
    """
    total, count = np.zeros(levels.shape, np.int64), np.zeros(levels.shape, np.int64)
    for (near, far), (near_total, far_total), (near_count, far_count) in zip(
        _pairs(levels), _pairs(total), _pairs(count), strict=True
    ):
        near_total += far
        far_total += near
        near_count += far > 0
        far_count += near > 0
    inside = levels > 0
    own, around = levels[inside], count[inside]
    difference = np.abs(own - total[inside] / np.maximum(around, 1)) * (around > 0)
    level, row, number = np.unique(own, return_inverse=True, return_counts=True)
    distance = np.bincount(row, weights=difference)
    share = number / len(own)
    spread = 2.0 * _sum_of_differences(level * share)
    return float((share * distance).sum() / spread) if spread else 0.0


def _sum_of_differences(values: Float64[np.ndarray, " value"]) -> float:
    """Σ |a - b| over all pairs, each once.

    Every gap between neighbours in size, times the pairs that it lies between: nothing cancels, and
    no table of pairs is made.
    """
    gaps = np.diff(np.sort(values))
    before = np.arange(1, len(values))
    return float((gaps * before * (len(values) - before)).sum())


def _pairs(array: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Views of all voxels that have a neighbour in the array, and of that one, by direction."""
    for direction in DIRECTIONS:
        near = tuple(
            slice(max(-d, 0), n - max(d, 0)) for d, n in zip(direction, array.shape, strict=True)
        )
        far = tuple(
            slice(max(d, 0), n - max(-d, 0)) for d, n in zip(direction, array.shape, strict=True)
        )
        yield array[near], array[far]


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
        uses_grey_levels: whether that are grey levels in space, or else values in any order.
    """

    name: str
    modality: str
    region: str
    measure: Callable[[np.ndarray], float]
    uses_grey_levels: bool = True


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
    Feature("skewness_T1_core", "T1", "core", skewness, uses_grey_levels=False),
    Feature("energy_T1_edema", "T1", "edema", energy, uses_grey_levels=False),
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
    if not feature.uses_grey_levels:
        return feature.measure(part[inside].astype(np.float64))
    levels = np.zeros(part.shape, np.int64)
    levels[inside] = grey_levels(part[inside])
    return feature.measure(levels)
