"""Leak detection: voxels and numbers associated with the label, and subjects that are duplicates.

On plain arrays; no network is involved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float16, Integer, Num
from scipy.ndimage import find_objects

from mgmt_ray.statistics.intervals import Labels

BLOCK = 1 << 14
"""Voxels processed together: the ranks of 200 subjects take 13 MB."""

MIN_FILLED = 0.05
"""Share of subjects with a tumour at a voxel below which the voxel is not tested.

Where a share f is filled, and the rarer class is a share q, an AUC is at most f / (2·q) from 0.5:
0.06 for f = 0.05 and q = 0.42, far below the chance maximum over many voxels.
"""


@dataclass(frozen=True, slots=True, eq=False)
class LabelAssociation:
    """How well each of many numbers separates the classes, and how well the best does by chance.

    Attributes:
        aucs: AUC of each number alone, in [0, 1]; 0.5 where it was not tested.
        null_distances: for each permutation the largest distance of an AUC from 0.5 over all
            numbers.
    """

    aucs: Float[np.ndarray, "..."]
    null_distances: Float[np.ndarray, " permutation"]


def familywise_p(distance: float, null_distances: Float[np.ndarray, " permutation"]) -> float:
    """Return the p-value of an AUC's distance from 0.5, corrected for all numbers tested.

    The permutation distribution of the maximum (Westfall and Young 1993, single step); at least
    1 / (permutations + 1), because the data are one of the permutations.

    >>> familywise_p(0.3, np.array([0.1, 0.2, 0.35]))
    0.5
    """
    # an AUC that equals the permuted one to rounding counts as reached
    return float((1 + np.sum(null_distances >= distance - 1e-6)) / (1 + len(null_distances)))


def associate_numbers(
    numbers: Num[np.ndarray, "number subject"],
    labels: Labels,
    permuted: Integer[np.ndarray, "permutation subject"],
) -> LabelAssociation:
    """Return the AUC of each number, and its null distribution under permuted labels.

    >>> labels = np.array([0, 0, 1, 1])
    >>> numbers = np.array([[0.1, 0.2, 0.3, 0.4], [0.1, 0.4, 0.2, 0.3]])
    >>> association = associate_numbers(numbers, labels, np.array([[1, 0, 1, 0]]))
    >>> association.aucs, association.null_distances
    (array([1. , 0.5]), array([0.5]))
    """
    areas = rank_aucs(numbers, np.concatenate([labels[None], permuted]))
    return LabelAssociation(areas[:, 0], np.abs(areas[:, 1:] - 0.5).max(axis=0))


def associate_voxels(
    volumes: Float16[np.ndarray, "subject depth height width"],
    labels: Labels,
    permuted: Integer[np.ndarray, "permutation subject"],
    block_size: int = BLOCK,
) -> LabelAssociation:
    """Return the AUC of each voxel, and the null distribution over all voxels.

    Volumes are 0 outside the tumour; voxels that are filled in fewer than :data:`MIN_FILLED` of the
    subjects are not tested. ``aucs`` is [depth, height, width].
    """
    num_subjects = len(volumes)
    voxels = volumes.reshape(num_subjects, -1)
    filled = np.count_nonzero(voxels, axis=0) >= MIN_FILLED * num_subjects
    tested = np.flatnonzero(filled)
    labellings = np.concatenate([labels[None], permuted])
    areas = np.full(voxels.shape[1], 0.5)
    null_distances = np.zeros(len(permuted))
    for start in range(0, len(tested), block_size):
        block = tested[start : start + block_size]
        block_areas = rank_aucs(voxels[:, block].T, labellings)
        areas[block] = block_areas[:, 0]
        distances = np.abs(block_areas[:, 1:] - 0.5).max(axis=0)
        np.maximum(null_distances, distances, out=null_distances)
    return LabelAssociation(areas.reshape(volumes.shape[1:]), null_distances)


def rank_aucs(
    numbers: Num[np.ndarray, "number subject"], labels: Integer[np.ndarray, "labelling subject"]
) -> Float[np.ndarray, "number labelling"]:
    """Return each number's AUC under each labelling, in one matrix product (Mann-Whitney U)."""
    positives = labels.sum(axis=1, dtype=np.float64)
    negatives = labels.shape[1] - positives
    # float32 holds the ranks' sums exactly up to 2^24, which is above 5,000 subjects' sum
    sums = (_midranks(numbers) @ labels.T.astype(np.float32)).astype(np.float64)
    areas: np.ndarray = (sums - positives * (positives + 1) / 2) / (positives * negatives)
    return areas


