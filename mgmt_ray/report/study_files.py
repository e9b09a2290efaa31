"""Files of a study's folder, read for a report; an error says which command makes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mgmt_ray.base import MgmtError, file_checksum


def read_text(path: Path, command: str) -> str:
    """A text file.

    Args:
        path: of the file.
        command: that writes it.

    Raises:
        MgmtError: it is not there.
    """
    if not path.exists():
        raise missing_file_error(path, command)
    return path.read_text(encoding="utf-8")


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is no file.

    Raises:
        MgmtError: it is not JSON.
    """
    if not path.exists():
        return None
    return dict(_parse(path, path.read_text(encoding="utf-8")))


def read_json_lines(path: Path) -> tuple[Mapping[str, Any], ...]:
    """A JSON object per line; none where there is no file.

    Raises:
        MgmtError: a line is not JSON.
    """
    if not path.exists():
        return ()
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(_parse(path, line) for line in lines if line.strip())


def check_tables(evaluated: Path) -> None:
    """Raise MgmtError where tables are not what `mgmt-ray ensemble` wrote.

    Args:
        evaluated: ``ensembles/evaluated.json``, which has their checksums; nothing is compared
            where it is not there, as while tables are made.
    """
    tables = (read_json(evaluated) or {}).get("tables", {})
    for name, checksum in tables.items():
        path = evaluated.parent / name
        if not path.is_file() or file_checksum(path) != checksum:
            raise MgmtError(
                f"{path}: is not what was written there. `mgmt-ray ensemble STUDY` makes it anew."
            )


def read_config(path: Path, text: str) -> Mapping[str, Any]:
    """A resolved study.

    Args:
        path: where the text is from.
        text: YAML.

    Raises:
        MgmtError: it is not YAML, or not a study.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise MgmtError(f"{path}: is not YAML ({where}). Mend that line.") from error
    if not isinstance(content, dict):
        raise MgmtError(f"{path}: is not a study. Restore it from the study's file.")
    return content


def missing_file_error(path: Path, command: str) -> MgmtError:
    """The error for a file that a stage has yet to write."""
    return MgmtError(f"{path}: not there yet. Run `{command}` first.")


def _parse(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise MgmtError(
            f"{path}: not JSON ({error}). Restore it, or run its stage again."
        ) from error
