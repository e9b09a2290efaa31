"""The plan of a preparation: which volumes have to be made, and which are reused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mgmt_ray.base import MgmtError, fingerprint
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.preprocess.recipe import RecipeConfig, version_key, versions
from mgmt_ray.preprocess.volume_index import (
    FORMAT,
    FileState,
    Row,
    array_path,
    journal_path,
    num_bytes,
    partial_path,
    read_index,
    subject_file_state,
)


@dataclass(frozen=True, slots=True)
class ReusableVolume:
    """A finished volume that is copied.

    Attributes:
        array: the file that holds it, finished or under construction.
        row: of its subject in that file.
        version: index along the row's versions.
    """

    array: Path
    row: Row
    version: int


@dataclass(frozen=True, slots=True)
class RowPlan:
    """One subject in an array to be written; per version the volume to copy, or None to make it."""

    id: str
    keys: tuple[str, ...]
    reused: tuple[ReusableVolume | None, ...]
    image: FileState
    mask: FileState


@dataclass(frozen=True, slots=True)
class ArrayPlan:
    """An array to be written, because the one in place is missing or differs.

    Attributes:
        versions: names along the second axis.
        volume_shape: depth, height, width.
        rows: sorted by subject.
        target: fingerprint of subjects, versions and keys, that is of the array to be written.
    """

    modality: str
    versions: tuple[str, ...]
    volume_shape: tuple[int, int, int]
    rows: tuple[RowPlan, ...]
    target: str

    @property
    def shape(self) -> tuple[int, ...]:
        """[subject, version, depth, height, width]."""
        return (len(self.rows), len(self.versions), *self.volume_shape)


@dataclass(frozen=True, slots=True)
class SubjectTask:
    """The volumes to make for one subject: names of versions by modality, for ``make_volumes``."""

    subject: Subject
    wanted: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class StorePlan:
    """The work that brings a folder up to date with a cohort and a recipe.

    Attributes:
        modalities: all of the study.
        arrays: those that must be written; empty if all is up to date.
    """

    folder: Path
    cohort: Cohort
    modalities: tuple[str, ...]
    recipe: RecipeConfig
    arrays: tuple[ArrayPlan, ...]

    @property
    def tasks(self) -> tuple[SubjectTask, ...]:
        """Subjects with volumes to make, by id; may be empty though arrays must be written."""
        wanted: dict[str, dict[str, tuple[str, ...]]] = {}
        for array in self.arrays:
            for row in array.rows:
                pairs = zip(array.versions, row.reused, strict=True)
                missing = tuple(version for version, reused in pairs if reused is None)
                if missing:
                    wanted.setdefault(row.id, {})[array.modality] = missing
        return tuple(SubjectTask(s, wanted[s.id]) for s in self.cohort.subjects if s.id in wanted)


def plan_store(
    folder: Path, cohort: Cohort, modalities: Sequence[str], recipe: RecipeConfig
) -> StorePlan:
    """Compare a folder with what a study needs, without reading a scan or an array.

    A volume is reused if the parts of the recipe that concern it and the name, size and
    modification time of its scan and mask are unchanged. What an interrupted preparation finished
    is reused too.

    Raises:
        MgmtError: no subject has a modality, or a file of the cohort is missing.
    """
    plans = (_plan_array(folder, cohort, modality, recipe) for modality in modalities)
    arrays = tuple(plan for plan in plans if plan is not None)
    return StorePlan(folder, cohort, tuple(modalities), recipe, arrays)


def read_journal(path: Path) -> dict[str, Row]:
    """Read the finished rows of an array under construction, by subject.

    If the last line is incomplete, its row is made again.
    """
    rows: dict[str, Row] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = Row.from_json(json.loads(line))
        except (ValueError, KeyError, TypeError):
            break
        rows[row.id] = row
    return rows


def _plan_array(
    folder: Path, cohort: Cohort, modality: str, recipe: RecipeConfig
) -> ArrayPlan | None:
    subjects = [subject for subject in cohort.subjects if modality in subject.scans]
    if not subjects:
        raise MgmtError(
            f"cohort: no subject has {modality}. Drop it from cohort.modalities, or look at "
            "exclusions.csv for the reason."
        )
    names = versions(recipe)
    wanted = [_key_row(subject, modality, recipe) for subject in subjects]
    content = [[row.id, row.keys] for row in wanted]
    target = fingerprint([FORMAT, modality, names, recipe.shape, content])
    plan = ArrayPlan(modality, names, recipe.shape, tuple(wanted), target)
    reusable = list(_reusable_arrays(folder, plan))
    rows = tuple(_plan_reuse(row, reusable, recipe) for row in wanted)
    in_place = array_path(folder, modality)
    index = read_index(folder, modality)
    if (
        index
        and index.target == target
        and all(volume and volume.array == in_place for row in rows for volume in row.reused)
    ):
        return None
    return ArrayPlan(modality, names, recipe.shape, rows, target)


def _key_row(subject: Subject, modality: str, recipe: RecipeConfig) -> RowPlan:
    image = subject_file_state(subject.id, modality, subject.scans[modality])
    mask = subject_file_state(subject.id, "mask", subject.required_mask)
    files = [asdict(image), asdict(mask)]
    keys = tuple(
        fingerprint([version_key(recipe, version, modality), files]) for version in versions(recipe)
    )
    return RowPlan(subject.id, keys, (None,) * len(keys), image, mask)


def _reusable_arrays(folder: Path, plan: ArrayPlan) -> Iterator[tuple[Path, Mapping[str, Row]]]:
    """Yield arrays to copy from: the same one, unfinished; the one in place; other unfinished."""
    same = journal_path(folder, plan.modality, plan.target)
    others = set(folder.glob(f"{plan.modality}-{'[0-9a-f]' * 12}.jsonl")) - {same}
    index = read_index(folder, plan.modality)
    in_place = array_path(folder, plan.modality)
    yield from _unfinished(folder, plan.modality, [same])
    if index and _has_size(in_place, num_bytes(index.shape)):
        yield in_place, {row.id: row for row in index.rows}
    yield from _unfinished(folder, plan.modality, sorted(others))


def _unfinished(
    folder: Path, modality: str, journals: Sequence[Path]
) -> Iterator[tuple[Path, Mapping[str, Row]]]:
    for journal in journals:
        array = partial_path(folder, modality, journal.stem[-12:])
        if array.exists() and journal.exists():
            yield array, read_journal(journal)


def _has_size(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size == size


def _plan_reuse(
    row: RowPlan, reusable: Sequence[tuple[Path, Mapping[str, Row]]], recipe: RecipeConfig
) -> RowPlan:
    volumes = tuple(_find_reusable(row.id, key, reusable, recipe) for key in row.keys)
    return RowPlan(row.id, row.keys, volumes, row.image, row.mask)


def _find_reusable(
    subject_id: str,
    key: str,
    reusable: Sequence[tuple[Path, Mapping[str, Row]]],
    recipe: RecipeConfig,
) -> ReusableVolume | None:
    for array, rows in reusable:
        row = rows.get(subject_id)
        if row is None or key not in row.keys:
            continue
        version = row.keys.index(key)
        if recipe.allow_clipping or not row.parameters[version]["clipped_voxels"]:
            return ReusableVolume(array, row, version)
    return None
