"""What every room stands on: errors, configs, seed streams, fingerprints, safe writing, locks."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo


class MgmtError(Exception):
    """A fault that its reader can mend: one line that says what, where and what to do next.

    The command line prints it without a traceback and leaves with exit code 2.
    """

    def __reduce__(self) -> tuple[Callable[..., MgmtError], tuple[type[MgmtError], str]]:
        """Pickle the message alone: kinds of errors differ in what they are made from."""
        return _rebuild_error, (type(self), str(self))


def _rebuild_error(kind: type[MgmtError], message: str) -> MgmtError:
    error = kind.__new__(kind, message)
    error.args = (message,)
    return error


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind when it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class CannotWrite(MgmtError):
    """A file could not be written: disk full, no permission."""


class Config(BaseModel):
    """Base of every configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _resolve_relative(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder")
    return (folder / path.expanduser()).absolute() if folder else path


InputPath: TypeAlias = Annotated[Path, AfterValidator(_resolve_relative)]
"""A file or folder that a configuration names, relative to the folder of the configuration."""

C = TypeVar("C", bound=Config)


def parse(config: type[C], content: Mapping[str, Any], where: str, folder: Path | None = None) -> C:
    """Check what a user gave and make a configuration of it.

    Args:
        config: the kind of configuration.
        content: values by key.
        where: file or command, for the error.
        folder: what :data:`InputPath` values are relative to; None leaves them as they are.

    Raises:
        MgmtError: unknown keys or wrong values, all at once, each with the path of its key.
    """
    try:
        return config.model_validate(content, context={"folder": folder})
    except ValidationError as error:
        faults = "; ".join(_describe_fault(detail, content) for detail in error.errors())
        raise MgmtError(f"{where}: {faults}") from error


def _describe_fault(detail: Any, content: Mapping[str, Any]) -> str:
    path = ".".join(_key_path(detail["loc"], content))
    if detail["type"] == "extra_forbidden":
        return f"{path}: unknown key, remove it or mend its spelling"
    if detail["type"].startswith("union_tag"):
        key = detail["ctx"]["discriminator"].strip("'")
        known = detail["ctx"].get("expected_tags", "")
        found = f"is none of {known}" if known else "is missing; name one, like table"
        return f"{path}.{key}: {found}"
    message = detail["msg"].removeprefix("Value error, ")
    given = f" (found {detail['input']!r})" if not isinstance(detail["input"], dict) else ""
    return f"{path}: {message}{given}" if path else message


def _key_path(place: Sequence[str | int], content: Any) -> list[str]:
    """The keys of a place in what was given, without the names of alternatives between them."""
    keys = []
    for i, part in enumerate(place):
        if isinstance(content, Mapping) and part not in content and i < len(place) - 1:
            continue
        keys.append(str(part))
        inside = content.get(part) if isinstance(content, Mapping) else None
        if isinstance(content, list | tuple) and isinstance(part, int):
            content = content[part] if part < len(content) else None  # one that is missing
        else:
            content = inside
    return keys


def fingerprint(value: Any) -> str:
    """SHA-256 (hexadecimal) of a JSON-like value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_checksum(path: Path) -> str:
    """SHA-256 (hexadecimal) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stream_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one named purpose; streams of different names are independent.

    Args:
        seed: the study's (or split's, or store's) seed.
        purpose: the names that tell this stream from all others, for instance a trial and "noise".
    """
    digest = hashlib.sha256(json.dumps([seed, *purpose]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """A NumPy generator for one named purpose (see :func:`stream_seed`)."""
    return np.random.default_rng(stream_seed(seed, *purpose))


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file completely or not at all, whatever interrupts it.

    Args:
        path: where the file shall be; its folder is made.
        write: fills the temporary file that it is given, in the same folder.

    Raises:
        CannotWrite: the disk is full or forbidden; an earlier file stays.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.aside")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(aside)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        raise CannotWrite(
            f"{path}: cannot be written ({error.strerror or error}). Free some space or choose "
            "another folder with --out, then repeat the command: what is finished is kept."
        ) from error
    finally:
        with suppress(OSError):
            aside.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file completely or not at all (see :func:`write_atomically`)."""

    def write(aside: Path) -> None:
        aside.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV table completely or not at all, the first row being the names of its columns."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write indented JSON completely or not at all; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


class FolderLocked(MgmtError):
    """Another process works in this folder."""

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(
            f"{path.parent}: {owner} is working there. Wait for it, or choose another folder with "
            f"--out; if that process is gone, delete {path}."
        )


@contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Hold a lock file with this process's host and pid.

    It is made with O_EXCL, which also holds on network disks. A lock left by a dead process of the
    same host is taken over.

    Raises:
        Locked: another process holds it.
    """
    mine = json.dumps({"host": socket.gethostname(), "pid": os.getpid()})
    try:
        lock = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        _take_over(path, mine)
    else:
        with os.fdopen(lock, "w") as file:
            file.write(mine)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _take_over(path: Path, mine: str) -> None:
    try:
        file = path.open("r+")
    except FileNotFoundError:
        raise FolderLocked(path, "a process that has just ended") from None
    with file:
        # two that find the same dead owner queue here; the second then finds the first, alive
        fcntl.flock(file, fcntl.LOCK_EX)
        text = file.read()
        try:
            owner = json.loads(text)
            host, pid = str(owner["host"]), int(owner["pid"])
        except (ValueError, KeyError, TypeError):
            raise FolderLocked(path, "an unnamed process") from None
        replaced = not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat())
        if replaced or host != socket.gethostname() or _is_alive(pid):
            raise FolderLocked(path, f"process {pid} on {host}")
        file.seek(0)
        file.truncate()
        file.write(mine)
        file.flush()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
