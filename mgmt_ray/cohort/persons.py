"""Finding subjects that are one person, by ids, by a crosswalk and by equal voxels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeAlias

from scipy.cluster.hierarchy import DisjointSet

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.csv_rows import read_cells
from mgmt_ray.cohort.reader import ReaderResult
from mgmt_ray.cohort.scan import EMPTY_HASH

Crosswalk: TypeAlias = tuple[tuple[str, ...], ...]
"""Rows of a table; all ids in a row name one person."""

SubjectKey: TypeAlias = tuple[str, str]
"""A cohort's name and an id in it: two hospitals may use one id for two persons."""

PUBLIC_ID_PATTERNS = (
    (re.compile(r"(UPENN-GBM-\d{5})(_\d\d)?", re.IGNORECASE), "{0}"),
    (re.compile(r"(BRATS2021)_(\d{5})", re.IGNORECASE), "BraTS2021_{1}"),
    (re.compile(r"(UCSF-PDGM)-0?(\d{3})(_FU\w*)?(_nifti)?", re.IGNORECASE), "UCSF-PDGM-0{1}"),
    (re.compile(r"(TCGA-\w\w-\w{4})(-[\w-]+)?", re.IGNORECASE), "{0}"),
)
"""Patterns of ids in public data sets, with suffixes of sessions, and the person's name in each."""

MAX_SUBJECTS_PER_PERSON = 20
"""A larger group is not one person: the crosswalk then holds other values than ids."""


@dataclass(frozen=True, slots=True)
class PersonRef:
    """An id that a reader found, included or excluded, and the person it belongs to.

    Attributes:
        cohort: name in the study; empty for the study's own cohort.
        id: in that cohort.
        person: as the reader gives it. A name of a public data set, or one that differs from the
            id, means the same person in all cohorts.
    """

    cohort: str
    id: str
    person: str

    @property
    def key(self) -> SubjectKey:
        """Key that is unique among several cohorts."""
        return self.cohort, self.id


def list_persons(result: ReaderResult, cohort: str = "") -> list[PersonRef]:
    """List all ids of a reader's result: an excluded id may connect two subjects.

    >>> from mgmt_ray.cohort.subject import Subject
    >>> list_persons(ReaderResult((Subject("P1", 1, {}, None, person="Anna"),)))
    [PersonRef(cohort='', id='P1', person='Anna')]
    """
    refs = {s.id: PersonRef(cohort, s.id, s.person) for s in result.subjects}
    others = [e.subject for e in result.exclusions if e.scope == "cohort"]
    others += [p.subject for p in result.problems]
    for name in others:
        refs.setdefault(name, PersonRef(cohort, name, public_person_name(name) or name))
    return list(refs.values())


def public_person_name(text: str) -> str:
    """Return a person's name in a public data set, without session; empty for other text.

    >>> public_person_name("upenn-gbm-00001_11"), public_person_name("UCSF-PDGM-004_FU001d")
    ('UPENN-GBM-00001', 'UCSF-PDGM-0004')
    """
    for pattern, name in PUBLIC_ID_PATTERNS:
        if match := pattern.fullmatch(text):
            return name.format(*(part.upper() for part in match.groups() if part))
    return ""


def read_crosswalk(path: Path | None) -> Crosswalk:
    """Read a CSV of ids, delimited by commas, semicolons or tabs, with or without a header line.

    Returns:
        The rows; none without a file.

    Raises:
        MgmtError: the file cannot be read, or is not a table.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "crosswalk.csv")
    ...     _ = path.write_text("UPENN-GBM-00001;Anna")
    ...     read_crosswalk(path)
    (('UPENN-GBM-00001', 'Anna'),)
    """
    if path is None:
        return ()
    return tuple(tuple(row) for row in read_cells(path))


def find_persons(
    refs: Sequence[PersonRef],
    crosswalk: Iterable[Sequence[str]] = (),
    pairs: Iterable[tuple[SubjectKey, SubjectKey]] = (),
) -> dict[SubjectKey, str]:
    """Return the name of the person that each id belongs to.

    A cell of a crosswalk counts where it matches an id or a person (ignoring case and a public data
    set's session), or where it could be an id, with letters, digits and no space: the latter also
    connects rows without a match. Sites, ages and dates connect no rows.

    Args:
        crosswalk: rows whose ids name one person.
        pairs: ids that are the same person for another reason, like equal voxels.

    Returns:
        By key, the alphabetically first name of the connected ids.

    Raises:
        MgmtError: a group is so large that the crosswalk must hold other values than ids.

    >>> refs = [PersonRef("", name, name) for name in ("P1", "P2", "P3")]
    >>> find_persons(refs, crosswalk=[("P1", "P3")])
    {('', 'P1'): 'P1', ('', 'P3'): 'P1', ('', 'P2'): 'P2'}
    """
    by_name = _refs_by_name(refs)
    edges: list[tuple[object, object]] = [(ref.key, _person_node(ref)) for ref in refs]
    for row in crosswalk:
        nodes: list[object] = []
        for cell in filter(None, row):
            nodes += [ref.key for ref in by_name.get(_normalise_name(cell), [])]
            if _could_be_id(cell):
                nodes.append(("name", _normalise_name(cell)))
        edges += [(nodes[0], node) for node in nodes[1:]]
    edges += pairs
    sets: DisjointSet[object] = DisjointSet({node for edge in edges for node in edge})
    for first, second in edges:
        sets.merge(first, second)
    groups: dict[object, list[PersonRef]] = {}
    for ref in refs:
        groups.setdefault(sets[ref.key], []).append(ref)
    _check_group_sizes(groups.values())
    return {ref.key: min(map(_person_name, group)) for group in groups.values() for ref in group}


