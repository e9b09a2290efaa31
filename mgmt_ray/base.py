"""What every room stands on: errors, configs, seed streams, fingerprints and safe writing."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict


class MgmtError(Exception):
    """A fault that its reader can mend: one line that says what, where and what to do next.

    The command line prints it without a traceback and leaves with exit code 2.
    """


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind when it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class Config(BaseModel):
    """Base of every configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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


def write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file completely or not at all, whatever interrupts it.

    Args:
        path: where the file shall be; its folder is made.
        write: fills the temporary file that it is given, in the same folder.

    Raises:
        MgmtError: the file could not be written (disk full, no permission); an earlier file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.aside")
    try:
        write(aside)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        raise MgmtError(
            f"{path}: cannot be written ({error.strerror or error}). Free some space or choose "
            "another folder with --out, then repeat the command: what is finished is kept."
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file completely or not at all (see :func:`write_aside`)."""

    def write(aside: Path) -> None:
        aside.write_text(text, encoding="utf-8")

    write_aside(path, write)


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write indented JSON completely or not at all; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
