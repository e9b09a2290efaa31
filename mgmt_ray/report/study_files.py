"""Read the text files of a study's folder; an error says which command writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mgmt_ray.base import MgmtError, file_checksum


def read_text(path: Path, command: str) -> str:
    """Read a text file.

    Raises:
        MgmtError: the file does not exist; the error names the command that writes it.
    """
    if not path.exists():
        raise missing_file_error(path, command)
    return path.read_text(encoding="utf-8")


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None if the file does not exist.

    Raises:
        MgmtError: the file is not JSON.
    """
    if not path.exists():
        return None
    return dict(_parse(path, path.read_text(encoding="utf-8")))


def read_json_lines(path: Path) -> tuple[Mapping[str, Any], ...]:
    """Read a file of one JSON object per line; empty if the file does not exist.

    Raises:
        MgmtError: a line is not JSON.
    """
    if not path.exists():
        return ()
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(_parse(path, line) for line in lines if line.strip())


def check_tables(evaluated: Path) -> None:
    """Check that tables are as `mgmt-ray ensemble` wrote them.

    Args:
        evaluated: ``ensembles/evaluated.json`` with the tables' checksums; if it does not exist,
            as while tables are written, nothing is compared.

    Raises:
        MgmtError: a table is missing or was changed.
    """
    tables = (read_json(evaluated) or {}).get("tables", {})
    for name, checksum in tables.items():
        path = evaluated.parent / name
        if not path.is_file() or file_checksum(path) != checksum:
            raise MgmtError(
                f"{path}: is missing or was changed since it was written. `mgmt-ray ensemble "
                "STUDY` rebuilds it."
            )


def read_config(path: Path, text: str) -> Mapping[str, Any]:
    """Parse the YAML of a resolved study; ``path`` is for errors.

    Raises:
        MgmtError: the text is not YAML, or not a study.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise MgmtError(f"{path}: is not YAML ({where}). Fix that line.") from error
    if not isinstance(content, dict):
        raise MgmtError(f"{path}: is not a study. Restore it from the study's YAML file.")
    return content


def missing_file_error(path: Path, command: str) -> MgmtError:
    """Return the error for a file that a stage has not written yet."""
    return MgmtError(f"{path}: does not exist yet. Run `{command}` first.")


def _parse(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise MgmtError(
            f"{path}: is not JSON ({error}). Restore it, or rerun the command that writes it."
        ) from error
