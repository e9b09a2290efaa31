"""Writing the volume store: one process writes what tasks return."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from mgmt_ray.base import MgmtError, folder_lock, write_json, write_text
from mgmt_ray.preprocess.volume_index import (
    DTYPE,
    Index,
    Row,
    array_header,
    array_path,
    index_path,
    journal_path,
    next_index_path,
    num_bytes,
    partial_path,
    row_checksum,
)
from mgmt_ray.preprocess.volume_store_plan import (
    ArrayPlan,
    ReusableVolume,
    RowPlan,
    StorePlan,
    plan_store,
)
from mgmt_ray.preprocess.volumes import SubjectVolumes


class PartialArray:
    """One modality's array while it is written, under the lock of :class:`StoreWriter`.

    It starts with the rows that an interrupted preparation of the same target finished.
    """

    def __init__(self, folder: Path, plan: ArrayPlan, recipe: Mapping[str, Any]) -> None:
        self._folder, self._plan, self._recipe = folder, plan, recipe
        self._path = partial_path(folder, plan.modality, plan.target)
        self._journal_path = journal_path(folder, plan.modality, plan.target)
        self._positions = {row.id: position for position, row in enumerate(plan.rows)}
        self._rows = {
            row.id: volume.row
            for row in plan.rows
            if (volume := row.reused[0]) is not None and volume.array == self._path
        }
        self._header = array_header(plan.shape)
        self._row_bytes = int(np.prod(plan.shape[1:])) * DTYPE.itemsize
        self._file = self._open_array()
        # rewritten, since an incomplete line would spoil the next one
        write_text(self._journal_path, "".join(map(_journal_line, self._rows.values())))
        # unbuffered: what did not fit on a full disk must not be written again when closing
        self._journal = self._journal_path.open("ab", buffering=0)

    def __contains__(self, subject_id: str) -> bool:
        return subject_id in self._rows

    @property
    def is_complete(self) -> bool:
        """Whether every row is written."""
        return len(self._rows) == len(self._plan.rows)

    def put(self, subject_id: str, made: SubjectVolumes | None) -> None:
        """Write one subject's row: its new volumes, and copies of the reusable ones.

        Args:
            subject_id: of a row that is not written yet.
            made: the versions that the plan does not reuse, in the plan's order; None if it reuses
                all.

        Raises:
            MgmtError: a volume to be copied is damaged.
            OSError: the disk is full or failed; the rows before stay.
        """
        assert subject_id not in self._rows, f"{subject_id} is written already"
        plan = self._plan.rows[self._positions[subject_id]]
        volumes, parameters = self._compose(plan, made)
        position = self._positions[subject_id]
        row = Row(
            plan.id,
            position,
            plan.keys,
            tuple(parameters),
            row_checksum(volumes),
            plan.image,
            plan.mask,
        )
        _write_at(self._file, volumes, len(self._header) + position * self._row_bytes)
        os.fsync(self._file)
        line = _journal_line(row).encode()
        while line:
            line = line[self._journal.write(line) :]
        os.fsync(self._journal.fileno())
        self._rows[subject_id] = row

    def commit(self) -> None:
        """Replace the previous array by the complete one, and delete leftovers."""
        assert self.is_complete
        folder, modality = self._folder, self._plan.modality
        rows = tuple(self._rows[row.id] for row in self._plan.rows)
        plan = self._plan
        index = Index(modality, plan.versions, plan.volume_shape, rows, self._recipe, plan.target)
        self.close()
        write_json(next_index_path(folder, modality), index.to_json())
        os.replace(self._path, array_path(folder, modality))
        _sync(folder)
        finish_commit(folder, modality)
        for pattern in (".npy.partial", ".jsonl"):
            for leftover in folder.glob(f"{modality}-{'[0-9a-f]' * 12}{pattern}"):
                leftover.unlink()

    def close(self) -> None:
        """Close the files; rows stay for the next preparation. Closing twice is harmless."""
        if not self._journal.closed:
            self._journal.close()
            os.close(self._file)

    def _open_array(self) -> int:
        size = num_bytes(self._plan.shape)
        if not self._rows:
            self._path.unlink(missing_ok=True)
        elif self._path.stat().st_size != size:
            raise MgmtError(
                f"{self._path}: not as the interrupted preparation left it. Delete it and run "
                "`mgmt-ray prepare STUDY` again."
            )
        file = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            _reserve(file, size)
            _write_at(file, np.frombuffer(self._header, np.uint8), 0)
        except OSError:
            os.close(file)
            if not self._rows:
                self._path.unlink()
            raise
        return file

    def _compose(
        self, plan: RowPlan, made: SubjectVolumes | None
    ) -> tuple[np.ndarray, list[Mapping[str, float | int]]]:
        volumes = np.empty(self._plan.shape[1:], DTYPE)
        parameters: list[Mapping[str, float | int]] = []
        new = iter(zip(*made, strict=True)) if made is not None else iter(())
        copies: dict[Path, np.ndarray] = {}
        for target, reused in zip(volumes, plan.reused, strict=True):
            if reused is None:
                volume, drawn = next(new)
                assert volume.shape == target.shape and volume.dtype == DTYPE
                target[:] = volume
                parameters.append(drawn)
            else:
                if reused.array not in copies:
                    copies[reused.array] = _load_checked_row(reused)
                target[:] = copies[reused.array][reused.version]
                parameters.append(reused.row.parameters[reused.version])
        assert next(new, None) is None, f"{plan.id}: more volumes than planned"
        return volumes, parameters


def finish_commit(folder: Path, modality: str) -> None:
    """Finish a commit that was interrupted, or undo it if the array was not renamed yet."""
    next_index = next_index_path(folder, modality)
    if not next_index.exists():
        return
    target = json.loads(next_index.read_text(encoding="utf-8"))["target"]
    if partial_path(folder, modality, target).exists():
        next_index.unlink()
    else:
        os.replace(next_index, index_path(folder, modality))
    _sync(folder)


def _load_checked_row(volume: ReusableVolume) -> np.ndarray:
    row: np.ndarray = np.load(volume.array, mmap_mode="r")[volume.row.position]
    if row_checksum(row) != volume.row.checksum:
        raise MgmtError(
            f"{volume.array}: the volumes of {volume.row.id} are not what was written. Delete the "
            "file and run `mgmt-ray prepare STUDY` again; check the disk."
        )
    return row


def _journal_line(row: Row) -> str:
    return json.dumps(asdict(row), allow_nan=False) + "\n"


def _reserve(file: int, size: int) -> None:
    """Reserve the space now: a full disk is better noticed before hours of work than after."""
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        os.ftruncate(file, size)  # this file system cannot reserve space


def _write_at(file: int, data: np.ndarray, offset: int) -> None:
    rest = np.ascontiguousarray(data).data.cast("B")
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written


def _sync(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class StoreWriter:
    """Carries out a plan, as a context manager. The tasks' results may be put in any order.

    ::

        plan = plan_store(folder, cohort, modalities, recipe)
        with StoreWriter(plan) as writer:
            for task in plan.tasks:
                writer.put(task.subject.id, make_volumes(task.subject, task.wanted, recipe))

    A modality's array is replaced as soon as its last row is complete; until then the previous
    array stays valid. After an interruption the next plan keeps the rows that were put.

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
                    "planned. Rerun the command."
                )
            for modality in plan.modalities:
                finish_commit(plan.folder, modality)
            recipe = plan.recipe.model_dump(mode="json")
            for array in plan.arrays:
                partial = PartialArray(plan.folder, array, recipe)
                self._cleanup.callback(partial.close)
                self._arrays[array.modality] = partial
            self._copy_rows()
            self._cleanup = self._cleanup.pop_all()
        return self

    def put(self, subject_id: str, made: Mapping[str, SubjectVolumes]) -> None:
        """Write the result of :func:`make_volumes` for one of the plan's tasks.

        Raises:
            MgmtError: the disk is full, or a volume to be copied is damaged; what was put before
                stays.
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
        incomplete = [name for name, array in self._arrays.items() if not array.is_complete]
        if incomplete and error is None:
            raise MgmtError(
                f"{self._plan.folder}: subjects are missing in {', '.join(incomplete)}. Run "
                "`mgmt-ray prepare STUDY` again: what is finished is kept."
            )

    def _copy_rows(self) -> None:
        for array in self._plan.arrays:
            partial = self._arrays[array.modality]
            for row in array.rows:
                if row.id not in partial and None not in row.reused:
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
                f"need {needed:,.0f} MB there in addition to those in place. Free some space or "
                "choose another folder with --out, then rerun the command: what is finished is "
                "kept."
            ) from error
