"""Inspections that tests fabricate, in a store."""

from __future__ import annotations

from pathlib import Path

from mgmt_ray.base import fingerprint
from mgmt_ray.preprocess.artefact_store import (
    artefact_path,
    read_index,
    write_artefact,
    write_index,
)
from mgmt_ray.preprocess.scan_inspection import Inspection, inspection_artefact


def write_inspection(inspection: Inspection, folder: Path) -> Path:
    """Add an inspection to those of subjects with given masks; return the path of its file."""
    artefact = inspection_artefact(inspection)
    key = fingerprint(artefact.description)
    path = artefact_path(folder, "given", inspection.subject, key)
    write_artefact(path, artefact)
    index = read_index(folder, "given")
    entries = dict(index["subjects"]) if index else {}
    entries[inspection.subject] = {**artefact.description, "file": path.name}
    write_index(folder, "given", {}, entries)
    return path
