"""Writing the slice store: what has to be cut, and one process that writes what tasks return."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from mgmt_ray.base import MgmtError, fingerprint, folder_lock, write_json
from mgmt_ray.preprocess.axial_slices import SliceSource, SubjectSlices
from mgmt_ray.preprocess.recipe import SLICE_METHOD, SliceRecipe
from mgmt_ray.preprocess.slice_index import (
    FORMAT,
    SliceIndex,
    SliceRow,
    read_slice_index,
    slice_index_path,
    slice_path,
)
from mgmt_ray.preprocess.slice_store import read_row, slices_checksum, write_slices
from mgmt_ray.preprocess.volume_index import FileState, subject_file_state


@dataclass(frozen=True, slots=True)
class SliceTask:
    """One subject's slices of one modality, to be cut with ``make_slices``."""

    modality: str
    source: SliceSource


@dataclass(frozen=True, slots=True)
class WantedRow:
    """One subject of a modality, as the index will describe it.

    Attributes:
        key: fingerprint of scan, mask and recipe.
        image: state of the scan.
        mask: state of the mask; None without a mask.
        finished: description of the slices in place; None if they must be cut.
    """

    source: SliceSource
    key: str
    image: FileState
    mask: FileState | None
    finished: SliceRow | None


@dataclass(frozen=True, slots=True)
class ModalityPlan:
    """All subjects of a modality.

    Attributes:
        rows: one per subject, sorted by id.
        target: fingerprint of subjects and keys, that is of the index to be written.
    """

    modality: str
    rows: tuple[WantedRow, ...]
    target: str


@dataclass(frozen=True, slots=True)
class SliceStorePlan:
    """The work that brings a folder up to date with a cohort and a recipe.

    Attributes:
        sources: scans and masks by modality.
        modalities: those that are incomplete; empty if all is up to date.
    """

    folder: Path
    sources: Mapping[str, Sequence[SliceSource]]
    recipe: SliceRecipe
    modalities: tuple[ModalityPlan, ...]

    @property
    def tasks(self) -> tuple[SliceTask, ...]:
        """The slices to cut; may be empty though an index must be written."""
        return tuple(
            SliceTask(plan.modality, row.source)
            for plan in self.modalities
            for row in plan.rows
            if row.finished is None
        )


def plan_slice_store(
    folder: Path, sources: Mapping[str, Sequence[SliceSource]], recipe: SliceRecipe
) -> SliceStorePlan:
    """Compare a folder with what a study needs, without reading a scan or a slice.

    A subject's slices are kept if the recipe and the name, size and modification time of its scan
    and mask are unchanged. What an interrupted preparation finished is kept too.

    Args:
        folder: of the store; need not exist.
        sources: scans and masks by modality (see ``axial_slices.slice_sources``).
        recipe: how slices are cut.

    Raises:
        MgmtError: no subject has a modality, or a file of the cohort is missing.
    """
    plans = [
        _plan_modality(folder, modality, of_modality, recipe)
        for modality, of_modality in sources.items()
    ]
    return SliceStorePlan(folder, sources, recipe, tuple(p for p in plans if p is not None))


def _plan_modality(
    folder: Path, modality: str, sources: Sequence[SliceSource], recipe: SliceRecipe
) -> ModalityPlan | None:
    if not sources:
        raise MgmtError(
            f"cohort: no subject has {modality}. Drop it from cohort.modalities, or look at "
            "exclusions.csv for the reason."
        )
    ordered = sorted(sources, key=lambda source: source.id)
    rows = tuple(_plan_row(folder, modality, source, recipe) for source in ordered)
    target = fingerprint([FORMAT, modality, [[row.source.id, row.key] for row in rows]])
    index = read_slice_index(folder, modality)
    if index and index.target == target and all(row.finished for row in rows):
        return None
    return ModalityPlan(modality, rows, target)


def _plan_row(folder: Path, modality: str, source: SliceSource, recipe: SliceRecipe) -> WantedRow:
    image = subject_file_state(source.id, modality, source.image)
    mask = None if source.mask is None else subject_file_state(source.id, "mask", source.mask)
    files = [asdict(image), asdict(mask) if mask else None]
    key = fingerprint([FORMAT, SLICE_METHOD, recipe.model_dump(mode="json"), files])
    row = read_row(slice_path(folder, modality, source.id, key))
    return WantedRow(source, key, image, mask, row if row and row.key == key else None)


