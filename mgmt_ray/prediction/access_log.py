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

PREDICTED = (
    "members.csv",
    "comparison_models.csv",
    "member_predictions.csv",
    "validation_members.csv",
    "policies.csv",
    "slice_predictions.csv",
    "segmentations.csv",
    EXAMPLES,
)
"""Files that models' predictions make; all others follow from them."""


def log_opening(folder: StudyFolder, facts: Mapping[str, Any]) -> None:
    """Write down that labels of unseen subjects are looked at, before they are."""
    path = folder.test_openings
    path.parent.mkdir(parents=True, exist_ok=True)
    opening = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **facts}
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(opening) + "\n")
        log.flush()
        os.fsync(log.fileno())


@dataclass(frozen=True, slots=True)
class Source:
    """What tables follow from.

    Attributes:
        predictions: fingerprint of what models' predictions follow from.
        statistics: fingerprint of what else the tables of results follow from.
    """

    predictions: str
    statistics: str


def is_evaluated(folder: StudyFolder, source: Source) -> bool:
    """Whether all tables are there, whole, and follow from this."""
    return _noted(folder) == _marked(folder, source)


def is_predicted(folder: StudyFolder, source: Source) -> bool:
    """Whether models' predictions are there, whole, and follow from this."""
    noted, now = _noted(folder), _marked(folder, source)
    tables = noted.get("tables", {})
    wanted = [name for name in PREDICTED if name in tables or name in now["tables"]]
    return noted.get("predictions") == source.predictions and all(
        tables.get(name) == now["tables"].get(name) for name in wanted
    )


def forget_evaluation(folder: StudyFolder) -> None:
    """From here to the new mark the tables are not to be trusted."""
    folder.evaluated.unlink(missing_ok=True)


def mark_evaluated(folder: StudyFolder, source: Source) -> None:
    """Note that the tables, as they are now, follow from this."""
    write_json(folder.evaluated, _marked(folder, source))


def mark_again(folder: StudyFolder) -> None:
    """Note the tables as they are now: one was added or removed beside those that were noted."""
    noted = _noted(folder)
    if noted:
        mark_evaluated(folder, Source(noted["predictions"], noted["statistics"]))


def _noted(folder: StudyFolder) -> dict[str, Any]:
    try:
        content = json.loads(folder.evaluated.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # never evaluated, or the mark is damaged
        return {}
    return content if isinstance(content, dict) else {}


def _marked(folder: StudyFolder, source: Source) -> dict[str, Any]:
    paths = [*sorted(folder.ensembles.glob("*.csv")), *folder.ensembles.glob(EXAMPLES)]
    tables = {path.name: file_checksum(path) for path in paths}
    return {**asdict(source), "tables": tables}
