"""Leak detection: voxels, numbers and plain properties associated with the label. On arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Float16, Integer, Num
from scipy.stats import chi2, hypergeom, norm

from mgmt_ray.statistics.intervals import Labels
from mgmt_ray.training.metrics import auc, unit_weights

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


Value: TypeAlias = str | float | None
"""A property's value for one subject; None where it has none."""

FEW_VALUES = 12
"""A number with as many different values or fewer is also tested at each cut between them."""


@dataclass(frozen=True, slots=True)
class PropertyAssociation:
    """How well a property alone separates the classes.

    Attributes:
        auc: of the property's best reading, at least 0.5: its order, one of its values against all
            others, a cut, or all values as groups (each subject by the rate of the others in its
            group).
        p: corrected for all readings of all properties.
    """

    auc: float
    p: float


@dataclass(frozen=True, slots=True, eq=False)
class _Reading:
    """One way to read a property: the score of every labelling, and the AUC of the first.

    Attributes:
        log_p: natural logarithm of a p-value, exact for a yes or no, else of large samples.
    """

    log_p: Float[np.ndarray, " labelling"]
    auc: float


def associate_properties(
    properties: Sequence[Sequence[Value]],
    labels: Labels,
    permuted: Integer[np.ndarray, "permutation subject"],
) -> list[PropertyAssociation]:
    """Test every property for association with the label, in each of its readings.

    The smallest p-value of all readings of all properties is compared with its distribution under
    permuted labels (Westfall and Young 1993, min-P, single step): the chance that any property is
    called associated by chance is at most the level, however the properties depend on one another
    and whether or not a reading's own p-value is exact.

    Examples:
        >>> labels = np.repeat([0, 1], 10)
        >>> random = np.random.default_rng(1)
        >>> permuted = np.stack([random.permutation(labels) for _ in range(99)])
        >>> site = ["Basel"] * 10 + ["Bern"] * 10
        >>> [(a.auc, a.p) for a in associate_properties([site, [1.0] * 20], labels, permuted)]
        [(1.0, 0.01), (0.5, 1.0)]
    """
    labellings = np.concatenate([labels[None], permuted])
    best = [_best_reading(values, labellings) for values in properties]
    least = np.min([reading.log_p for reading in best], axis=0)[1:]
    return [
        PropertyAssociation(reading.auc, float(np.mean([1, *(least <= reading.log_p[0] + 1e-9)])))
        for reading in best
    ]


def _best_reading(
    values: Sequence[Value], labellings: Integer[np.ndarray, "labelling subject"]
) -> _Reading:
    """Return the smallest p-value of a property's readings, and the AUC of that of the labels."""
    readings = list(_readings(values, labellings))
    if not readings:
        return _Reading(np.zeros(len(labellings)), 0.5)
    table = np.stack([reading.log_p for reading in readings])
    return _Reading(table.min(axis=0), readings[int(table[:, 0].argmin())].auc)


def _readings(
    values: Sequence[Value], labellings: Integer[np.ndarray, "labelling subject"]
) -> Iterator[_Reading]:
    groups = sorted(
        {value for value in values if value is not None}, key=lambda v: (str(type(v)), v)
    )
    place = {value: number for number, value in enumerate(groups)}
    codes = np.array([-1 if value is None else place[value] for value in values])
    if len(groups) + (codes < 0).any() < 2:
        return
    known = codes >= 0
    numbers = [value for value in groups if isinstance(value, float)]
    yes = {tuple(known)}
    repeated = np.flatnonzero(np.bincount(codes[known], minlength=len(groups)) > 1)
    yes |= {tuple(codes == code) for code in repeated}
    if len(numbers) == len(groups):
        yes |= {tuple(codes >= cut) for cut in range(1, len(groups)) if len(groups) <= FEW_VALUES}
        if all(number.is_integer() for number in numbers):
            odd = np.array([number % 2 for number in numbers])
            yes.add(tuple(known & (odd[codes] == 1)))
        if len(groups) > 2:
            yield _order_reading(codes, labellings)
    for indicator in sorted(yes):
        if any(indicator) and not all(indicator):
            yield _yes_reading(np.array(indicator), labellings)
    if 2 < len(groups) <= len(values) / 2:
        yield _group_reading(codes, labellings)


def _yes_reading(yes: np.ndarray, labellings: Integer[np.ndarray, "labelling subject"]) -> _Reading:
    """Test a yes or no: Fisher's exact test, two-sided."""
    number, methylated = len(yes), int(labellings[0].sum())
    probability = hypergeom.pmf(np.arange(number + 1), number, methylated, int(yes.sum()))
    p = np.array([probability[probability <= each * (1 + 1e-9)].sum() for each in probability])
    counts = (labellings @ yes.astype(np.int64)).astype(int)
    rates = counts[0] / methylated, (yes.sum() - counts[0]) / (number - methylated)
    area = 0.5 + abs(float(rates[0] - rates[1])) / 2
    return _Reading(np.log(np.maximum(p, 1e-300))[counts], area)


def _order_reading(
    codes: np.ndarray, labellings: Integer[np.ndarray, "labelling subject"]
) -> _Reading:
    """Test the order of the known values: Mann-Whitney, normal approximation with ties."""
    known = codes >= 0
    among = labellings[:, known].astype(np.float64)
    ranks = _midranks(codes[None, known]).astype(np.float64)[0]
    total, positives = known.sum(), among.sum(axis=1)
    pairs = positives * (total - positives)
    excess = among @ ranks - positives * (total + 1) / 2
    std = np.sqrt(pairs * ranks.var() / max(total - 1, 1))
    z = np.divide(excess, std, out=np.zeros_like(excess), where=std > 0)
    area = abs(excess[0]) / pairs[0] if pairs[0] else 0.0
    return _Reading(math.log(2) + norm.logsf(np.abs(z)), 0.5 + float(area))


def _group_reading(
    codes: np.ndarray, labellings: Integer[np.ndarray, "labelling subject"]
) -> _Reading:
    """Test all values as groups, unknown being one: chi-squared."""
    names, group = np.unique(codes, return_inverse=True)
    member = np.eye(len(names))[group]
    sizes, share = member.sum(axis=0), labellings[0].mean()
    counts = labellings @ member
    statistic = ((counts - sizes * share) ** 2 / sizes).sum(axis=1) / (share * (1 - share))
    # each subject by the rate of the others in its group, the mean rate where there are none
    others = (counts[0][group] - labellings[0] + share) / sizes[group]
    area = float(auc(labellings[0], others, unit_weights(len(group)))[0])
    return _Reading(chi2.logsf(statistic, len(names) - 1), max(area, 0.5))
