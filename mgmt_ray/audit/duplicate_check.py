"""Check for duplicates: one person under two names on two sides that must be separate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float16

from mgmt_ray.audit.audited_study import NO_VOLUMES, AuditContext, Check
from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import read_cohort
from mgmt_ray.preprocess.artefact_store import index_path
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
"""Two tumours with this correlation, where they overlap, are one image.

Measured on synthetic cohorts (99 subjects of 20 × 24 × 24 voxels in three modalities, 27 of
70 × 86 × 86 in two): different persons reach at most 0.80 in any alignment; an image and its copy
with noise of 2 % of the intensity range correlate with 0.96, with noise of 5 % with 0.81 to 0.94.
"""

CORRELATION_MIN_OVERLAP = 0.4
"""Minimum Jaccard index for :data:`MIN_CORRELATION` to apply; small overlaps may correlate."""

MIN_OVERLAP = 0.9
"""Two tumours with this Jaccard index are one; different persons reach 0.74 in these cohorts."""

OVERLAP_MIN_CORRELATION = 0.3
"""Minimum correlation for :data:`MIN_OVERLAP` to apply; noise of 20 % leaves 0.3 to 0.6."""

MIN_VOXELS = 30
"""Smaller tumours are not compared: they resemble many others."""


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two subjects with similar images.

    Attributes:
        first: the test or external subject, or one of two training subjects.
        second: a training subject.
        sides: their roles, such as "test" and "training".
        alignment: of the tumours in the comparison: "in place", "moved" or "mirrored".
        correlation: of the intensities where the tumours overlap.
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
        """Whether both are training subjects: that affects validation, but no test result."""
        return self.sides[0].startswith("fold")

    @property
    def pair(self) -> tuple[str, str, str]:
        """Identifies the pair in all alignments, modalities and splits."""
        if self.sides[0].startswith("external"):
            return self.sides[0], self.first, self.second
        return "", min(self.first, self.second), max(self.first, self.second)

    @property
    def weight(self) -> tuple[bool, float]:
        """Orders comparisons of one pair; the highest is reported."""
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
        role: such as "training".
        persons: in the order of the ids.
        volumes: not augmented.
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

    A duplicate of a training subject in the test set or an external cohort fails the check. One in
    another fold is a warning: only choices on validation are affected.
    """
    name = "duplicate persons"
    expected = "no two subjects of test, external and training sets or of two folds look alike"
    if audit.pipeline != "volumes":
        return Check(name, "not done", expected, NO_VOLUMES)
    duplicates: dict[tuple[str, str, str], DuplicatePair] = {}
    highest = 0.0
    for modality in audit.study.modalities:
        for group, other in _groups_to_compare(audit, modality):
            for pair in _compare(group, other, modality):
                if _is_duplicate(pair):
                    previous = duplicates.setdefault(pair.pair, pair)
                    duplicates[pair.pair] = max(previous, pair, key=lambda p: p.weight)
                elif pair.overlap >= CORRELATION_MIN_OVERLAP:
                    highest = max(highest, pair.correlation)
    if not duplicates:
        found = f"the highest correlation of different persons is {highest:.2f}"
        return Check(name, "passed", expected, found)
    leaking = [pair for pair in duplicates.values() if not pair.between_folds]
    shown = [*leaking, *(pair for pair in duplicates.values() if pair.between_folds)]
    found = f"{len(duplicates)}: {shorten_list([str(pair) for pair in shown], 5)}"
    remedy = (
        "Look at both scans. If they are of one person, exclude one with cohort.exclude, or list "
        "both ids in one row of cohort.crosswalk; then rerun the study."
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
    """Yield pairs of groups that must not share persons; the training group is second."""
    for split in audit.splits:
        training = _load_group(audit, modality, "training", split.training)
        yield _load_group(audit, modality, "test", split.test), training
        yield from _folds(split, training)
    all_training = sorted({s for split in audit.splits for s in split.training})
    for name in audit.study.external:
        external = _load_external(audit, name, modality)
        if external is not None:
            yield external, _load_group(audit, modality, "training", all_training)


def _folds(split: Split, training: _SubjectGroup) -> Iterator[tuple[_SubjectGroup, _SubjectGroup]]:
    """Yield each fold with the subjects of all later folds."""
    for number, ids in enumerate(split.folds[:-1]):
        later = [s for fold in split.folds[number + 1 :] for s in fold]
        yield _select(training, f"fold {number}", ids), _select(training, "a later fold", later)


def _select(group: _SubjectGroup, role: str, ids: Sequence[str]) -> _SubjectGroup:
    """Return the subjects of a group that are in ids, with another role."""
    selected = set(ids)
    rows = [row for row, subject in enumerate(group.ids) if subject in selected]
    kept, persons = (tuple(names[row] for row in rows) for names in (group.ids, group.persons))
    return _SubjectGroup(role, kept, persons, group.volumes[rows])


def _load_group(audit: AuditContext, modality: str, role: str, ids: Sequence[str]) -> _SubjectGroup:
    person = {s.id: s.person for s in audit.cohort.subjects if modality in s.scans}
    scanned = tuple(s for s in ids if s in person)
    store = VolumeStore(audit.store, modality)
    volumes = store.load(scanned, store.versions[:1])[:, 0]
    return _SubjectGroup(role, scanned, tuple(person[s] for s in scanned), volumes)


def _load_external(audit: AuditContext, name: str, modality: str) -> _SubjectGroup | None:
    """Load an external cohort's subjects; None if their volumes are not prepared."""
    folder = audit.context.folder.external(name)
    if not index_path(folder.volumes, modality).exists():
        return None
    store, own = (
        VolumeStore(folder.volumes, modality),
        VolumeStore(audit.store, modality),
    )
    if store.volume_shape != own.volume_shape:
        raise MgmtError(
            f"{store.path}: volumes have {store.volume_shape} voxels, those of the study's own "
            f"cohort {own.volume_shape}. Run `mgmt-ray prepare STUDY` first."
        )
    person = {s.id: s.person for s in read_cohort(folder.root).subjects}
    ids = tuple(s for s in store.ids if s in person)
    volumes = store.load(ids, store.versions[:1])[:, 0]
    return _SubjectGroup(f"external {name}", ids, tuple(person[s] for s in ids), volumes)


def _compare(group: _SubjectGroup, other: _SubjectGroup, modality: str) -> Iterator[DuplicatePair]:
    """Yield, per subject and alignment, the most similar of the other group by either criterion."""
    if not group.ids or not other.ids:
        return
    different = np.array(group.persons)[:, None] != np.array(other.persons)[None]
    compared = different & group.has_large_tumour[:, None] & other.has_large_tumour[None]
    for alignment, similarity in _alignments(group.volumes, other.volumes):
        correlation = np.where(
            compared & (similarity.overlap >= CORRELATION_MIN_OVERLAP), similarity.correlation, -1
        )
        overlap = np.where(
            compared & (similarity.correlation >= OVERLAP_MIN_CORRELATION), similarity.overlap, -1
        )
        for measure in (correlation, overlap):
            for row, column in enumerate(measure.argmax(axis=1)):
                if measure[row, column] < 0:
                    continue
                yield DuplicatePair(
                    group.ids[row],
                    other.ids[column],
                    (group.role, other.role),
                    modality,
                    alignment,
                    float(similarity.correlation[row, column]),
                    float(similarity.overlap[row, column]),
                )


def _alignments(volumes: np.ndarray, other: np.ndarray) -> Iterator[tuple[str, Similarity]]:
    """Yield each alignment of the tumours with the similarity of all pairs in it."""
    yield "in place", compute_similarity(volumes, other)
    boxes = [tumour_box(volume != 0) for group in (volumes, other) for volume in group]
    sides = [[side.stop - side.start for side in box] for box in boxes]
    depth, height, width = (max(lengths) for lengths in zip(*sides, strict=True))
    shape = (depth, height, width)
    moved = move_to_origin(other, shape)
    yield "moved", compute_similarity(move_to_origin(volumes, shape), moved)
    yield "mirrored", compute_similarity(move_to_origin(volumes[..., ::-1], shape), moved)
