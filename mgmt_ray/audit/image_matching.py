"""Matching of tumours: which pairs look like two copies of one image. On plain arrays.

A tumour's shape and its compartments are alike in many persons, and another mask changes them. So
what is compared is the fine structure of the intensities, that is all below a few voxels, where
two tumours overlap after one was moved onto the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float16, Float32, Int, Num
from scipy.ndimage import affine_transform, binary_erosion, find_objects, gaussian_filter
from scipy.spatial.transform import Rotation
from scipy.stats import pearsonr

SIGMA_VOXELS = 1.5
"""Structure much coarser than this Gaussian is removed: compartments and shading."""

LARGEST_SHIFT = 1
"""Voxels by which a tumour is moved along each axis, about the place where the centres meet.

For a copy that was turned by three degrees and moved by half a voxel, or whose mask was grown or
shrunk by two voxels before two became one, the best match is within this distance."""

LEAST_SHARED = 0.4
"""Share of the smaller tumour that two tumours must share: few voxels correlate by chance."""

LEAST_CORRELATION = 0.5
"""A pair with a lower correlation is never a copy, however unusual."""

TAIL = 0.25
"""Share of the pairs from which the tail of the distribution is fitted."""

LEAST_IN_TAIL = 20

OUTLIER_SCORE = 4.0
TRIMMINGS = 10
"""Pairs above this score are left out when the distribution is fitted, a few times in turn."""

MOST_STEPS = 8
LEAST_GAIN = 1e-3
"""Registration ends when a step gains less correlation."""

LEAST_VOXELS = 30
"""Fewer are not compared: they resemble many others."""

LEAST_CORE = 100
"""Voxels of the shared tumour without its border from which the border is not compared: a voxel
there is the mean of fewer voxels of the scan where the mask is smaller."""

LEAST_STD = 1e-4
"""A structure weaker than float16 can hold is none."""

Volume: TypeAlias = Float[np.ndarray, "depth height width"]
"""Intensities of a tumour; 0 outside."""


@dataclass(frozen=True, slots=True, eq=False)
class FineStructure:
    """Tumours' intensities without their local mean.

    Attributes:
        values: 0 outside the tumour.
        inside: the tumour.
    """

    values: Float32[np.ndarray, "subject depth height width"]
    inside: Bool[np.ndarray, "subject depth height width"]

    @property
    def extent(self) -> tuple[int, int, int]:
        """Voxels of the smallest box that holds each of the tumours."""
        boxes = [tumour_box(mask) for mask in self.inside]
        depth, height, width = (
            max((box[axis].stop - box[axis].start for box in boxes), default=0) for axis in range(3)
        )
        return depth, height, width


@dataclass(frozen=True, slots=True)
class Alignment:
    """How a tumour of group b lies on one of group a.

    Attributes:
        name: "in place", "moved" or "mirrored".
        shift: of b, in voxels, after the centres were laid on one another; not in place.
    """

    name: str
    shift: tuple[int, int, int] = (0, 0, 0)


IN_PLACE = "in place"
MIRRORED = "mirrored"
_REACH = range(-LARGEST_SHIFT, LARGEST_SHIFT + 1)
ALIGNMENTS = (
    Alignment(IN_PLACE),
    *(Alignment("moved", shift) for shift in product(_REACH, _REACH, _REACH)),
    *(Alignment(MIRRORED, shift) for shift in product(_REACH, _REACH, _REACH)),
)


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """How alike each tumour of group a and each of group b are, in their best alignment.

    Attributes:
        correlation: of the fine structure where both are tumour; -1 where too little is shared.
        alignment: number in :data:`ALIGNMENTS`.
    """

    correlation: Float32[np.ndarray, "a b"]
    alignment: Int[np.ndarray, "a b"]


def fine_structure(volumes: Float16[np.ndarray, "subject depth height width"]) -> FineStructure:
    """Subtract from each voxel the mean of the tumour around it.

    Args:
        volumes: 0 outside the tumour.
    """
    values = np.zeros(volumes.shape, np.float32)
    inside = volumes != 0
    margin = int(3 * SIGMA_VOXELS)
    for volume, mask, target in zip(volumes, inside, values, strict=True):
        part = tuple(slice(max(0, s.start - margin), s.stop + margin) for s in tumour_box(mask))
        target[part] = _without_local_mean(volume[part].astype(np.float32), mask[part])
    return FineStructure(values, inside)


def mirror(tumours: FineStructure) -> FineStructure:
    """Exchange left and right."""
    return FineStructure(tumours.values[..., ::-1], tumours.inside[..., ::-1])


def centre_tumours(tumours: FineStructure, shape: tuple[int, int, int]) -> FineStructure:
    """Move each tumour's centre of mass into the middle of a grid; what lies outside it is cut."""
    number = len(tumours.inside)
    values, inside = np.zeros((number, *shape), np.float32), np.zeros((number, *shape), bool)
    for row, mask in enumerate(tumours.inside):
        voxels = np.argwhere(mask)
        if not len(voxels):
            continue
        moved = voxels - np.rint(voxels.mean(axis=0)).astype(int) + np.array(shape) // 2
        kept = ((moved >= 0) & (moved < shape)).all(axis=1)
        target, source = tuple(moved[kept].T), tuple(voxels[kept].T)
        values[row][target] = tumours.values[row][source]
        inside[row][target] = True
    return FineStructure(values, inside)


