"""Foundations: errors, configurations, fingerprints, random streams, atomic writes, locks."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeAlias, TypeVar, Union, get_args, get_origin

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
)


class MgmtError(Exception):
    """An error that the user can fix: one line that says what, where and what to do next.

    The command line prints it without a traceback and exits with code 2.
    """

    def __reduce__(self) -> tuple[Callable[..., MgmtError], tuple[type[MgmtError], str]]:
        """Pickle the message alone: subclasses take different constructor arguments."""
        return _rebuild_error, (type(self), str(self))


def _rebuild_error(error_class: type[MgmtError], message: str) -> MgmtError:
    error = error_class.__new__(error_class, message)
    error.args = (message,)
    return error


def quantity(number: int, noun: str) -> str:
    """Return a number with its noun, for a message.

    >>> quantity(1, "slice"), quantity(2, "slice")
    ('1 slice', '2 slices')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error's message, or its class name when it has none.

    >>> first_line(ValueError("bad header\nat byte 4"))
    'bad header'
    >>> first_line(EOFError())
    'EOFError'
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class CannotWrite(MgmtError):
    """A file could not be written: disk full, no permission."""


class Config(BaseModel):
    """Base of every configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def expand_path(path: Path | str, folder: Path) -> Path:
    r"""Return the absolute path of a file or folder that a user wrote.

    ``~`` and variables such as ``$HOME`` are replaced. Unless there is a file of exactly that name,
    outer spaces are dropped and backslashes are slashes.

    >>> expand_path(r" P1\scans\flair.nii.gz ", Path("/data")).as_posix()
    '/data/P1/scans/flair.nii.gz'
    """
    text = _expand_home(os.path.expandvars(str(path)))
    if not os.path.lexists(folder / text):
        text = _expand_home(text.strip().replace("\\", "/"))
    return (folder / text).absolute()


def local_path(path: Path, option: str) -> Path:
    """Return the absolute path of a command line's option, as :func:`expand_path` reads it.

    Raises:
        MgmtError: it is an address, like s3://bucket/folder.

    >>> local_path(Path("/data/study"), "--out").as_posix()
    '/data/study'
    """
    scheme, mark, place = str(path).partition(":/")  # Path makes one slash of two
    if mark and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+", scheme):
        raise MgmtError(
            f"{option} {scheme}://{place}: is an address, not a folder of this machine. Give a "
            "path, for instance where that storage is mounted."
        )
    return expand_path(path, Path.cwd())


def _expand_home(text: str) -> str:
    return os.path.expanduser(text)  # noqa: PTH111 (Path's raises where there is no such user)


def later_key(default: Any, **options: Any) -> Any:
    """Declare a key of a configuration that did not exist when studies were first saved.

    A dump omits it at its default, so that ids of trials and fingerprints of recipes, which follow
    from dumps, stay what they were before the key existed.

    Args:
        options: of pydantic's ``Field``.

    >>> class Box(Config):
    ...     side_mm: float
    ...     colour: str = later_key("red", description="of all sides")
    >>> Box(side_mm=2).model_dump(), Box(side_mm=2, colour="blue").model_dump()
    ({'side_mm': 2.0}, {'side_mm': 2.0, 'colour': 'blue'})
    """
    return Field(default, exclude_if=lambda value: value == default, **options)


def _resolve_relative(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder")
    return expand_path(path, folder) if folder else path


InputPath: TypeAlias = Annotated[Path, AfterValidator(_resolve_relative)]
"""A file or folder in a configuration, relative to the folder that the configuration is in."""

C = TypeVar("C", bound=Config)


def parse(config: type[C], content: Mapping[str, Any], where: str, folder: Path | None = None) -> C:
    """Validate user input and return it as a configuration.

    Args:
        config: class of the configuration.
        content: values by key.
        where: file or command, for error messages.
        folder: what :data:`InputPath` values are relative to; None leaves them as they are.

    Raises:
        MgmtError: lists every unknown key and wrong value with the path of its key.

    >>> class Box(Config):
    ...     side_mm: float
    >>> parse(Box, {"side_mm": 2}, "box.yaml")
    Box(side_mm=2.0)
    >>> parse(Box, {"side_mm": 2, "colour": "red"}, "box.yaml")
    Traceback (most recent call last):
    mgmt_ray.base.MgmtError: box.yaml: colour: unknown key; remove it or fix its spelling
    >>> parse(Box, {"side_mm": 2, "side": 3}, "box.yaml")
    Traceback (most recent call last):
    mgmt_ray.base.MgmtError: box.yaml: side: unknown key; did you mean side_mm?
    """
    try:
        return config.model_validate(content, context={"folder": folder})
    except ValidationError as error:
        faults = "; ".join(_describe_fault(detail, content, config) for detail in error.errors())
        raise MgmtError(f"{where}: {faults}") from error


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question that names the most similar known word, or nothing.

    >>> did_you_mean("epoch", ["epochs", "batch_size"]), did_you_mean("colour", ["epochs"])
    ('; did you mean epochs?', '')
    """
    similar = get_close_matches(word.lower(), [name for name in known if isinstance(name, str)], 1)
    return f"; did you mean {similar[0]}?" if similar else ""


