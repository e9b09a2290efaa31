"""Bringing an artefact store up to date: tasks make what is missing, this process writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Generic, TypeVar

from mgmt_ray.base import CannotWrite, MgmtError, first_line, folder_lock
from mgmt_ray.cluster.parallel_map import parallel_map
from mgmt_ray.cluster.progress import ProgressCallback
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.preprocess.artefact_store import (
    SAFETENSORS,
    Artefact,
    FileFormat,
    Wanted,
    artefact_path,
    list_artefacts,
    read_index,
    write_index,
)

LOCK = "preparing.lock"

Source = TypeVar("Source")


class UnusableFiles(MgmtError):
    """Files of some subjects cannot be used; the other subjects are prepared.

    Attributes:
        faults: message by subject id.
    """

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__("\n".join(f"subject {name}: {fault}" for name, fault in faults.items()))
        self.faults = dict(faults)


def each_alone(pending: Sequence[Wanted[Source]]) -> list[list[Wanted[Source]]]:
    """Return a task for each artefact."""
    return [[item] for item in pending]


@dataclass(frozen=True, slots=True)
class Maker(Generic[Source]):
    """How a kind of artefact is made and kept.

    Attributes:
        make: importable function of a task and ``shared``; returns for each item of the task the
            artefact, or what is wrong with the subject's files. An MgmtError that it raises holds
            for all items, and so does any other error of a task for a single subject.
        shared: configuration that all tasks have in common.
        batch: divides what is missing into tasks.
        is_valid: whether an artefact with this description may be kept.
        cpus: CPU cores of a task.
        gpus: GPUs of a task; may be a fraction.
    """

    make: Callable[[Sequence[Wanted[Source]], Any], Sequence[Artefact | MgmtError]]
    shared: Any
    batch: Callable[[Sequence[Wanted[Source]]], list[list[Wanted[Source]]]] = each_alone
    is_valid: Callable[[Mapping[str, Any]], bool] = bool
    file_format: FileFormat = SAFETENSORS
    cpus: float = 1
    gpus: float = 0


@dataclass(frozen=True, slots=True)
class Update:
    """The result of bringing a store up to date.

    Attributes:
        entries: what the store holds, by part and subject: descriptions with the ``file``'s name.
        faults: what is wrong with the files of the other subjects, by part and subject.
        num_made: subjects, once per task, whose artefacts were missing or outdated.
    """

    entries: Mapping[tuple[str, str], Mapping[str, Any]]
    faults: Mapping[tuple[str, str], MgmtError]
    num_made: int

    def check_faults(self) -> None:
        """Raise UnusableFiles if the files of any subject cannot be used."""
        if self.faults:
            raise UnusableFiles({subject: str(e) for (_, subject), e in self.faults.items()})


def bring_up_to_date(
    folder: Path,
    items: Mapping[str, Sequence[Wanted[Source]]],
    maker: Maker[Source],
    about: Mapping[str, Any],
    resources: Resources,
    progress: ProgressCallback,
) -> Update:
    """Make the artefacts of a store that are missing or outdated, and delete those not wanted.

    Each artefact is written as soon as it is made, so that after an interruption the rest is made.
    A part without faults gets its index at the end; until then the previous one stays valid.

    Args:
        folder: of the store; need not exist.
        items: all artefacts of each part that is brought up to date; a part that has none is
            emptied.
        maker: makes what is missing.
        about: values of the indexes that hold for the parts as a whole.
        resources: backend of the tasks.
        progress: receives the number of subjects done and their total, if any are missing.

    Raises:
        FolderLocked: another process prepares artefacts here.
        CannotWrite: the disk is full; what was written stays.
    """
    entries = _find_entries(folder, items, maker)
    if _is_current(folder, items, entries, about):
        return Update(entries, {}, 0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(
            f"{folder}: cannot be written ({error.strerror}). Choose another folder with --out, or "
            "change its permissions, then rerun the command."
        ) from error
    with folder_lock(folder / LOCK):
        entries = _find_entries(folder, items, maker)  # another process may have made some
        pending = [i for i in chain(*items.values()) if (i.part, i.subject) not in entries]
        tasks = maker.batch(pending)
        faults: dict[tuple[str, str], MgmtError] = {}
        num_done, num_total = 0, sum(map(_num_subjects, tasks))
        for task, results in parallel_map(
            _make_task, tasks, maker, resources, maker.cpus, maker.gpus
        ):
            for item, result in zip(task, results, strict=True):
                if isinstance(result, MgmtError):
                    faults[item.part, item.subject] = result
                else:
                    path = _path(folder, item, maker)
                    maker.file_format.write(path, result)
                    entries[item.part, item.subject] = {**result.description, "file": path.name}
            num_done += _num_subjects(task)
            progress(num_done, num_total)
        for part, wanted in items.items():
            of_part = _entries_of(wanted, entries)
            if of_part or (of_part == {} and read_index(folder, part)):
                write_index(folder, part, about, of_part)
    return Update(entries, faults, num_total)


def _make_task(
    task: Sequence[Wanted[Source]], maker: Maker[Source]
) -> Sequence[Artefact | MgmtError]:
    try:
        return maker.make(task, maker.shared)
    except MgmtError as error:
        return [error] * len(task)
    except Exception as error:
        if _num_subjects(task) > 1 or isinstance(error, MemoryError):
            raise  # no single subject's files can be at fault
        fault = MgmtError(
            f"its files cannot be used ({type(error).__name__}: {first_line(error)}). Look at them "
            "in a viewer, and replace them."
        )
        return [fault] * len(task)


def _num_subjects(task: Sequence[Wanted[Source]]) -> int:
    return len({item.subject for item in task})


def _find_entries(
    folder: Path, items: Mapping[str, Sequence[Wanted[Source]]], maker: Maker[Source]
) -> dict[tuple[str, str], Mapping[str, Any]]:
    entries: dict[tuple[str, str], Mapping[str, Any]] = {}
    for item in chain(*items.values()):
        path = _path(folder, item, maker)
        description = maker.file_format.describe(path)
        if description is not None and maker.is_valid(description):
            entries[item.part, item.subject] = {**description, "file": path.name}
    return entries


def _is_current(
    folder: Path,
    items: Mapping[str, Sequence[Wanted[Source]]],
    entries: Mapping[tuple[str, str], Mapping[str, Any]],
    about: Mapping[str, Any],
) -> bool:
    """Whether all indexes are as they should be, and nothing is left over from an interruption."""
    for part, wanted in items.items():
        index = read_index(folder, part) or {**about, "subjects": {}}
        if index != {**about, "subjects": _entries_of(wanted, entries)}:
            return False
        if sum(map(len, list_artefacts(folder, part).values())) > len(wanted):
            return False
    return not (folder / LOCK).exists()


def _entries_of(
    wanted: Sequence[Wanted[Source]], entries: Mapping[tuple[str, str], Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]] | None:
    """Return a part's entries by subject, sorted; None if the part is incomplete."""
    if any((item.part, item.subject) not in entries for item in wanted):
        return None
    ordered = sorted(wanted, key=lambda item: item.subject)
    return {item.subject: entries[item.part, item.subject] for item in ordered}


def _path(folder: Path, item: Wanted[Source], maker: Maker[Source]) -> Path:
    return artefact_path(folder, item.part, item.subject, item.key, maker.file_format.suffix)
