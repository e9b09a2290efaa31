"""The report's tables of where results come from: seeds, hashes, versions."""

from __future__ import annotations

import json

from mgmt_ray.report.gather import StudyResults
from mgmt_ray.report.html_table import NOTHING, Table


def provenance_table(results: StudyResults) -> Table:
    """What ran, with which seeds and on what."""
    recorded = {k: as_text(v) for k, v in results.provenance.items() if k != "versions"}
    seeds = sorted(set(results.members["seed"]))
    rows = [
        *recorded.items(),
        ("study's seed", as_text(results.seed)),
        ("split's seed", str(results.splits[0].seed)),
        ("split's hash", ", ".join(split.hash for split in results.splits)),
        ("cohort's hash", results.cohort.hash),
        ("repetitions (seed numbers)", ", ".join(map(str, seeds))),
    ]
    for stored in ("volumes", "slices"):
        if checksums := _checksums(results, f"{stored}_checksum"):
            rows.append((f"{stored}' checksums", checksums))
    rows += _masks(results)
    return Table("provenance", "Provenance", ("What", "Value"), tuple(rows), is_wide=True)


def versions_table(results: StudyResults) -> Table:
    """Versions of packages; several where trials were trained with different ones."""
    found: dict[str, set[str]] = {}
    recorded = [results.provenance, *results.trials.values(), *results.needed.values()]
    for versions in (record.get("versions") or {} for record in recorded):
        for package, version in versions.items():
            found.setdefault(package, set()).add(str(version))
    rows = tuple((package, ", ".join(sorted(found[package]))) for package in sorted(found))
    return Table("versions", "Versions", ("Package", "Version"), rows)


def _masks(results: StudyResults) -> list[tuple[str, str]]:
    """Whose masks networks predicted, and which networks; nothing where all are given."""
    source = results.config.get("mask_source")
    if not source:
        return []
    predicted = sum(s.mask_kind == "predicted" for s in results.cohort.subjects)
    of_all = f"{predicted} of {len(results.cohort.subjects)} subjects"
    return [("predicted masks", of_all), ("mask source", as_text(source))]


def _checksums(results: StudyResults, key: str) -> str:
    """Each modality with the first digits of the checksum of its volumes or slices."""
    found = {
        f"{modality} {checksum[:12]}"
        for trial in results.trials.values()
        for modality, checksum in (trial.get(key) or {}).items()
    }
    return ", ".join(sorted(found))


def as_text(value: object) -> str:
    """A value of a JSON file for a cell."""
    if value is None:
        return NOTHING
    return value if isinstance(value, str) else json.dumps(value)
