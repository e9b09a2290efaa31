"""The same human being under several names: by a crosswalk, and by equal voxels."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeAlias

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.reader import ReaderResult
from mgmt_ray.cohort.scan import EMPTY_HASH

Crosswalk: TypeAlias = tuple[tuple[str, ...], ...]
"""Rows of cells; all ids of a row name one person."""

SubjectKey: TypeAlias = tuple[str, str]
"""A cohort's name and an id in it: two hospitals may use one id for two people."""

PUBLIC_ID_PATTERNS = (
    (re.compile(r"(UPENN-GBM-\d{5})(_\d\d)?", re.IGNORECASE), "{0}"),
    (re.compile(r"(BRATS2021)_(\d{5})", re.IGNORECASE), "BraTS2021_{1}"),
    (re.compile(r"(UCSF-PDGM)-0?(\d{3})(_FU\w*)?(_nifti)?", re.IGNORECASE), "UCSF-PDGM-0{1}"),
    (re.compile(r"(TCGA-\w\w-\w{4})(-[\w-]+)?", re.IGNORECASE), "{0}"),
)
"""Ids of public data sets with what is added for a session, and the person's name in them."""

MAX_SUBJECTS_PER_PERSON = 20
"""More subjects than this are no one person: the crosswalk then holds something else than ids."""


@dataclass(frozen=True, slots=True)
class PersonRef:
    """Somebody whom a reader found, whether a subject or left out.

    Attributes:
        cohort: its name in the study; empty for the study's own.
        id: in that cohort.
        person: as the reader says; a name of a public data set means the same in all cohorts, and
            so does one that is not simply the id.
    """

    cohort: str
    id: str
    person: str

    @property
    def key(self) -> SubjectKey:
        """Unique among several cohorts."""
        return self.cohort, self.id


def list_persons(result: ReaderResult, cohort: str = "") -> list[PersonRef]:
    """Everybody of a reading: a person may be connected through somebody who is left out."""
    found = {s.id: PersonRef(cohort, s.id, s.person) for s in result.subjects}
    others = [e.subject for e in result.exclusions if e.scope == "cohort"]
    others += [p.subject for p in result.problems]
    for name in others:
        found.setdefault(name, PersonRef(cohort, name, public_person_name(name) or name))
    return list(found.values())


def public_person_name(text: str) -> str:
    """A person's name in a public data set, whatever session or spelling; empty for other text."""
    for pattern, name in PUBLIC_ID_PATTERNS:
        if match := pattern.fullmatch(text):
            return name.format(*(part.upper() for part in match.groups() if part))
    return ""


def read_crosswalk(path: Path | None) -> Crosswalk:
    """Read a CSV of ids (parted by commas, semicolons or tabs); it needs no names of columns.

    No file has no rows.

    Raises:
        MgmtError: it cannot be read, or is no table.
    """
    if path is None:
        return ()
    try:
        text = path.read_text(encoding="utf-8-sig")
        delimiter = max(",;\t", key=text.count)
        rows = list(csv.reader(text.splitlines(), delimiter=delimiter))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MgmtError(
            f"{path}: crosswalk cannot be read ({reason}). Give a CSV (UTF-8) with the ids of one "
            "person in each row as cohort.crosswalk."
        ) from error
    return tuple(tuple(cell.strip() for cell in row) for row in rows)


def find_persons(
    people: Sequence[PersonRef],
    crosswalk: Iterable[Sequence[str]] = (),
    pairs: Iterable[tuple[SubjectKey, SubjectKey]] = (),
) -> dict[SubjectKey, str]:
    """Who is the same human being.

    A cell of a crosswalk counts where it names somebody here (by id or person, in any case, with
    or without a public data set's session), or where it could be an id, with letters and digits and
    no space: then it connects rows, though nobody here has it. Sites, ages and dates connect
    nobody.

    Args:
        people: of one cohort, or of several.
        crosswalk: rows whose ids name one person.
        pairs: who is known to be the same otherwise, by equal voxels.

    Returns:
        A person's name by key: of all that are connected the first by spelling.

    Raises:
        MgmtError: so many would be one person that the crosswalk cannot hold ids alone.
    """
    parts = _DisjointSets()
    named: dict[str, list[PersonRef]] = {}
    for known in people:
        parts.join(known.key, _person_node(known))
        for name in {_normalise_name(known.id), _normalise_name(known.person)}:
            named.setdefault(name, []).append(known)
    for row in crosswalk:
        nodes: list[object] = []
        for cell in filter(None, row):
            nodes += [known.key for known in named.get(_normalise_name(cell), [])]
            if _could_be_id(cell):
                nodes.append(("name", _normalise_name(cell)))
        for node in nodes[1:]:
            parts.join(nodes[0], node)
    for first, second in pairs:
        parts.join(first, second)
    members: dict[object, list[PersonRef]] = {}
    for known in people:
        members.setdefault(parts.root(known.key), []).append(known)
    _check_group_sizes(members.values())
    return {
        known.key: min(map(_person_name, together))
        for together in members.values()
        for known in together
    }