def _describe_fault(detail: Any, content: Mapping[str, Any], config: type[Config]) -> str:
    path = ".".join(_key_path(detail["loc"], content))
    if detail["type"] == "extra_forbidden":
        hint = did_you_mean(str(detail["loc"][-1]), _keys_at(config, detail["loc"][:-1]))
        return f"{path}: unknown key{hint or '; remove it or fix its spelling'}"
    if detail["type"].startswith("union_tag"):
        key = detail["ctx"]["discriminator"].strip("'")
        known = detail["ctx"].get("expected_tags", "")
        fault = f"is not one of {known}" if known else "is missing; name one, like table"
        return f"{path}.{key}: {fault}"
    message = detail["msg"].removeprefix("Value error, ")
    given = f" (found {detail['input']!r})" if not isinstance(detail["input"], dict) else ""
    return f"{path}: {message}{given}" if path else message


def _key_path(location: Sequence[str | int], content: Any) -> list[str]:
    """Return the keys of pydantic's location that the user wrote, without its union tags."""
    keys = []
    for i, part in enumerate(location):
        if isinstance(content, Mapping) and part not in content and i < len(location) - 1:
            continue
        keys.append(str(part))
        if isinstance(content, list | tuple) and isinstance(part, int):
            content = content[part] if part < len(content) else None  # a missing item
        else:
            content = content.get(part) if isinstance(content, Mapping) else None
    return keys


def _keys_at(config: type[Config], location: Sequence[str | int]) -> list[str]:
    """Return the keys that a configuration has at pydantic's location."""
    kinds: list[Any] = [config]
    for part in location:
        below: list[Any] = []
        for kind in _alternatives(kinds):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                fields = kind.model_fields.values()
                tags = [tag for field in fields for tag in get_args(field.annotation)]
                below += [kind] if part in tags else []
                below += [f.annotation for name, f in kind.model_fields.items() if name == part]
            else:
                below += get_args(kind)
        kinds = below
    return [name for kind in _alternatives(kinds) for name in getattr(kind, "model_fields", ())]


def _alternatives(kinds: Iterable[Any]) -> Iterator[Any]:
    """Yield the members of unions, without annotations."""
    for kind in kinds:
        if get_origin(kind) is Annotated:
            yield from _alternatives(get_args(kind)[:1])
        elif get_origin(kind) in (Union, UnionType):
            yield from _alternatives(get_args(kind))
        else:
            yield kind


