"""Writing the volume store: one process puts what tasks elsewhere have made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType

from mgmt_ray.base import MgmtError, folder_lock
from mgmt_ray.preprocess.partial import PartialArray, settle
from mgmt_ray.preprocess.volume_index import num_bytes
from mgmt_ray.preprocess.volume_store_plan import StorePlan, plan_store
from mgmt_ray.preprocess.volumes import Made


class StoreWriter:
    """Carries out a plan. Use as a context; put every task's result, in any order.

    ::

        plan = plan_store(folder, cohort, modalities, recipe)
        with StoreWriter(plan) as writer:
            for task in plan.tasks:
                writer.put(task.subject.id, make_volumes(task.subject, task.wanted, recipe))

    A modality's array takes its place as soon as its last row is there; until then the one before
    stays valid. Whatever interrupts, the next plan finds the rows that were put.

    Raises:
        MgmtError: another process prepares volumes here, the folder or the cohort's files changed
            since the plan, or the disk is full.
    """

    def __init__(self, plan: StorePlan) -> None:
        self._plan = plan
        self._arrays: dict[str, PartialArray] = {}
        self._cleanup = ExitStack()

    def __enter__(self) -> StoreWriter:
        plan = self._plan
        with self._cleanup, self._clear_errors():
            plan.folder.mkdir(parents=True, exist_ok=True)
            self._cleanup.enter_context(folder_lock(plan.folder / "preparing.lock"))
            if plan_store(plan.folder, plan.cohort, plan.modalities, plan.recipe) != plan:
                raise MgmtError(
                    f"{plan.folder}: the store or the cohort's files changed since the work was "
                    "planned. Repeat the command."
                )
            for modality in plan.modalities:
                settle(plan.folder, modality)
            recipe = plan.recipe.model_dump(mode="json")
            for array in plan.arrays:
                partial = PartialArray(plan.folder, array, recipe)
                self._cleanup.callback(partial.close)
                self._arrays[array.modality] = partial
            self._copy_rows()
            self._cleanup = self._cleanup.pop_all()
        return self

    def put(self, subject_id: str, made: Mapping[str, Made]) -> None:
        """Write what :func:`make_volumes` gave for one of the plan's tasks.

        Raises:
            MgmtError: the disk is full, or a volume to be copied is damaged; what was put stays.
        """
        with self._clear_errors():
            for modality, volumes in made.items():
                self._arrays[modality].put(subject_id, volumes)
                if self._arrays[modality].is_complete:
                    self._arrays[modality].commit()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()
        lacking = [name for name, array in self._arrays.items() if not array.is_complete]
        if lacking and error is None:
            raise MgmtError(
                f"{self._plan.folder}: {', '.join(lacking)} still lack subjects. Run "
                "`mgmt-ray prepare STUDY` again: what is finished is kept."
            )

    def _copy_rows(self) -> None:
        for array in self._plan.arrays:
            partial = self._arrays[array.modality]
            for row in array.rows:
                if row.id not in partial and None not in row.slots:
                    partial.put(row.id, None)
            if partial.is_complete:
                partial.commit()

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            needed = sum(num_bytes(array.shape) for array in self._plan.arrays) / 1e6
            raise MgmtError(
                f"{self._plan.folder}: cannot be written ({error.strerror or error}). The volumes "
                f"need {needed:,.0f} MB there beside those in place. Free some space or choose "
                "another folder with --out, then repeat the command: what is finished is kept."
            ) from error
