"""The record of the files that a report was drawn from: whether it is still up to date."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mgmt_ray.base import fingerprint, write_json

REPORT = "report.html"
RECORD = "report.json"
READ = (
    *("study.yaml", "cohort.csv", "exclusions.csv", "problems.csv", "splits.json", "planted.json"),
    *("audit.json", "protocol.json", "provenance.json"),
    *("ensembles/*", "trials/*/trial.json", "trials/*/*.csv", "mask_effect/*.csv"),
    *("inspections/*.json", "volumes/*.json", "slices/*.json", "masks/*.json"),
    *("external/*/*.csv", "external/*/ensembles/*", "figures/explain_*.png"),
)
"""Patterns of all files that a report is drawn from, below the study's folder."""
WRITTEN = (REPORT, "model_card.md", "tables/*", "figures/*")
"""Patterns of the files that it consists of."""
PACKAGE = Path(__file__).parents[1]


def update_report(out: Path, svg: bool = False) -> bool:
    """Write the report unless nothing that it shows has changed; return whether it was written.

    See :func:`mgmt_ray.report.html.write_report`.
    """
    if is_up_to_date(out, svg):
        return False
    from mgmt_ray.report.html import write_report  # imports matplotlib, which takes its time

    write_report(out, svg)
    return True


def sources(out: Path) -> str:
    """Return the fingerprint of all files that a report of this folder is drawn from.

    That includes the package's own. Size and time of the last change stand for a file's content.
    """
    code = {name: s for name, s in _states(PACKAGE, ("**/*",)).items() if "__pycache__" not in name}
    return fingerprint([_states(out, READ), code])


def is_up_to_date(out: Path, svg: bool) -> bool:
    """Return whether the report's files are as they were written, from the files that are there.

    Args:
        out: the study's folder.
        svg: whether figures are wanted as SVG; there may be SVGs that are not wanted.
    """
    written = _states(out, WRITTEN)
    try:
        record: Mapping[str, Any] = json.loads((out / RECORD).read_text(encoding="utf-8"))
        as_written = all(written.get(name) == state for name, state in record["written"].items())
        return as_written and record["sources"] == sources(out) and (record["svg"] or not svg)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # missing or damaged
        return False


def write_record(out: Path, drawn_from: str, svg: bool) -> None:
    """Record the report's files, as they are now.

    Args:
        out: the study's folder.
        drawn_from: its :func:`sources` before they were read.
        svg: whether all figures were written as SVG too.
    """
    record = {"sources": drawn_from, "svg": svg, "written": _states(out, WRITTEN)}
    write_json(out / RECORD, record)


def _states(folder: Path, patterns: Sequence[str]) -> dict[str, list[int]]:
    """Return size and time of the last change of all files of these patterns."""
    states = {}
    for path in (path for pattern in patterns for path in folder.glob(pattern)):
        if path.is_file():
            stat = path.stat()
            states[path.relative_to(folder).as_posix()] = [stat.st_size, stat.st_mtime_ns]
    return states
