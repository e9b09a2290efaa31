"""Finding what must not be there: voxels and numbers that tell the label, subjects twice there.

Plain arrays in, plain arrays out; no network is asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float16, Integer, Num

BLOCK = 1 << 14
"""Voxels that are worked on together: 200 subjects' ranks of so many take 13 MB."""

MIN_FILLED = 0.05
"""Share of subjects with a tumour at a voxel below which the voxel is not asked.

Where a share f is filled, and the rarer class is a share q, an AUC is at most f / (2·q) from 0.5:
0.06 for f = 0.05 and q = 0.42, far below anything that chance does over many voxels.
"""


@dataclass(frozen=True, slots=True, eq=False)
class LabelAssociation:
    """How well each of many numbers tells a label, and how well the best does by chance.

    Attributes:
        aucs: AUC of each number alone, in [0, 1]; 0.5 where nothing was asked.
        null_distances: by permutation the largest distance of an AUC from 0.5 over all numbers.
    """

    aucs: Float[np.ndarray, "..."]
    null_distances: Float[np.ndarray, " permutation"]


def familywise_p(distance: float, chance: Float[np.ndarray, " permutation"]) -> float:
    """P-value of an AUC's distance from 0.5, corrected for all numbers that were looked at.

    The permutation distribution of the maximum (Westfall and Young 1993, single step); at least
    1 / (permutations + 1), because the data are one of the permutations.
    """
    # an AUC that equals the permuted one to rounding counts as reached
    return float((1 + np.sum(chance >= distance - 1e-6)) / (1 + len(chance)))


def associate_numbers(
    numbers: Num[np.ndarray, "number subject"],
    labels: Integer[np.ndarray, " subject"],
    permuted: Integer[np.ndarray, "permutation subject"],
) -> LabelAssociation:
    """AUC of each number, by ranks, with what permuted labels give.

    Args:
        numbers: several numbers of each subject.
        labels: 1 methylated, 0 unmethylated; both are there.
        permuted: the same labels among the subjects, differently in each row.
    """
    areas = rank_aucs(numbers, np.concatenate([labels[None], permuted]))
    return LabelAssociation(areas[:, 0], np.abs(areas[:, 1:] - 0.5).max(axis=0))


def associate_voxels(
    volumes: Float16[np.ndarray, "subject depth height width"],
    labels: Integer[np.ndarray, " subject"],
    permuted: Integer[np.ndarray, "permutation subject"],
    block_size: int = BLOCK,
) -> LabelAssociation:
    """AUC of the value at each position, with what permuted labels give over all positions.

    Arguments as of :func:`associate_numbers`, and ``block_size``, voxels worked on together;
    voxels that are filled in fewer than :data:`MIN_FILLED` of the subjects are not asked.
    ``aucs`` is [depth, height, width].
    """
    num_subjects = len(volumes)
    everything = volumes.reshape(num_subjects, -1)
    filled = np.count_nonzero(everything, axis=0) >= MIN_FILLED * num_subjects
    asked = np.flatnonzero(filled)
    labellings = np.concatenate([labels[None], permuted])
    areas = np.full(everything.shape[1], 0.5)
    chance = np.zeros(len(permuted))
    for start in range(0, len(asked), block_size):
        block = asked[start : start + block_size]
        found = rank_aucs(everything[:, block].T, labellings)
        areas[block] = found[:, 0]
        np.maximum(chance, np.abs(found[:, 1:] - 0.5).max(axis=0), out=chance)
    return LabelAssociation(areas.reshape(volumes.shape[1:]), chance)


def rank_aucs(
    numbers: Num[np.ndarray, "number subject"], labels: Integer[np.ndarray, "labelling subject"]
) -> Float[np.ndarray, "number labelling"]:
    """AUC of every number under every labelling in one matrix product (Mann-Whitney U)."""
    positives = labels.sum(axis=1, dtype=np.float64)
    negatives = labels.shape[1] - positives
    # float32 holds the ranks' sums exactly up to 2^24, which is above 5,000 subjects' sum
    sums = (_midranks(numbers) @ labels.T.astype(np.float32)).astype(np.float64)
    areas: np.ndarray = (sums - positives * (positives + 1) / 2) / (positives * negatives)
    return areas


