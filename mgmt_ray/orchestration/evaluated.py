"""Each look at unseen subjects is written down, and tables are known by what they follow from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mgmt_ray.base import file_checksum, write_json
from mgmt_ray.study.folder import StudyFolder


def log_opening(folder: StudyFolder, facts: Mapping[str, Any]) -> None:
    """Write down that labels of unseen subjects are looked at, before they are."""
    path = folder.test_openings
    path.parent.mkdir(parents=True, exist_ok=True)
    opening = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **facts}
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(opening) + "\n")
        log.flush()
        os.fsync(log.fileno())


def is_evaluated(folder: StudyFolder, wanted: str) -> bool:
    """Whether the tables are there, whole, and follow from this fingerprint."""
    mark = _mark(folder)
    return mark.is_file() and json.loads(mark.read_text(encoding="utf-8")) == _evaluated(
        folder, wanted
    )


def forget_evaluation(folder: StudyFolder) -> None:
    """From here to the new mark the tables are not to be trusted."""
    _mark(folder).unlink(missing_ok=True)


def mark_evaluated(folder: StudyFolder, wanted: str) -> None:
    """Note that the tables, as they are now, follow from this fingerprint."""
    write_json(_mark(folder), _evaluated(folder, wanted))


def _mark(folder: StudyFolder) -> Path:
    return folder.ensembles / "evaluated.json"


def _evaluated(folder: StudyFolder, wanted: str) -> dict[str, Any]:
    tables = {path.name: file_checksum(path) for path in sorted(folder.ensembles.glob("*.csv"))}
    return {"fingerprint": wanted, "tables": tables}