def match_tumours(a: FineStructure, b: FineStructure) -> Matches:
    """Compare each tumour of group a with each of group b, in whichever alignment fits best."""
    size = [max(x, y) + 2 + 2 * LARGEST_SHIFT for x, y in zip(a.extent, b.extent, strict=True)]
    shape = (size[0], size[1], size[2])
    moved, mirrored = centre_tumours(a, shape), centre_tumours(mirror(a), shape)
    centred = centre_tumours(b, shape)
    correlation = _correlate(a, b)
    alignment = np.zeros(correlation.shape, np.int64)
    for number, way in enumerate(ALIGNMENTS[1:], start=1):
        shifted = FineStructure(
            np.roll(centred.values, way.shift, (1, 2, 3)),
            np.roll(centred.inside, way.shift, (1, 2, 3)),
        )
        reached = _correlate(mirrored if way.name == MIRRORED else moved, shifted)
        better = reached > correlation
        correlation, alignment = (
            np.where(better, reached, correlation),
            np.where(better, number, alignment),
        )
    return Matches(correlation, alignment)


def _correlate(a: FineStructure, b: FineStructure) -> Float32[np.ndarray, "a b"]:
    """Return correlations about 0 over common voxels, in four products."""
    used = a.inside.any(axis=0) & b.inside.any(axis=0)
    x, y = a.values[:, used], b.values[:, used]
    in_x, in_y = (group.inside[:, used].astype(np.float32) for group in (a, b))
    shared = in_x @ in_y.T
    power = ((x * x) @ in_y.T) * (in_x @ (y * y).T)
    correlation = np.divide(
        x @ y.T, np.sqrt(power), out=np.zeros_like(shared), where=power > 1e-12 * shared**2
    )
    sizes = [group.inside.sum(axis=(1, 2, 3)) for group in (a, b)]
    smaller = np.minimum(sizes[0][:, None], sizes[1][None])
    return np.where(shared >= LEAST_SHARED * smaller, correlation, np.float32(-1))


def register(a: Volume, b: Volume, alignment: Alignment) -> tuple[float, int]:
    """Turn and move tumour b on tumour a, by fractions of voxels, until they correlate best.

    Gauss-Newton steps (Lucas and Kanade 1981) of a rigid motion, from an alignment of whole voxels.
    Local means are those of the tissue that both share, so that masks drawn differently matter
    little.

    Returns:
        Correlation of the fine structure, and the number of voxels that were compared; -1 and 0 if
        these are too few.
    """
    a = a[..., ::-1] if alignment.name == MIRRORED else a
    inside = a != 0
    offset = np.zeros(3)
    if alignment.name != IN_PLACE:
        centre_a, centre_b = (np.rint(np.argwhere(m).mean(axis=0)) for m in (inside, b != 0))
        offset = centre_b - centre_a - alignment.shift
    box = tumour_box(inside)
    start = np.array([side.start for side in box])
    fixed, inside = a[box].astype(np.float32), inside[box]
    moving = _Moving(b, start + offset, (np.array(fixed.shape) - 1) / 2, fixed.shape)
    motion, best = np.zeros(6), (-1.0, 0)
    for _ in range(MOST_STEPS):
        result = _step(fixed, inside, moving, motion)
        if result is None or result.correlation <= best[0] + LEAST_GAIN:
            break
        best = (result.correlation, result.shared)
        motion = motion + result.step
    return best


