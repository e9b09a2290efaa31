"""The six radiomic features of Li et al. 2018 that Schmitz et al. 2024 compare with.

They are computed on raw intensities, in the scanner's units: nothing is normalised or filtered.
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
"""Width of a grey level, in the scan's own unit: PyRadiomics' default.

Neither Li et al. 2018 nor Schmitz et al. 2024 report the width that they used.
"""

DIRECTIONS = tuple(d for d in product((-1, 0, 1), repeat=3) if d > (0, 0, 0))
"""Offsets to 13 of the 26 neighbours; the other 13 are their opposites."""

EMPTY_VALUE = 0.0
"""Value of a feature of an empty region; the region is flagged in the table."""

Levels: TypeAlias = Int64[np.ndarray, "depth height width"]
"""Grey levels from 1; 0 outside the region."""

Values: TypeAlias = Float64[np.ndarray, " voxel"]
Image: TypeAlias = Shaped[np.ndarray, "depth height width"]


def skewness(values: Values) -> float:
    """Return the third central moment over the cubed standard deviation (IBSI 3.3, KE2A).

    Args:
        values: of a region's voxels, at least one.

    Returns:
        Without unit; 0 where all values are equal, as in PyRadiomics.

    Examples:
        >>> round(skewness(np.array([0.0, 0.0, 3.0])), 3)
        0.707
    """
    if values.min() == values.max():
        return 0.0
    centred = values - values.mean()
    return float(np.mean(centred**3) / np.mean(centred**2) ** 1.5)


def energy(values: Values) -> float:
    """Return the sum of the squared values (IBSI 3.3, N8CA), in squared units of the scan.

    It grows with the region's size.

    Examples:
        >>> energy(np.array([3.0, 4.0]))
        25.0
    """
    return float((values**2).sum())


def grey_levels(values: Num[np.ndarray, " voxel"]) -> Int64[np.ndarray, " voxel"]:
    """Discretise intensities to grey levels from 1, with a fixed bin width.

    floor(x / w) - floor(min(x) / w) + 1 as in PyRadiomics: bin edges are multiples of the width w,
    where IBSI counts from min(x).

    Args:
        values: of a region's voxels, at least one.

    Examples:
        >>> grey_levels(np.array([10.0, 24.0, 25.0, 80.0]))
        array([1, 1, 2, 4])
    """
    bins = np.floor(values.astype(np.float64) / BIN_WIDTH).astype(np.int64)
    return bins - bins.min() + 1


def glcm_contrast(levels: Levels) -> float:
    """Return the contrast of the co-occurrence matrices (GLCM) of the 13 directions.

    Σ (i - j)² p(i, j) of each direction's matrix, then the mean over the directions that have a
    pair (IBSI 3.6, feature ACUI; 3-D, averaged without merging). Symmetric matrices would have the
    same contrast.

    Returns:
        At least 0; 0 where no voxel has a neighbour.

    Examples:
        >>> glcm_contrast(np.array([[[1, 3, 3]]]))
        2.0
    """
    contrasts = []
    for near, far in _neighbour_pairs(levels):
        both = (near > 0) & (far > 0)
        if both.any():
            contrasts.append(float(np.mean((near[both] - far[both]) ** 2)))
    return float(np.mean(contrasts)) if contrasts else 0.0


def zone_levels(levels: Levels) -> Int64[np.ndarray, " zone"]:
    """Return the level of each zone: voxels of equal level connected through 26 neighbours.

    Args:
        levels: of a region with at least one voxel.

    Examples:
        >>> zone_levels(np.array([[[1, 1, 2, 1]]]))
        array([1, 2, 1])
    """
    inside = levels > 0
    number = np.zeros(levels.shape, np.int64)
    number[inside] = np.arange(np.count_nonzero(inside))
    edges = []
    for (near, far), (near_number, far_number) in zip(
        _neighbour_pairs(levels), _neighbour_pairs(number), strict=True
    ):
        same = (near > 0) & (near == far)
        edges.append(np.stack([near_number[same], far_number[same]]))
    rows, columns = np.concatenate(edges, axis=1)
    num_voxels = np.count_nonzero(inside)
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(num_voxels, num_voxels))
    _, zones = connected_components(graph, directed=False)
    _, firsts = np.unique(zones, return_index=True)
    return levels[inside][firsts]


def glszm_level_variance(levels: Levels) -> float:
    """Return the GLSZM grey-level variance: that of the zones' levels, each zone counted once.

    Σ p(i, j) (i - μ)² over the size-zone matrix (Thibault et al. 2009; IBSI 3.8, feature BYLV).

    Returns:
        At least 0, in squared levels.

    Examples:
        >>> glszm_level_variance(np.array([[[1, 1, 3]]]))
        1.0
    """
    return float(np.var(zone_levels(levels)))


def glszm_low_level_emphasis(levels: Levels) -> float:
    """Return the GLSZM low-grey-level-zone emphasis: mean of 1 / level² (IBSI 3.8, XMSY).

    Returns:
        Above 0, at most 1.

    Examples:
        >>> glszm_low_level_emphasis(np.array([[[1, 1, 2]]]))
        0.625
    """
    return float(np.mean(1.0 / zone_levels(levels).astype(np.float64) ** 2))


def ngtdm_busyness(levels: Levels) -> float:
    """Return the NGTDM busyness: how quickly levels change from voxel to neighbourhood.

    Σ p_i s_i / Σ_i Σ_j |i p_i - j p_j|, where s_i sums, over voxels of level i, the distance to the
    mean level of their neighbours inside the region, and p_i is their share (Amadasun and King
    1989, with the denominator of IBSI 3.9, NQ30). A voxel without a neighbour has distance 0 and
    counts in p_i, as in PyRadiomics; IBSI leaves it out.

    Returns:
        At least 0; 0 for a region of one level (0 / 0), as in PyRadiomics.

    Examples:
        >>> ngtdm_busyness(np.array([[[1, 2, 1, 2]]]))
        2.0
    """
    total, count = np.zeros(levels.shape, np.int64), np.zeros(levels.shape, np.int64)
    for (near, far), (near_total, far_total), (near_count, far_count) in zip(
        _neighbour_pairs(levels), _neighbour_pairs(total), _neighbour_pairs(count), strict=True
    ):
        near_total += far
        far_total += near
        near_count += far > 0
        far_count += near > 0
    inside = levels > 0
    voxel_levels, num_neighbours = levels[inside], count[inside]
    neighbour_mean = total[inside] / np.maximum(num_neighbours, 1)
    difference = np.abs(voxel_levels - neighbour_mean) * (num_neighbours > 0)
    level, row, number = np.unique(voxel_levels, return_inverse=True, return_counts=True)
    distance = np.bincount(row, weights=difference)
    share = number / len(voxel_levels)
    denominator = 2.0 * _sum_of_differences(level * share)
    return float((share * distance).sum() / denominator) if denominator else 0.0


def _sum_of_differences(values: Float64[np.ndarray, " value"]) -> float:
    """Return Σ |a - b| over all pairs, each counted once.

    Each gap between sorted neighbours is multiplied with the number of pairs that span it: nothing
    cancels, and no table of pairs is needed.
    """
    gaps = np.diff(np.sort(values))
    before = np.arange(1, len(values))
    return float((gaps * before * (len(values) - before)).sum())


def _neighbour_pairs(array: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, by direction, views of the voxels that have a neighbour and of that neighbour."""
    for direction in DIRECTIONS:
        near = tuple(
            slice(max(-d, 0), n - max(d, 0)) for d, n in zip(direction, array.shape, strict=True)
        )
        far = tuple(
            slice(max(d, 0), n - max(-d, 0)) for d, n in zip(direction, array.shape, strict=True)
        )
        yield array[near], array[far]