def fingerprint(value: Any) -> str:
    """Return the SHA-256 (hexadecimal) of a JSON-like value, whatever the order of its keys.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_checksum(path: Path) -> str:
    """Return the SHA-256 (hexadecimal) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def placeholder_fault(content: bytes) -> tuple[str, str] | None:
    r"""Say what a file is that stands in the place of another, of whatever kind, and what to do.

    Args:
        content: of the file, or its first bytes (1024 are enough).

    Returns:
        What the file is, and a remedy; None if it is no such file.

    >>> placeholder_fault(b"<!DOCTYPE html><html><title>Not found</title>")[0]
    'a web page, as a failed or refused download leaves it'
    >>> placeholder_fault(b"version https://git-lfs.github.com/spec/v1\noid sha256:0a1b")
    ('a pointer of Git LFS, not the file', 'Run git lfs pull')
    """
    start = content[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"version https://git-lfs", b"version https://hawser")):
        return "a pointer of Git LFS, not the file", "Run git lfs pull"
    if start.startswith(b"/annex/objects/") or b".git/annex/objects/" in start[:64]:
        return "a pointer of git-annex, not the file", "Run git annex get"
    if start.startswith((b"<!doctype", b"<head", b"<body", b"<?xml")) or b"<html" in start:
        return "a web page, as a failed or refused download leaves it", "Download the file again"
    return None


def stream_seed(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for one named purpose; streams of different names are independent.

    Args:
        seed: the study's (or split's, or store's) seed.
        purpose: names that distinguish this stream from all others, like a trial's and "noise".

    >>> stream_seed(7, "trial", 3) == stream_seed(7, "trial", 3)
    True
    >>> stream_seed(7, "trial", 3) == stream_seed(7, "trial", 4)
    False
    """
    digest = hashlib.sha256(json.dumps([seed, *purpose]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a NumPy generator for one named purpose (see :func:`stream_seed`).

    >>> stream(0, "folds").permutation(5).tolist()
    [0, 3, 1, 4, 2]
    """
    return np.random.default_rng(stream_seed(seed, *purpose))


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file completely or not at all, whatever interrupts it.

    Args:
        path: the final path; its folder is created.
        write: fills a temporary file in the same folder, whose path it is given.

    Raises:
        CannotWrite: the disk is full or not writable; an earlier file stays.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.aside")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise CannotWrite(
            f"{path}: cannot be written ({error.strerror or error}). Free some space or choose "
            "another folder with --out, then rerun the command: finished work is kept."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file completely or not at all (see :func:`write_atomically`).

    A file that has the text already is left as it is, with the time of its last change.
    """
    if path.is_file() and path.read_bytes() == text.encode():
        return

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV table completely or not at all; the first row names the columns."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    write_text(path, buffer.getvalue())


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write indented JSON completely or not at all; NaN raises ValueError."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


class FolderLocked(MgmtError):
    """Another process is working in this folder."""

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(
            f"{path.parent}: {owner} is working there. Wait for it, or choose another folder with "
            f"--out; if that process is gone, delete {path}."
        )


@contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Hold a lock file with this process's host and pid.

    It is created with O_EXCL, which also excludes other hosts on network disks. A lock left by a
    dead process of the same host is taken over.

    Raises:
        FolderLocked: another process holds it.
        CannotWrite: the folder is read-only.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with folder_lock(Path(folder, "study.lock")):
    ...         print(os.listdir(folder))
    ...     print(os.listdir(folder))
    ['study.lock']
    []
    """
    holder = json.dumps({"host": socket.gethostname(), "pid": os.getpid()})
    try:
        lock = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        _take_over(path, holder)
    except OSError as error:
        raise CannotWrite(
            f"{path.parent}: cannot be written ({error.strerror}). Choose another folder with "
            "--out, or change its permissions, then rerun the command."
        ) from error
    else:
        with os.fdopen(lock, "w") as file:
            file.write(holder)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _take_over(path: Path, holder: str) -> None:
    try:
        file = path.open("r+")
    except FileNotFoundError:
        raise FolderLocked(path, "a process that has just ended") from None
    with file:
        # processes that find the same dead owner queue here; the second finds the first, alive
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
        file.write(holder)
        file.flush()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