@dataclass(frozen=True, slots=True, eq=False)
class _Moving:
    """The tumour that is moved, cropped, and the grid that it is moved onto."""

    volume: Volume
    offset: Float[np.ndarray, "3"]
    centre: Float[np.ndarray, "3"]
    shape: tuple[int, ...]

    def moved(self, motion: Float[np.ndarray, "6"]) -> tuple[np.ndarray, np.ndarray]:
        """Return the intensities and the tumour after a motion."""
        turn = Rotation.from_rotvec(motion[:3]).as_matrix()
        shift = self.offset + self.centre + motion[3:] - turn @ self.centre
        volume = self.volume.astype(np.float32)
        values, share = (
            affine_transform(array, turn, shift, self.shape, order=1)
            for array in (volume, (volume != 0).astype(np.float32))
        )
        inside = share > 0.5
        return np.where(inside, values / np.maximum(share, 0.5), 0), inside


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    correlation: float
    shared: int
    step: Float[np.ndarray, "6"]


def _step(fixed: Volume, inside: np.ndarray, moving: _Moving, motion: np.ndarray) -> _Step | None:
    """Return the correlation after a motion, and the motion to add; None if little is common."""
    values, covered = moving.moved(motion)
    shared = inside & covered
    if shared.sum() < LEAST_VOXELS:
        return None
    x, y = (_without_local_mean(array, shared) for array in (fixed, values))
    core = binary_erosion(shared)
    if core.sum() >= LEAST_CORE:
        shared = core
    std = [float(array[shared].std()) for array in (x, y)]
    if min(std) < LEAST_STD:
        return None
    x, y = x / std[0], y / std[1]
    correlation = float(pearsonr(x[shared], y[shared]).statistic)
    gradient = np.stack([np.gradient(y, axis=axis)[shared] for axis in range(3)], axis=1)
    turning = np.cross(np.argwhere(shared) - moving.centre, gradient)
    step, *_ = np.linalg.lstsq(np.hstack([turning, gradient]), (x - y)[shared], rcond=None)
    return _Step(correlation, int(shared.sum()), step)


def _without_local_mean(values: Volume, inside: np.ndarray) -> Volume:
    """Subtract from each voxel inside the mean of the inside around it; 0 outside."""
    share = gaussian_filter(inside.astype(np.float32), SIGMA_VOXELS, mode="constant")
    total = gaussian_filter(np.where(inside, values, 0), SIGMA_VOXELS, mode="constant")
    fine: Volume = np.where(inside, values - total / np.maximum(share, np.float32(1e-6)), 0)
    return fine


def copy_scores(
    correlation: Float[np.ndarray, " pair"], shared: Num[np.ndarray, " pair"]
) -> Float[np.ndarray, " pair"]:
    """Return how unusual each pair is among pairs of distinct persons that share as many voxels.

    Correlations of distinct persons lie higher and wider the fewer voxels are shared. Their mean
    and mean distance from it, on Fisher's scale, are fitted as straight lines in
    1 / sqrt(shared), without the pairs that are far above them.

    Returns:
        Distances from the mean, in mean distances.
    """
    z = np.arctanh(np.clip(correlation, -0.999, 0.999))
    rarity = 1 / np.sqrt(np.maximum(shared, 4))
    scores = z - np.median(z)
    scores = scores / max(float(np.median(np.abs(scores))), 1e-6)
    for _ in range(TRIMMINGS):
        kept = scores <= OUTLIER_SCORE
        residual = z - _line(rarity, z, kept)
        distance = np.abs(residual)
        typical = max(float(np.median(distance[kept])), 1e-6)
        scores = residual / np.maximum(_line(rarity, distance, kept), typical / 2)
    return scores


def copy_threshold(scores: Float[np.ndarray, " pair"], level: float) -> float:
    """Return the score that distinct persons exceed with this probability in any of the pairs.

    The highest scores but outliers are taken to fall off exponentially (peaks over a threshold,
    Pickands 1975, with shape 0).
    """
    ordered = np.sort(scores[scores <= OUTLIER_SCORE])
    number = min(len(ordered), max(LEAST_IN_TAIL, int(TAIL * len(ordered))))
    tail = ordered[-number:]
    return float(tail[0] + (tail - tail[0]).mean() * np.log(number / level))


def _line(
    x: Float[np.ndarray, " pair"], y: Float[np.ndarray, " pair"], kept: Bool[np.ndarray, " pair"]
) -> Float[np.ndarray, " pair"]:
    """Return the values of the least-squares line of the kept pairs, or their mean."""
    if np.ptp(x[kept]) < 1e-9:
        return np.full_like(y, y[kept].mean())
    slope, intercept = np.polyfit(x[kept], y[kept], 1)
    fitted: np.ndarray = slope * x + intercept
    return fitted


def tumour_box(mask: Bool[np.ndarray, "depth height width"]) -> tuple[slice, ...]:
    """Return the bounding box of a mask; empty slices for an empty mask."""
    boxes = find_objects(mask.astype(np.uint8))
    return boxes[0] if boxes else (slice(0, 0),) * 3
