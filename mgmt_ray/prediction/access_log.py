"""Each look at unseen subjects is written down, and tables are known by what they follow from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from mgmt_ray.base import file_checksum, write_json
from mgmt_ray.prediction.member_predictions import EXAMPLES
from mgmt_ray.study.folder import StudyFolder

PREDICTION_FILES = (
    "members.csv",
    "baselines.csv",
    "member_predictions.csv",
    "validation_members.csv",
    "policies.csv",
    "slice_predictions.csv",
    "segmentations.csv",
    EXAMPLES,
)
"""Files that models' predictions make; all others follow from them."""


def log_opening(folder: StudyFolder, metadata: Mapping[str, Any]) -> None:
    """Write down that labels of unseen subjects are looked at, before they are."""
    path = folder.test_openings
    path.parent.mkdir(parents=True, exist_ok=True)
    opening = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **metadata}
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(opening) + "\n")
        log.flush()
        os.fsync(log.fileno())


@dataclass(frozen=True, slots=True)
class ResultKey:
    """What tables follow from.

    Attributes:
        predictions: fingerprint of what models' predictions follow from.
        statistics: fingerprint of what else the tables of results follow from.
    """

    predictions: str
    statistics: str


def is_evaluated(folder: StudyFolder, source: ResultKey) -> bool:
    """Whether all tables are there, whole, and follow from this."""
    return _read_mark(folder) == _make_mark(folder, source)


def is_predicted(folder: StudyFolder, source: ResultKey) -> bool:
    """Whether models' predictions are there, whole, and follow from this."""
    noted, now = _read_mark(folder), _make_mark(folder, source)
    tables = noted.get("tables", {})
    wanted = [name for name in PREDICTION_FILES if name in tables or name in now["tables"]]
    return noted.get("predictions") == source.predictions and all(
        tables.get(name) == now["tables"].get(name) for name in wanted
    )


def invalidate_results(folder: StudyFolder) -> None:
    """From here to the new mark the tables are not to be trusted."""
    folder.evaluated.unlink(missing_ok=True)


def mark_results(folder: StudyFolder, source: ResultKey) -> None:
    """Note that the tables, as they are now, follow from this."""
    write_json(folder.evaluated, _make_mark(folder, source))


def refresh_result_mark(folder: StudyFolder) -> None:
    """Note the tables as they are now: one was added or removed beside those that were noted."""
    noted = _read_mark(folder)
    if noted:
        mark_results(folder, ResultKey(noted["predictions"], noted["statistics"]))


def _read_mark(folder: StudyFolder) -> dict[str, Any]:
    try:
        content = json.loads(folder.evaluated.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # never evaluated, or the mark is damaged
        return {}
    return content if isinstance(content, dict) else {}


def _make_mark(folder: StudyFolder, source: ResultKey) -> dict[str, Any]:
    paths = [*sorted(folder.ensembles.glob("*.csv")), *folder.ensembles.glob(EXAMPLES)]
    tables = {path.name: file_checksum(path) for path in paths}
    return {**asdict(source), "tables": tables}
