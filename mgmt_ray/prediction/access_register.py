"""A register of test-set accesses that studies in several folders share."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgmt_ray.base import CannotWrite, FolderLocked, MgmtError, folder_lock

WAIT_SECONDS = 30.0
"""For another process that writes to the register; it holds the lock for milliseconds."""

_KEYS = {"time": str, "folder": str, "data_set": str, "subjects": list}


@dataclass(frozen=True, slots=True)
class AccessRegister:
    """A file of one JSON line per access, to which lines are only appended.

    Attributes:
        path: of the file; its folder must exist.
        data_set: name of the data set that the subjects are of; ids are compared within it.
        subjects: that are accessed.
    """

    path: Path
    data_set: str
    subjects: tuple[str, ...]

    def append(self, folder: Path, entry: Mapping[str, Any], own_times: set[str]) -> int:
        """Append an access, and count the earlier ones to any of the same subjects.

        The line is on disk when this returns.

        Args:
            folder: of the study that accesses them.
            entry: of its own access log, with its ``time``.
            own_times: of the entries that its own log has; these are not counted.

        Raises:
            MgmtError: the register cannot be read or written, or another process holds its lock.
        """
        own = str(folder.absolute())
        line = {**entry, "folder": own, "data_set": self.data_set, "subjects": [*self.subjects]}
        with self._lock():
            earlier = self._read()
            self._write(json.dumps(line))
        return sum(
            e["data_set"] == self.data_set
            and not {*self.subjects}.isdisjoint(e["subjects"])
            and not (e["folder"] == own and e["time"] in own_times)
            for e in earlier
        )

    @contextmanager
    def _lock(self) -> Iterator[None]:
        lock = self.path.with_name(f"{self.path.name}.lock")
        end = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                with folder_lock(lock):
                    yield
                return
            except FolderLocked as error:
                if time.monotonic() > end:
                    raise MgmtError(
                        f"test_register: {self.path}: another process has held {lock} for "
                        f"{WAIT_SECONDS:g} s. If it is gone, delete that file; then rerun."
                    ) from error
                time.sleep(0.05)
            except (CannotWrite, OSError) as error:
                cause = error.__cause__ or error
                assert isinstance(cause, OSError)
                raise self._cannot_write(cause) from error

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        entries = []
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                if not all(isinstance(entry[key], kind) for key, kind in _KEYS.items()):
                    raise ValueError("has a value of another type")
            except KeyError as error:
                raise self._damaged(number, f"has no {error.args[0]}") from error
            except (ValueError, TypeError) as error:
                raise self._damaged(number, str(error)) from error
            entries.append(entry)
        return entries

    def _write(self, line: str) -> None:
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
            with self.path.open("a", encoding="utf-8") as file:
                # a last line without an end would join this one
                file.write(("\n" if content and not content.endswith(b"\n") else "") + line + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._cannot_write(error) from error

    def _damaged(self, number: int, fault: str) -> MgmtError:
        return MgmtError(
            f"test_register: {self.path}, line {number}: is no access ({fault}). Restore the line, "
            "or name another register; nothing was opened."
        )

    def _cannot_write(self, error: OSError) -> CannotWrite:
        return CannotWrite(
            f"test_register: {self.path}: cannot be written ({error.strerror}). Create its folder, "
            "or name another file; nothing was opened."
        )
