"""The test-set access log, and the mark that tells whether result tables are up to date."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mgmt_ray.base import file_checksum, fingerprint, write_json
from mgmt_ray.prediction.access_register import AccessRegister
from mgmt_ray.prediction.prediction_files import EXAMPLES
from mgmt_ray.study.folder import StudyFolder

PREDICTION_FILES = (
    "members.csv",
    "baselines.csv",
    "member_predictions.csv",
    "validation_members.csv",
    "policies.csv",
    "routed_predictions.csv",
    "slice_predictions.csv",
    "segmentations.csv",
    EXAMPLES,
)
"""Tables written when members predict; all other tables of results are computed from these."""


def log_access(
    folder: StudyFolder,
    purpose: str,
    subjects: Mapping[str, Any],
    members: Iterable[str],
    register: AccessRegister | None = None,
) -> None:
    """Append a line to the test-set access log; to be called before subjects are read.

    The line is on disk when this returns, so that no access goes unlogged.

    Args:
        subjects: entries that say which subjects are accessed.
        register: where the access is appended too, first; the log says as ``registered_before``
            how many earlier accesses by others it has.
    """
    names = sorted(members)
    path = folder.test_openings
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "purpose": purpose,
        **subjects,
        "num_members": len(names),
        "members": fingerprint(names),
    }
    if register is not None:
        own_times = set(_logged_times(path))
        entry["registered_before"] = register.append(folder.root, entry, own_times)
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")
        log.flush()
        os.fsync(log.fileno())


def _logged_times(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        with suppress(ValueError, AttributeError):  # a damaged line is not this study's witness
            yield str(json.loads(line).get("time"))


@dataclass(frozen=True, slots=True)
class ResultKey:
    """Fingerprints of everything that result tables depend on.

    Attributes:
        predictions: of what the models' predictions depend on.
        statistics: of what else the result tables depend on.
    """

    predictions: str
    statistics: str


def is_evaluated(folder: StudyFolder, key: ResultKey) -> bool:
    """Return whether all result tables exist, are unchanged, and belong to this key."""
    return _read_mark(folder) == _make_mark(folder, key)


def is_predicted(folder: StudyFolder, key: ResultKey) -> bool:
    """Return whether the models' predictions exist, are unchanged, and belong to this key."""
    marked = _read_mark(folder)
    marked_tables, tables = marked.get("tables", {}), _make_mark(folder, key)["tables"]
    return marked.get("predictions") == key.predictions and all(
        marked_tables.get(name) == tables.get(name) for name in PREDICTION_FILES
    )


def invalidate_results(folder: StudyFolder) -> None:
    """Delete the mark: until :func:`mark_results` the tables count as outdated."""
    folder.evaluated.unlink(missing_ok=True)


def mark_results(folder: StudyFolder, key: ResultKey) -> None:
    """Record the tables' present checksums as the results of this key."""
    write_json(folder.evaluated, _make_mark(folder, key))


def refresh_result_mark(folder: StudyFolder) -> None:
    """Record the present tables under the same key, after one was added or deleted."""
    marked = _read_mark(folder)
    if marked:
        mark_results(folder, ResultKey(marked["predictions"], marked["statistics"]))


def _read_mark(folder: StudyFolder) -> dict[str, Any]:
    try:
        content = json.loads(folder.evaluated.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # never evaluated, or the mark is damaged
        return {}
    return content if isinstance(content, dict) else {}


def _make_mark(folder: StudyFolder, key: ResultKey) -> dict[str, Any]:
    paths = [*sorted(folder.ensembles.glob("*.csv")), *folder.ensembles.glob(EXAMPLES)]
    tables = {path.name: file_checksum(path) for path in paths}
    return {**asdict(key), "tables": tables}
