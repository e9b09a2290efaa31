"""The check of twins: a person who is on two sides that must be apart, under two names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float16

from mgmt_ray.audit.audited_study import NO_VOLUMES, AuditContext, Check
from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import read_cohort
from mgmt_ray.preprocess.volume_index import index_path
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.selection.predictions import shorten_list
from mgmt_ray.splits.split import Split
from mgmt_ray.statistics.leak_detection import (
    Similarity,
    compute_similarity,
    move_to_origin,
    tumour_box,
)

MIN_CORRELATION = 0.9
"""Correlation where two tumours overlap, from which on they are one image.

Measured on synthetic cohorts (99 subjects of 20 × 24 × 24 voxels in three modalities, 27 of
70 × 86 × 86 in two): different persons reach .80 at the most, however they are placed; an image
with noise of 2 % of its range added after preparation keeps .96 of itself, with 5 % .81 to .94.
"""

CORRELATION_MIN_OVERLAP = 0.4
"""Least Jaccard index for :data:`MIN_CORRELATION` to count: corners of two tumours may agree."""

MIN_OVERLAP = 0.9
"""Jaccard index from which on two tumours are one; different persons reach .74 in these cohorts."""

OVERLAP_MIN_CORRELATION = 0.3
"""Least correlation for :data:`MIN_OVERLAP` to count; noise of 20 % leaves .3 to .6."""

MIN_VOXELS = 30
"""A tumour of fewer voxels is like many others."""


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two subjects who are one person, by their images.

    Attributes:
        first: the test or external subject, or one of two training subjects.
        second: a training subject.
        sides: the two roles in words, that of ``first`` first.
        modality: of the images.
        alignment: of one tumour before it was compared.
        correlation: where they overlap.
        overlap: Jaccard index of the tumours.
    """

    first: str
    second: str
    sides: tuple[str, str]
    modality: str
    alignment: str
    correlation: float
    overlap: float

    @property
    def between_folds(self) -> bool:
        """Whether both train: what is chosen is then chosen too well, and no result is touched."""
        return self.sides[0].startswith("fold")

    @property
    def pair(self) -> tuple[str, str, str]:
        """Equal for all placings, modalities and splits in which the two were compared."""
        if self.sides[0].startswith("external"):
            return self.sides[0], self.first, self.second
        return "", min(self.first, self.second), max(self.first, self.second)

    @property
    def weight(self) -> tuple[bool, float]:
        """Of several of one pair the heaviest is told."""
        return not self.between_folds, self.correlation

    def __str__(self) -> str:
        return (
            f"{self.first} ({self.sides[0]}) and {self.second} ({self.sides[1]}) in "
            f"{self.modality}, "
            f"{self.alignment}: correlation {self.correlation:.2f}, overlap {self.overlap:.2f}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class _SubjectGroup:
    """Subjects of one role.

    Attributes:
        role: in words.
        ids: theirs.
        persons: who they are, in the order of the ids.
        volumes: the original ones.
    """

    role: str
    ids: tuple[str, ...]
    persons: tuple[str, ...]
    volumes: Float16[np.ndarray, "subject depth height width"]

    @property
    def has_large_tumour(self) -> Bool[np.ndarray, " subject"]:
        return np.count_nonzero(self.volumes, axis=(1, 2, 3)) >= MIN_VOXELS


def check_duplicates(audit: AuditContext) -> Check:
    """Compare the prepared volumes of subjects that must be different persons.

    Test subjects and those of external cohorts with training subjects, which fails, and training
    subjects of different folds with each other, which is a warning: only what is chosen on
    validation follows from it.
    """
    name = "twins"
    expected = "no test or external subject looks like a training subject, nor two of two folds"
    if audit.trains_on_slices:
        return Check(name, "not done", expected, NO_VOLUMES)
    twins: dict[tuple[str, str, str], DuplicatePair] = {}
    highest = 0.0
    for modality in audit.study.modalities:
        for one, other in _groups_to_compare(audit, modality):
            for twin in _compare(one, other, modality):
                if _is_duplicate(twin):
                    kept = twins.setdefault(twin.pair, twin)
                    twins[twin.pair] = max(kept, twin, key=lambda t: t.weight)
                elif twin.overlap >= CORRELATION_MIN_OVERLAP:
                    highest = max(highest, twin.correlation)
    if not twins:
        found = f"the most alike of different persons correlate with {highest:.2f}"
        return Check(name, "passed", expected, found)
    leaking = [twin for twin in twins.values() if not twin.between_folds]
    shown = [*leaking, *(twin for twin in twins.values() if twin.between_folds)]
    found = f"{len(twins)}: {shorten_list([str(twin) for twin in shown], 5)}"
    remedy = (
        "Look at both. If they are one person, leave one out with cohort.exclude, or name both in "
        "one row of cohort.crosswalk; then run the study anew."
    )
    return Check(name, "failed" if leaking else "warning", expected, found, remedy)


def _is_duplicate(pair: DuplicatePair) -> bool:
    same_image = pair.correlation >= MIN_CORRELATION and pair.overlap >= CORRELATION_MIN_OVERLAP
    return same_image or (
        pair.overlap >= MIN_OVERLAP and pair.correlation >= OVERLAP_MIN_CORRELATION
    )


def _groups_to_compare(
    audit: AuditContext, modality: str
) -> Iterator[tuple[_SubjectGroup, _SubjectGroup]]:
    """Sides that must be apart, the one that trains last."""
    for split in audit.splits:
        trained = _load_own(audit, modality, "training", split.training)
        yield _load_own(audit, modality, "test", split.test), trained
        yield from _folds(split, trained)
    everybody = sorted({s for split in audit.splits for s in split.training})
    for name in audit.study.external:
        outside = _load_external(audit, name, modality)
        if outside is not None:
            yield outside, _load_own(audit, modality, "training", everybody)


def _folds(split: Split, trained: _SubjectGroup) -> Iterator[tuple[_SubjectGroup, _SubjectGroup]]:
    """Each fold with all that come after it."""
    for number, ids in enumerate(split.folds[:-1]):
        later = [s for fold in split.folds[number + 1 :] for s in fold]
        yield _select(trained, f"fold {number}", ids), _select(trained, "a later fold", later)


def _select(side: _SubjectGroup, role: str, ids: Sequence[str]) -> _SubjectGroup:
    wanted = set(ids)
    rows = [row for row, subject in enumerate(side.ids) if subject in wanted]
    ids_there, persons = (tuple(names[row] for row in rows) for names in (side.ids, side.persons))
    return _SubjectGroup(role, ids_there, persons, side.volumes[rows])


def _load_own(audit: AuditContext, modality: str, role: str, ids: Sequence[str]) -> _SubjectGroup:
    person = {s.id: s.person for s in audit.cohort.subjects if modality in s.scans}
    having = tuple(s for s in ids if s in person)
    store = VolumeStore(audit.volumes, modality)
    volumes = store.load(having, store.versions[:1])[:, 0]
    return _SubjectGroup(role, having, tuple(person[s] for s in having), volumes)


def _load_external(audit: AuditContext, name: str, modality: str) -> _SubjectGroup | None:
    """An external cohort's subjects; None where their volumes are not there."""
    folder = audit.context.folder.external(name)
    if not index_path(folder.volumes, modality).exists():
        return None
    store, own = VolumeStore(folder.volumes, modality), VolumeStore(audit.volumes, modality)
    if store.volume_shape != own.volume_shape:
        raise MgmtError(
            f"{store.path}: volumes of {store.volume_shape} voxels, and {own.volume_shape} in the "
            "study's own. Run `mgmt-ray prepare STUDY` first."
        )
    person = {s.id: s.person for s in read_cohort(folder.root).subjects}
    having = tuple(s for s in store.ids if s in person)
    volumes = store.load(having, store.versions[:1])[:, 0]
    return _SubjectGroup(f"external {name}", having, tuple(person[s] for s in having), volumes)


def _compare(one: _SubjectGroup, other: _SubjectGroup, modality: str) -> Iterator[DuplicatePair]:
    """Of each subject of one side and placing the most alike of the other by either criterion."""
    if not one.ids or not other.ids:
        return
    strangers = np.array(one.persons)[:, None] != np.array(other.persons)[None]
    asked = strangers & one.has_large_tumour[:, None] & other.has_large_tumour[None]
    for placing, agreement in _alignments(one.volumes, other.volumes):
        correlation = np.where(
            asked & (agreement.overlap >= CORRELATION_MIN_OVERLAP), agreement.correlation, -1
        )
        overlap = np.where(
            asked & (agreement.correlation >= OVERLAP_MIN_CORRELATION), agreement.overlap, -1
        )
        for measure in (correlation, overlap):
            for row, column in enumerate(measure.argmax(axis=1)):
                if measure[row, column] < 0:
                    continue
                values = agreement.correlation[row, column], agreement.overlap[row, column]
                pair = one.ids[row], other.ids[column], (one.role, other.role)
                yield DuplicatePair(*pair, modality, placing, float(values[0]), float(values[1]))


def _alignments(one: np.ndarray, other: np.ndarray) -> Iterator[tuple[str, Similarity]]:
    yield "in place", compute_similarity(one, other)
    boxes = [tumour_box(volume != 0) for part in (one, other) for volume in part]
    sides = [[side.stop - side.start for side in box] for box in boxes]
    depth, height, width = (max(lengths) for lengths in zip(*sides, strict=True))
    shape = (depth, height, width)
    moved = move_to_origin(other, shape)
    yield "moved", compute_similarity(move_to_origin(one, shape), moved)
    yield "mirrored", compute_similarity(move_to_origin(one[..., ::-1], shape), moved)
