"""The same human being under several names: by a crosswalk, and by equal voxels.

Training cohort alone: ``same_persons(subjects, rows)``. Training and external cohort, so that
nobody is in both: ``same_persons((*training, *external), rows)``; the subjects come back in order.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TypeAlias

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.scan import EMPTY_HASH
from mgmt_ray.cohort.subject import Subject

Crosswalk: TypeAlias = tuple[tuple[str, ...], ...]
"""Rows of cells; all cells of a row that name subjects name one person."""


def read_crosswalk(path: Path) -> Crosswalk:
    """Read a CSV of ids (parted by commas, semicolons or tabs); it needs no names of columns.

    Raises:
        MgmtError: it cannot be read, or is no table.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MgmtError(
            f"{path}: crosswalk cannot be read ({reason}). Give a CSV (UTF-8) with the ids of one "
            "person in each row as cohort.crosswalk."
        ) from error
    return tuple(tuple(cell.strip() for cell in row) for row in rows)


def same_persons(
    subjects: Sequence[Subject], crosswalk: Iterable[Sequence[str]]
) -> tuple[Subject, ...]:
    """Give all subjects that are one person by a crosswalk the same ``person``.

    A cell counts where it is exactly an id or a person of a subject here; sites, dates and
    strangers' ids connect nobody. Rows that share a person are one person. An id that subjects of
    two cohorts have stands for both.

    Args:
        subjects: of one cohort, or of several.
        crosswalk: rows whose cells name one person.

    Returns:
        The subjects in their order; of the connected persons' names the first by spelling is taken.
    """
    named: dict[str, set[str]] = {}
    for subject in subjects:
        for name in (subject.id, subject.person):
            named.setdefault(name, set()).add(subject.person)
    parent = {subject.person: subject.person for subject in subjects}
    for row in crosswalk:
        persons = sorted({person for cell in row for person in named.get(cell, ())})
        for person in persons[1:]:
            first, second = sorted((_root(parent, persons[0]), _root(parent, person)))
            parent[second] = first
    return tuple(replace(s, person=_root(parent, s.person)) for s in subjects)


def _root(parent: dict[str, str], name: str) -> str:
    while parent[name] != name:
        parent[name] = parent[parent[name]]
        name = parent[name]
    return name


def by_voxels(
    hashes: Mapping[str, Mapping[str, str]],
) -> list[tuple[str, str, tuple[str, ...]]]:
    """Pairs of subjects that share at least one scan, under whatever modality.

    Args:
        hashes: by subject's id and modality, of the voxels (``scan.voxel_hash``); that of an empty
            scan never counts.

    Returns:
        (first id, second id, the second's modalities whose voxels the first has too), sorted.
    """
    owners: dict[str, dict[str, list[str]]] = {}
    for subject in sorted(hashes):
        for modality, voxels in sorted(hashes[subject].items()):
            if voxels != EMPTY_HASH:
                owners.setdefault(voxels, {}).setdefault(subject, []).append(modality)
    shared: dict[tuple[str, str], set[str]] = {}
    for by_subject in owners.values():
        for first, second in combinations(by_subject, 2):
            shared.setdefault((first, second), set()).update(by_subject[second])
    return [(*pair, tuple(sorted(modalities))) for pair, modalities in sorted(shared.items())]
