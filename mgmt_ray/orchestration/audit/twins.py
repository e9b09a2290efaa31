"""The check of twins: a person who trains under one name and is tested on under another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mgmt_ray.orchestration.audit.audited import Audited
from mgmt_ray.orchestration.audit.check import Check
from mgmt_ray.preprocess.store import VolumeStore
from mgmt_ray.selection.predictions import name_some
from mgmt_ray.splits.split import Split
from mgmt_ray.statistics.likeness import Likeness, at_origin, likeness, tumour_box

SAME_IMAGE = 0.9
"""Correlation where two tumours overlap, from which on they are one image.

Measured on synthetic cohorts (99 subjects of 20 × 24 × 24 voxels in three modalities, 27 of
70 × 86 × 86 in two): different persons reach .80 at the most, however they are placed; an image
with noise of 2 % of its range added after preparation keeps .96 of itself, with 5 % .81 to .94.
"""

SOME_OVERLAP = 0.4
"""Least Jaccard index of two tumours for :data:`SAME_IMAGE` to count: two corners may agree."""

SAME_MASK = 0.9
"""Jaccard index from which on two tumours are one; different persons reach .74 in these cohorts."""

SOME_LIKENESS = 0.3
"""Least correlation for :data:`SAME_MASK` to count; noise of 20 % leaves .3 to .6."""

LEAST_VOXELS = 30
"""A tumour of fewer voxels is like many others."""


@dataclass(frozen=True, slots=True)
class Twin:
    """A test subject and a training subject who are one person, by their images."""

    tested: str
    trained: str
    modality: str
    placing: str
    correlation: float
    overlap: float

    def __str__(self) -> str:
        return (
            f"{self.tested} (test) and {self.trained} (training) in {self.modality}, "
            f"{self.placing}: correlation {self.correlation:.2f}, overlap {self.overlap:.2f}"
        )


def check_twins(audited: Audited) -> Check:
    """Compare every test subject's prepared volumes with every training subject's."""
    name = "twins"
    expected = "no test subject looks like a training subject"
    twins: dict[tuple[str, str], Twin] = {}
    highest = 0.0
    for split in audited.splits:
        for modality in audited.study.modalities:
            for twin in _compare(audited, split, modality):
                if _is_twin(twin):
                    kept = twins.setdefault((twin.tested, twin.trained), twin)
                    if twin.correlation > kept.correlation:
                        twins[twin.tested, twin.trained] = twin
                elif twin.overlap >= SOME_OVERLAP:
                    highest = max(highest, twin.correlation)
    if not twins:
        found = f"the most alike of different persons correlate with {highest:.2f}"
        return Check(name, "passed", expected, found)
    found = f"{len(twins)}: {name_some([str(twin) for twin in twins.values()], 5)}"
    remedy = (
        "Look at both. If they are one person, leave one out with cohort.exclude, or name both in "
        "one row of cohort.crosswalk; then run the study anew."
    )
    return Check(name, "failed", expected, found, remedy)


def _is_twin(pair: Twin) -> bool:
    same_image = pair.correlation >= SAME_IMAGE and pair.overlap >= SOME_OVERLAP
    return same_image or (pair.overlap >= SAME_MASK and pair.correlation >= SOME_LIKENESS)


def _compare(audited: Audited, split: Split, modality: str) -> Iterator[Twin]:
    """Of each test subject and placing the most alike training subject by either criterion."""
    store = VolumeStore(audited.volumes, modality)
    having = set(audited.having(modality))
    tested = [s for s in split.test if s in having]
    trained = [s for s in split.training if s in having]
    original = store.versions[:1]
    one = store.load(tested, original)[:, 0]
    other = store.load(trained, original)[:, 0]
    person = {s.id: s.person for s in audited.cohort.subjects}
    ours = np.array([person[s] for s in tested])[:, None]
    strangers = ours != np.array([person[s] for s in trained])[None]
    large = [np.count_nonzero(part, axis=(1, 2, 3)) >= LEAST_VOXELS for part in (one, other)]
    asked = strangers & large[0][:, None] & large[1][None]
    for placing, alike in _placings(one, other):
        correlation = np.where(asked & (alike.overlap >= SOME_OVERLAP), alike.correlation, -1)
        overlap = np.where(asked & (alike.correlation >= SOME_LIKENESS), alike.overlap, -1)
        for measure in (correlation, overlap):
            for row, column in enumerate(measure.argmax(axis=1)):
                if measure[row, column] < 0:
                    continue
                values = alike.correlation[row, column], alike.overlap[row, column]
                pair = tested[row], trained[column]
                yield Twin(*pair, modality, placing, float(values[0]), float(values[1]))


def _placings(one: np.ndarray, other: np.ndarray) -> Iterator[tuple[str, Likeness]]:
    yield "in place", likeness(one, other)
    boxes = [tumour_box(volume != 0) for part in (one, other) for volume in part]
    sides = [[side.stop - side.start for side in box] for box in boxes]
    depth, height, width = (max(lengths) for lengths in zip(*sides, strict=True))
    shape = (depth, height, width)
    moved = at_origin(other, shape)
    yield "moved", likeness(at_origin(one, shape), moved)
    yield "mirrored", likeness(at_origin(one[..., ::-1], shape), moved)