class SliceWriter:
    """Carries out a plan, as a context manager. The tasks' results may be put in any order.

    ::

        plan = plan_slice_store(folder, {"FLAIR": slice_sources(cohort, "FLAIR")}, recipe)
        with SliceWriter(plan) as writer:
            for task in plan.tasks:
                writer.put(task, make_slices(task.source, recipe))

    A modality's index is replaced as soon as its last subject is complete; until then the previous
    index stays valid, with its files. After an interruption the next plan keeps what was put.

    Raises:
        MgmtError: another process prepares slices here, the folder or the cohort's files changed
            since the plan, or the disk is full.
    """

    def __init__(self, plan: SliceStorePlan) -> None:
        self._plan = plan
        self._rows: dict[str, dict[str, SliceRow]] = {}
        self._cleanup = ExitStack()

    def __enter__(self) -> SliceWriter:
        plan = self._plan
        with self._cleanup:
            self._lock()
            if plan_slice_store(plan.folder, plan.sources, plan.recipe) != plan:
                raise MgmtError(
                    f"{plan.folder}: the store or the cohort's files changed since the work was "
                    "planned. Rerun the command."
                )
            for modality in plan.modalities:
                finished = (row.finished for row in modality.rows)
                self._rows[modality.modality] = {row.id: row for row in finished if row}
                self._commit_if_complete(modality)
            self._cleanup = self._cleanup.pop_all()
        return self

    def put(self, task: SliceTask, slices: SubjectSlices) -> None:
        """Write the result of ``make_slices`` for one of the plan's tasks.

        Raises:
            CannotWrite: the disk is full; what was put before stays.
        """
        modality = next(m for m in self._plan.modalities if m.modality == task.modality)
        wanted = next(row for row in modality.rows if row.source == task.source)
        assert slices.id == task.source.id, f"slices of {slices.id} for {task.source.id}"
        row = SliceRow(
            slices.id,
            wanted.key,
            slices_checksum(slices),
            tuple(slices.depths.tolist()),
            slices.frame,
            slices.annotated,
            wanted.image,
            wanted.mask,
        )
        path = slice_path(self._plan.folder, task.modality, row.id, row.key)
        write_slices(path, slices, row)
        self._rows[task.modality][row.id] = row
        self._commit_if_complete(modality)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()
        incomplete = [m.modality for m in self._plan.modalities if not self._is_complete(m)]
        if incomplete and error is None:
            raise MgmtError(
                f"{self._plan.folder}: subjects are missing in {', '.join(incomplete)}. Run "
                "`mgmt-ray prepare STUDY` again: what is finished is kept."
            )

    def _lock(self) -> None:
        folder = self._plan.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._cleanup.enter_context(folder_lock(folder / "preparing.lock"))
        except OSError as error:
            raise MgmtError(
                f"{folder}: cannot be written ({error.strerror or error}). Choose another folder "
                "with --out, or change its permissions, then rerun the command."
            ) from error

    def _is_complete(self, modality: ModalityPlan) -> bool:
        return len(self._rows.get(modality.modality, {})) == len(modality.rows)

    def _commit_if_complete(self, modality: ModalityPlan) -> None:
        """Put the index in place, then delete files of slices that are not in it."""
        if not self._is_complete(modality):
            return
        folder, name = self._plan.folder, modality.modality
        rows = tuple(self._rows[name][row.source.id] for row in modality.rows)
        recipe = self._plan.recipe.model_dump(mode="json")
        index = SliceIndex(name, rows, recipe, modality.target)
        write_json(slice_index_path(folder, name), index.to_json())
        kept = {slice_path(folder, name, row.id, row.key).name for row in rows}
        for file in (folder / name).iterdir():
            is_slices = re.search(r"-[0-9a-f]{12}\.npz(\.[0-9a-f]{8}\.aside)?$", file.name)
            if is_slices and file.name not in kept:
                file.unlink()
