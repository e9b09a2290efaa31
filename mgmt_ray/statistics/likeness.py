"""How alike volumes of different subjects are: where two tumours overlap, do they look the same?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float16

BLOCK = 1 << 14
"""Voxels that are multiplied together."""


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """Of each subject of one group with each of another.

    Attributes:
        correlation: Pearson's, over the voxels that are tumour in both; 0 where it is not defined.
        overlap: voxels that are tumour in both, over those that are tumour in either (Jaccard).
    """

    correlation: Float[np.ndarray, "one other"]
    overlap: Float[np.ndarray, "one other"]


def likeness(
    one: Float16[np.ndarray, "one depth height width"],
    other: Float16[np.ndarray, "other depth height width"],
) -> Likeness:
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
    return Likeness(correlation, number / np.maximum(sizes - number, 1))


def at_origin(
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
