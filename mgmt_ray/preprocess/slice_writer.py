"""Writing the slice store: one process puts what tasks elsewhere have made."""

from __future__ import annotations

import re
from contextlib import ExitStack
from types import TracebackType

from mgmt_ray.base import MgmtError, folder_lock, write_json
from mgmt_ray.preprocess.axial_slices import SubjectSlices
from mgmt_ray.preprocess.slice_index import SliceIndex, SliceRow, slice_index_path, slice_path
from mgmt_ray.preprocess.slice_store import slices_checksum, write_slices
from mgmt_ray.preprocess.slice_store_plan import (
    ModalityPlan,
    SliceStorePlan,
    SliceTask,
    plan_slice_store,
)


class SliceWriter:
    """Carries out a plan. Use as a context; put every task's result, in any order.

    ::

        plan = plan_slice_store(folder, {"FLAIR": slice_sources(cohort, "FLAIR")}, recipe)
        with SliceWriter(plan) as writer:
            for task in plan.tasks:
                writer.put(task, make_slices(task.source, recipe))

    A modality's index takes its place as soon as its last subject is there; until then the one
    before stays valid, with its files. Whatever interrupts, the next plan finds what was put.

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
                    "planned. Repeat the command."
                )
            for modality in plan.modalities:
                finished = (row.finished for row in modality.rows)
                self._rows[modality.modality] = {row.id: row for row in finished if row}
                self._commit_if_complete(modality)
            self._cleanup = self._cleanup.pop_all()
        return self

    def put(self, task: SliceTask, slices: SubjectSlices) -> None:
        """Write what ``make_slices`` gave for one of the plan's tasks.

        Raises:
            CannotWrite: the disk is full; what was put stays.
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
        lacking = [m.modality for m in self._plan.modalities if not self._is_complete(m)]
        if lacking and error is None:
            raise MgmtError(
                f"{self._plan.folder}: {', '.join(lacking)} still lack subjects. Run "
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
                "with --out, or mend its permissions, then repeat the command."
            ) from error

    def _is_complete(self, modality: ModalityPlan) -> bool:
        return len(self._rows.get(modality.modality, {})) == len(modality.rows)

    def _commit_if_complete(self, modality: ModalityPlan) -> None:
        """Put the index in place, then delete the files that it does not name."""
        if not self._is_complete(modality):
            return
        folder, name = self._plan.folder, modality.modality
        rows = tuple(self._rows[name][row.source.id] for row in modality.rows)
        recipe = self._plan.recipe.model_dump(mode="json")
        index = SliceIndex(name, rows, recipe, modality.target)
        write_json(slice_index_path(folder, name), index.to_json())
        kept = {slice_path(folder, name, row.id, row.key).name for row in rows}
        for file in (folder / name).iterdir():
            ours = re.search(r"-[0-9a-f]{12}\.npz(\.[0-9a-f]{8}\.aside)?$", file.name)
            if ours and file.name not in kept:
                file.unlink()