@dataclass(frozen=True, slots=True)
class Feature:
    """A radiomic feature of one region of one scan.

    Attributes:
        name: column of the table.
        modality: of the scan.
        region: one of ``REGIONS``.
        measure: the function that computes it, from :data:`Levels` or :data:`Values`.
        uses_grey_levels: whether ``measure`` takes levels in space, or values in any order.
    """

    name: str
    modality: str
    region: str
    measure: Callable[[np.ndarray], float]
    uses_grey_levels: bool = True


FEATURES: tuple[Feature, ...] = (
    Feature("skewness_T1_core", "T1", "core", skewness, uses_grey_levels=False),
    Feature("energy_T1_edema", "T1", "edema", energy, uses_grey_levels=False),
    Feature("glcm_contrast_FLAIR_necrosis", "FLAIR", "necrosis", glcm_contrast),
    Feature("glszm_level_variance_T1GD_enhancing", "T1GD", "enhancing", glszm_level_variance),
    Feature("glszm_low_level_emphasis_T2_edema", "T2", "edema", glszm_low_level_emphasis),
    Feature("ngtdm_busyness_T2_core", "T2", "core", ngtdm_busyness),
)


def measure_features(scans: Mapping[str, Image], mask: Image) -> dict[str, float]:
    """Compute all six features of a subject.

    Args:
        scans: by modality, all of ``FEATURE_SCANS``, on the mask's grid.
        mask: tumour labels.

    Returns:
        Values by name, in the order of :data:`FEATURES`; :data:`EMPTY_VALUE` for an empty region.

    Examples:
        >>> mask = np.array([[[1, 1, 2, 4]]])
        >>> scan = np.array([[[0.0, 50.0, 10.0, 30.0]]])
        >>> scans = dict.fromkeys(["T1", "FLAIR", "T1GD", "T2"], scan)
        >>> measure_features(scans, mask)["energy_T1_edema"]
        100.0
    """
    boxes = ndimage.find_objects((mask > 0).view(np.int8))  # of the tumour, a small part of a scan
    box = boxes[0] if boxes else ...
    return {f.name: _measure(f, scans[f.modality][box], mask[box]) for f in FEATURES}


def empty_regions(mask: Image) -> tuple[str, ...]:
    """Return the regions without any voxel, in the order of ``REGIONS``.

    Examples:
        >>> empty_regions(np.array([[[1, 1, 2, 0]]]))
        ('enhancing',)
    """
    return tuple(name for name, labels in REGIONS.items() if not np.isin(mask, labels).any())


def measure_volumes(mask: Image, voxel_ml: float) -> dict[str, float]:
    """Return the volumes in ml of necrosis, edema, enhancing tumour, and of the whole mask.

    Args:
        mask: tumour labels.
        voxel_ml: volume of a voxel, in ml.

    Examples:
        >>> measure_volumes(np.array([[[1, 1, 2, 0]]]), voxel_ml=0.5)
        {'necrosis_ml': 1.0, 'edema_ml': 0.5, 'enhancing_ml': 0.0, 'tumour_ml': 1.5}
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
    inside, intensities = region[box], scan[box]
    if not feature.uses_grey_levels:
        return feature.measure(intensities[inside].astype(np.float64))
    levels = np.zeros(intensities.shape, np.int64)
    levels[inside] = grey_levels(intensities[inside])
    return feature.measure(levels)