def count_matches(people: Sequence[PersonRef], crosswalk: Iterable[Sequence[str]]) -> int:
    """How many people a crosswalk names."""
    cells = {_normalise_name(cell) for row in crosswalk for cell in row if cell}
    return sum(bool({_normalise_name(k.id), _normalise_name(k.person)} & cells) for k in people)


def find_shared_voxels(
    hashes: Mapping[SubjectKey, Mapping[str, str]],
) -> list[tuple[SubjectKey, SubjectKey, tuple[str, ...]]]:
    """Pairs of subjects that share at least one image, under whatever modality.

    Args:
        hashes: by subject and modality, of the voxels (``scan.voxel_hash``); that of an empty scan
            never counts.

    Returns:
        (first, second, the second's modalities whose voxels the first has too), sorted.
    """
    owners: dict[str, dict[SubjectKey, list[str]]] = {}
    for subject in sorted(hashes):
        for modality, voxels in sorted(hashes[subject].items()):
            if voxels != EMPTY_HASH:
                owners.setdefault(voxels, {}).setdefault(subject, []).append(modality)
    shared: dict[tuple[SubjectKey, SubjectKey], set[str]] = {}
    for by_subject in owners.values():
        for first, second in combinations(by_subject, 2):
            shared.setdefault((first, second), set()).update(by_subject[second])
    return [(*pair, tuple(sorted(modalities))) for pair, modalities in sorted(shared.items())]


def find_shared_names(
    people: Iterable[PersonRef], others: Iterable[PersonRef]
) -> list[tuple[SubjectKey, SubjectKey]]:
    """Pairs of two groups that have an id or person's name in common, in whatever spelling.

    Two hospitals may use one id for two people, so such a pair is one person only where taking two
    for one does no harm.
    """
    named: dict[str, list[SubjectKey]] = {}
    for known in others:
        for name in {_normalise_name(known.id), _normalise_name(known.person)}:
            named.setdefault(name, []).append(known.key)
    return [
        (known.key, key)
        for known in people
        for name in sorted({_normalise_name(known.id), _normalise_name(known.person)})
        for key in named.get(name, [])
    ]


class _DisjointSets:
    """Connected parts of a graph (union by root)."""

    def __init__(self) -> None:
        self._parent: dict[object, object] = {}

    def root(self, node: object) -> object:
        """The part's representative."""
        parent = self._parent.setdefault(node, node)
        while parent != node:
            self._parent[node] = self._parent[parent]
            node, parent = parent, self._parent[parent]
        return node

    def join(self, first: object, second: object) -> None:
        """Make one part of two."""
        self._parent[self.root(second)] = self.root(first)


def _person_node(known: PersonRef) -> object:
    """What all who are this person have in common."""
    if _is_global_name(known):
        return "name", _normalise_name(known.person)
    return "local", known.cohort, known.person


def _person_name(known: PersonRef) -> str:
    """The person's name, which no other person in any cohort has."""
    if _is_global_name(known) or not known.cohort:
        return known.person
    return f"{known.person} of {known.cohort}"


def _is_global_name(known: PersonRef) -> bool:
    return bool(public_person_name(known.person)) or known.person != known.id


def _normalise_name(text: str) -> str:
    """One spelling for names that mean the same."""
    text = text.strip().removesuffix(".gz").removesuffix(".nii")
    return (public_person_name(text) or text).casefold()


def _could_be_id(cell: str) -> bool:
    has = {"letter": any(c.isalpha() for c in cell), "digit": any(c.isdigit() for c in cell)}
    return all(has.values()) and not any(c.isspace() for c in cell)


def _check_group_sizes(parts: Iterable[Sequence[PersonRef]]) -> None:
    for together in parts:
        if len({(known.cohort, known.person) for known in together}) > MAX_SUBJECTS_PER_PERSON:
            some = ", ".join(known.id for known in together[:5])
            raise MgmtError(
                f"cohort.crosswalk: {len(together)} subjects ({some} ...) would be one person. "
                "Keep columns of ids only; one of sites or scanners connects everybody."
            )