def count_matches(refs: Sequence[PersonRef], crosswalk: Iterable[Sequence[str]]) -> int:
    """Return how many ids a crosswalk contains, by id or person.

    >>> count_matches([PersonRef("", "P1", "P1"), PersonRef("", "P2", "P2")], [("p1", "other")])
    1
    """
    cells = {_normalise_name(cell) for row in crosswalk for cell in row if cell}
    return sum(bool(_names(ref) & cells) for ref in refs)


def find_shared_voxels(
    hashes: Mapping[SubjectKey, Mapping[str, str]],
) -> list[tuple[SubjectKey, SubjectKey, tuple[str, ...]]]:
    """Find pairs of subjects that share at least one image, under any modality.

    Args:
        hashes: of voxels, by subject and modality (see :func:`~mgmt_ray.cohort.scan.voxel_hash`);
            that of an empty scan is ignored.

    Returns:
        (first, second, the second's modalities whose voxels the first has too), sorted.

    >>> find_shared_voxels({("", "P1"): {"T1": "ab"}, ("", "P2"): {"T2": "ab", "T1": "cd"}})
    [(('', 'P1'), ('', 'P2'), ('T2',))]
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
    refs: Iterable[PersonRef], others: Iterable[PersonRef]
) -> list[tuple[SubjectKey, SubjectKey]]:
    """Find pairs across two groups that share an id or a person's name, ignoring spelling.

    Two hospitals may use one id for two persons, so use these pairs only where treating two persons
    as one is harmless.

    >>> find_shared_names([PersonRef("", "p1", "p1")], [PersonRef("hospital", "P1", "P1")])
    [(('', 'p1'), ('hospital', 'P1'))]
    """
    by_name = _refs_by_name(others)
    return [
        (ref.key, other.key)
        for ref in refs
        for name in sorted(_names(ref))
        for other in by_name.get(name, [])
    ]


def _names(ref: PersonRef) -> set[str]:
    return {_normalise_name(ref.id), _normalise_name(ref.person)}


def _refs_by_name(refs: Iterable[PersonRef]) -> dict[str, list[PersonRef]]:
    by_name: dict[str, list[PersonRef]] = {}
    for ref in refs:
        for name in _names(ref):
            by_name.setdefault(name, []).append(ref)
    return by_name


def _person_node(ref: PersonRef) -> object:
    """Return the graph node that all ids of the person share."""
    if _is_global_name(ref):
        return "name", _normalise_name(ref.person)
    return "local", ref.cohort, ref.person


def _person_name(ref: PersonRef) -> str:
    """Return a name that is unique among the persons of all cohorts."""
    if _is_global_name(ref) or not ref.cohort:
        return ref.person
    return f"{ref.person} of {ref.cohort}"


def _is_global_name(ref: PersonRef) -> bool:
    return bool(public_person_name(ref.person)) or ref.person != ref.id


def _normalise_name(text: str) -> str:
    """Return one spelling for all equivalent names."""
    text = text.strip().removesuffix(".gz").removesuffix(".nii")
    return (public_person_name(text) or text).casefold()


def _could_be_id(cell: str) -> bool:
    has_letter, has_digit = any(map(str.isalpha, cell)), any(map(str.isdigit, cell))
    return has_letter and has_digit and not any(map(str.isspace, cell))


def _check_group_sizes(groups: Iterable[Sequence[PersonRef]]) -> None:
    for group in groups:
        if len({(ref.cohort, ref.person) for ref in group}) > MAX_SUBJECTS_PER_PERSON:
            examples = ", ".join(ref.id for ref in group[:5])
            raise MgmtError(
                f"cohort.crosswalk: {len(group)} subjects ({examples} ...) would be one person. "
                "Keep only columns of ids; a column of sites or scanners connects all subjects."
            )