def _midranks(
    numbers: Num[np.ndarray, "number subject"],
) -> Float[np.ndarray, "number subject"]:
    """Ranks from 1; equal values share the mean of theirs."""
    size = numbers.shape[1]
    keys = np.ascontiguousarray(numbers)
    if keys.dtype == np.float16 and not (keys < 0).any():
        # the bits of numbers from 0 up sort as they do, by radix; adding 0 makes -0 a 0
        keys = (keys + np.float16(0)).view(np.uint16)
    order = np.argsort(keys, axis=1, kind="stable")
    ordered = np.take_along_axis(keys, order, axis=1)
    changes = ordered[:, 1:] != ordered[:, :-1]
    edge = np.ones((len(keys), 1), dtype=bool)
    place = np.arange(size, dtype=np.int32)
    first = np.maximum.accumulate(np.where(np.hstack([edge, changes]), place, 0), axis=1)
    backwards = np.where(np.hstack([changes, edge]), place, size - 1)[:, ::-1]
    last = np.minimum.accumulate(backwards, axis=1)[:, ::-1]
    ranks = np.empty(keys.shape, dtype=np.float32)
    np.put_along_axis(ranks, order, ((first + last) / 2 + 1).astype(np.float32), axis=1)
    return ranks


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """Of each subject of one group with each of another.

    Attributes:
        correlation: Pearson's, over the voxels that are tumour in both; 0 where it is not defined.
        overlap: voxels that are tumour in both, over those that are tumour in either (Jaccard).
    """

    correlation: Float[np.ndarray, "one other"]
    overlap: Float[np.ndarray, "one other"]


def compute_similarity(
    one: Float16[np.ndarray, "one depth height width"],
    other: Float16[np.ndarray, "other depth height width"],
) -> Similarity:
    """Compare two groups of volumes, every one with every other, by six matrix products.

    Args:
        one: volumes on one grid, 0 outside the tumour.
        other: the same of another group.
    """
    a, b = one.reshape(len(one), -1), other.reshape(len(other), -1)
    touched = np.flatnonzero(a.any(axis=0) & b.any(axis=0))
    sums = np.zeros((6, len(a), len(b)))
    for start in range(0, len(touched), BLOCK):
        block = touched[start : start + BLOCK]
        x, y = a[:, block].astype(np.float32), b[:, block].astype(np.float32)
        in_x, in_y = (x != 0).astype(np.float32), (y != 0).astype(np.float32)
        pairs = ((in_x, in_y), (x, in_y), (in_x, y), (x * x, in_y), (in_x, y * y), (x, y))
        for total, (left, right) in zip(sums, pairs, strict=True):
            total += left @ right.T
    number, sum_x, sum_y, sum_xx, sum_yy, sum_xy = sums
    spread = (number * sum_xx - sum_x**2) * (number * sum_yy - sum_y**2)
    # below that share of the sums a spread is their rounding
    defined = spread > (1e-5 * number * number) ** 2
    product = number * sum_xy - sum_x * sum_y
    correlation = np.divide(
        product, np.sqrt(np.maximum(spread, 0)), out=np.zeros_like(product), where=defined
    )
    sizes = np.count_nonzero(a, axis=1)[:, None] + np.count_nonzero(b, axis=1)[None]
    return Similarity(correlation, number / np.maximum(sizes - number, 1))


def move_to_origin(
    volumes: Float16[np.ndarray, "subject depth height width"], shape: tuple[int, int, int]
) -> Float16[np.ndarray, "subject d h w"]:
    """Every tumour moved into the corner of a grid, so that where it was no longer matters."""
    moved = np.zeros((len(volumes), *shape), volumes.dtype)
    for target, volume in zip(moved, volumes, strict=True):
        box = tumour_box(volume != 0)
        part = volume[box]
        depth, height, width = part.shape
        target[:depth, :height, :width] = part
    return moved


def tumour_box(mask: Bool[np.ndarray, "depth height width"]) -> tuple[slice, slice, slice]:
    """The smallest box that holds a mask; empty slices for an empty one."""
    sides = []
    for axis in range(3):
        others = tuple(i for i in range(3) if i != axis)
        places = np.flatnonzero(mask.any(axis=others))
        filled = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
        sides.append(slice(*filled))
    return sides[0], sides[1], sides[2]