def _midranks(numbers: Num[np.ndarray, "number subject"]) -> Float[np.ndarray, "number subject"]:
    """Rank each row from 1; equal values share the mean of their ranks."""
    size = numbers.shape[1]
    keys = np.ascontiguousarray(numbers)
    if keys.dtype == np.float16 and not (keys < 0).any():
        # bits of non-negative floats sort like the floats, by radix; adding 0 turns -0 into 0
        keys = (keys + np.float16(0)).view(np.uint16)
    order = np.argsort(keys, axis=1, kind="stable")
    ordered = np.take_along_axis(keys, order, axis=1)
    changes = ordered[:, 1:] != ordered[:, :-1]
    edge = np.ones((len(keys), 1), dtype=bool)
    position = np.arange(size, dtype=np.int32)
    first = np.maximum.accumulate(np.where(np.hstack([edge, changes]), position, 0), axis=1)
    backwards = np.where(np.hstack([changes, edge]), position, size - 1)[:, ::-1]
    last = np.minimum.accumulate(backwards, axis=1)[:, ::-1]
    ranks = np.empty(keys.shape, dtype=np.float32)
    np.put_along_axis(ranks, order, ((first + last) / 2 + 1).astype(np.float32), axis=1)
    return ranks


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """Similarity of each volume of group a to each of group b.

    Attributes:
        correlation: Pearson's, over the voxels that are tumour in both; 0 where it is not defined.
        overlap: voxels that are tumour in both, over those that are tumour in either (Jaccard).
    """

    correlation: Float[np.ndarray, "a b"]
    overlap: Float[np.ndarray, "a b"]


def compute_similarity(
    volumes_a: Float16[np.ndarray, "a depth height width"],
    volumes_b: Float16[np.ndarray, "b depth height width"],
) -> Similarity:
    """Compare each volume of group a with each of group b, in six matrix products.

    All volumes are on one grid, 0 outside the tumour.

    >>> tumour = np.zeros((1, 2, 2, 2), dtype=np.float16)
    >>> tumour[0, 0] = [[0.25, 0.5], [0.5, 0.75]]
    >>> similarity = compute_similarity(tumour, 0.5 * tumour)
    >>> similarity.correlation, similarity.overlap
    (array([[1.]]), array([[1.]]))
    """
    a, b = volumes_a.reshape(len(volumes_a), -1), volumes_b.reshape(len(volumes_b), -1)
    shared = np.flatnonzero(a.any(axis=0) & b.any(axis=0))
    sums = np.zeros((6, len(a), len(b)))
    for start in range(0, len(shared), BLOCK):
        block = shared[start : start + BLOCK]
        x, y = a[:, block].astype(np.float32), b[:, block].astype(np.float32)
        in_x, in_y = (x != 0).astype(np.float32), (y != 0).astype(np.float32)
        pairs = ((in_x, in_y), (x, in_y), (in_x, y), (x * x, in_y), (in_x, y * y), (x, y))
        for total, (left, right) in zip(sums, pairs, strict=True):
            total += left @ right.T
    number, sum_x, sum_y, sum_xx, sum_yy, sum_xy = sums
    variances = (number * sum_xx - sum_x**2) * (number * sum_yy - sum_y**2)
    # below this fraction of the sums the product of variances is their rounding error
    defined = variances > (1e-5 * number * number) ** 2
    product = number * sum_xy - sum_x * sum_y
    correlation = np.divide(
        product, np.sqrt(np.maximum(variances, 0)), out=np.zeros_like(product), where=defined
    )
    sizes = np.count_nonzero(a, axis=1)[:, None] + np.count_nonzero(b, axis=1)[None]
    return Similarity(correlation, number / np.maximum(sizes - number, 1))


def move_to_origin(
    volumes: Float16[np.ndarray, "subject depth height width"], shape: tuple[int, int, int]
) -> Float16[np.ndarray, "subject d h w"]:
    """Move each tumour into the corner of a grid, so that its position no longer matters."""
    moved = np.zeros((len(volumes), *shape), volumes.dtype)
    for target, volume in zip(moved, volumes, strict=True):
        box = tumour_box(volume != 0)
        part = volume[box]
        depth, height, width = part.shape
        target[:depth, :height, :width] = part
    return moved


def tumour_box(mask: Bool[np.ndarray, "depth height width"]) -> tuple[slice, ...]:
    """Return the bounding box of a mask; empty slices for an empty mask."""
    boxes = find_objects(mask.astype(np.uint8))
    return boxes[0] if boxes else (slice(0, 0),) * 3
