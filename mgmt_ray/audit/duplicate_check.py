"""Check for duplicates: one person under two names on two sides that must be separate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float16

from mgmt_ray.audit.audited_study import LEVELS, NO_VOLUMES, AuditContext, Check
from mgmt_ray.audit.image_matching import (
    ALIGNMENTS,
    LEAST_CORRELATION,
    LEAST_VOXELS,
    FineStructure,
    copy_scores,
    copy_threshold,
    fine_structure,
    match_tumours,
    register,
)
from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import read_cohort
from mgmt_ray.preprocess.artefact_store import index_path
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.selection.predictions import shorten_list

NUM_CANDIDATES = 3
"""Most similar others of each subject that are registered with it."""


@dataclass(frozen=True, slots=True)
class TumourPair:
    """Two subjects whose tumours were registered, and that are distinct persons by their names.

    Attributes:
        external: cohort of the first; empty for the study's own.
        alignment: of the tumours before registration: "in place", "moved" or "mirrored".
        correlation: of the fine structure where the tumours overlap.
        shared: voxels that were compared.
        sides: roles that must be separate, such as "test" and "training"; empty if there are none.
    """

    first: str
    second: str
    external: str
    modality: str
    alignment: str
    correlation: float
    shared: int
    sides: tuple[str, str] | None = None

    @property
    def between_folds(self) -> bool:
        """Whether both are training subjects: that affects validation, but no test result."""
        return self.sides is not None and self.sides[0].startswith("fold")

    @property
    def pair(self) -> tuple[str, str, str]:
        """Identifies the pair in all modalities."""
        return self.external, self.first, self.second

    def __str__(self) -> str:
        first, second = self.sides or ("", "")
        return (
            f"{self.first} ({first}) and {self.second} ({second}) in {self.modality}, "
            f"{self.alignment}: correlation {self.correlation:.2f} in {self.shared} voxels"
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Tumours:
    """The tumours of a cohort in one modality.

    Attributes:
        persons: in the order of the ids.
        volumes: not augmented.
    """

    ids: tuple[str, ...]
    persons: tuple[str, ...]
    volumes: Float16[np.ndarray, "subject depth height width"]
    fine: FineStructure


def check_duplicates(audit: AuditContext) -> Check:
    """Compare the tumours of all subjects that are different persons by their names.

    What is usual is learnt from the study's own pairs, nearly all of which are of distinct persons.
    A copy of a training subject in the test set or an external cohort fails the check. One in
    another fold is a warning: only choices on validation are affected.
    """
    name = "duplicate persons"
    expected = "no two subjects of test, external and training sets or of two folds look alike"
    if audit.pipeline != "volumes":
        return Check(name, "not done", expected, NO_VOLUMES)
    modalities = audit.study.modalities
    copies: dict[tuple[str, str, str], TumourPair] = {}
    highest = 0.0
    for modality in modalities:
        pairs = list(_registered_pairs(audit, modality))
        for pair, is_copy in zip(pairs, _are_copies(pairs, len(modalities)), strict=True):
            if not is_copy:
                highest = max(highest, pair.correlation)
            elif (placed := _with_sides(audit, pair)).sides is not None:
                previous = copies.setdefault(placed.pair, placed)
                copies[placed.pair] = max(previous, placed, key=lambda p: p.correlation)
    if not copies:
        found = f"the highest correlation of different persons is {highest:.2f}"
        return Check(name, "passed", expected, found)
    leaking = [pair for pair in copies.values() if not pair.between_folds]
    shown = [*leaking, *(pair for pair in copies.values() if pair.between_folds)]
    found = f"{len(copies)}: {shorten_list([str(pair) for pair in shown], 5)}"
    remedy = (
        "Look at both scans. If they are of one person, exclude one with cohort.exclude, or list "
        "both ids in one row of cohort.crosswalk; then rerun the study."
    )
    return Check(name, "failed" if leaking else "warning", expected, found, remedy)


def _are_copies(pairs: list[TumourPair], num_modalities: int) -> list[bool]:
    """Return which pairs of one modality no two distinct persons would make."""
    if not pairs:
        return []
    correlation = np.array([pair.correlation for pair in pairs])
    scores = copy_scores(correlation, np.array([pair.shared for pair in pairs]))
    threshold = copy_threshold(scores, LEVELS["duplicate persons"] / num_modalities)
    copies: list[bool] = ((scores > threshold) & (correlation >= LEAST_CORRELATION)).tolist()
    return copies


def _registered_pairs(audit: AuditContext, modality: str) -> Iterator[TumourPair]:
    """Register each subject with those most like it, in the study and in external cohorts."""
    person = {s.id: s.person for s in audit.cohort.subjects}
    own = _load(VolumeStore(audit.store, modality), person)
    yield from _pairs(own, own, "", modality)
    for name in audit.study.external:
        external = _load_external(audit, name, modality)
        if external is not None:
            yield from _pairs(external, own, name, modality)


def _pairs(group: _Tumours, other: _Tumours, external: str, modality: str) -> Iterator[TumourPair]:
    """Yield the most similar pairs of distinct persons, each once, registered."""
    if not group.ids or not other.ids:
        return
    matches = match_tumours(group.fine, other.fine)
    different = np.array(group.persons)[:, None] != np.array(other.persons)[None]
    similarity = np.where(different, matches.correlation, -1)
    done = set()
    for row, order in enumerate(np.argsort(-similarity, axis=1, kind="stable")):
        for column in order[:NUM_CANDIDATES].tolist():
            pair = (row, column)
            if group is other and row > column:
                pair = (column, row)
            if similarity[pair] < 0 or pair in done:
                continue
            done.add(pair)
            first, second = pair
            alignment = ALIGNMENTS[matches.alignment[first, second]]
            correlation, shared = register(group.volumes[first], other.volumes[second], alignment)
            if shared:
                ids = group.ids[first], other.ids[second]
                yield TumourPair(*ids, external, modality, alignment.name, correlation, shared)


def _with_sides(audit: AuditContext, pair: TumourPair) -> TumourPair:
    """Return the pair with the roles in which it must not be one person, if there are any.

    Test and training come before two folds; the test subject is named first.
    """
    swapped = replace(pair, first=pair.second, second=pair.first)
    between_folds = pair
    for split in audit.splits:
        training = set(split.training)
        if pair.external:
            if pair.second in training:
                return replace(pair, sides=(f"external {pair.external}", "training"))
            continue
        for ordered in (pair, swapped):
            if ordered.first in split.test and ordered.second in training:
                return replace(ordered, sides=("test", "training"))
            numbers = {s: k for k, ids in enumerate(split.folds) for s in ids}
            first, second = numbers.get(ordered.first), numbers.get(ordered.second)
            if first is not None and second is not None and first < second:
                between_folds = replace(ordered, sides=(f"fold {first}", f"fold {second}"))
    return between_folds


def _load(store: VolumeStore, person: dict[str, str]) -> _Tumours:
    """Load the subjects whose tumours are large enough to be compared."""
    ids = tuple(s for s in store.ids if s in person)
    volumes = store.load(ids, store.versions[:1])[:, 0]
    large = np.flatnonzero(np.count_nonzero(volumes, axis=(1, 2, 3)) >= LEAST_VOXELS).tolist()
    kept = tuple(ids[row] for row in large)
    volumes = volumes[large]
    return _Tumours(kept, tuple(person[s] for s in kept), volumes, fine_structure(volumes))


def _load_external(audit: AuditContext, name: str, modality: str) -> _Tumours | None:
    """Load an external cohort's subjects; None if their volumes are not prepared."""
    folder = audit.context.folder.external(name)
    if not index_path(folder.volumes, modality).exists():
        return None
    store, own = VolumeStore(folder.volumes, modality), VolumeStore(audit.store, modality)
    if store.volume_shape != own.volume_shape:
        raise MgmtError(
            f"{store.path}: volumes have {store.volume_shape} voxels, those of the study's own "
            f"cohort {own.volume_shape}. Run `mgmt-ray prepare STUDY` first."
        )
    return _load(store, {s.id: s.person for s in read_cohort(folder.root).subjects})
