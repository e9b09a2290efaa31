"""Measuring every tumour: one task per subject, kept in ``radiomics.csv``, nothing done twice."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mgmt_ray.base import MgmtError, file_checksum, fingerprint, write_text
from mgmt_ray.baselines.radiomic_features import (
    FEATURES,
    empty_regions,
    measure_features,
    measure_volumes,
)
from mgmt_ray.cluster.parallel_map import parallel_map
from mgmt_ray.cluster.progress import ProgressCallback
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.scan import Scan, read_scan
from mgmt_ray.cohort.scan_checks import check_grid
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.preprocess.spatial import Window, bounding_box, crop, resample
from mgmt_ray.preprocess.volume_index import file_state
from mgmt_ray.study.baseline_config import FEATURE_SCANS

METHOD = 1
"""Raised whenever the same files would give other numbers, so that old ones are not kept."""

FEATURE_NAMES = tuple(feature.name for feature in FEATURES)
VOLUME_NAMES = ("necrosis_ml", "edema_ml", "enhancing_ml", "tumour_ml")
COLUMNS = ("subject", *FEATURE_NAMES, *VOLUME_NAMES, "flags", "checksum", "state")


@dataclass(frozen=True, slots=True)
class TumourMeasurement:
    """What was measured of a subject's tumour: a row of ``radiomics.csv``.

    Attributes:
        subject: id.
        features: of ``radiomics.features.FEATURES``, by name; NaN where the subject lacks a scan
            that one of them takes, or where they were not asked for.
        volumes_ml: of necrosis, edema, enhancing tumour, and of the whole mask, by name.
        flags: what is unusual: an empty region ("empty necrosis"), a missing scan ("no T1").
        checksum: of the content of all files that were read.
        state: fingerprint of these files' states and of what was asked.
    """

    subject: str
    features: Mapping[str, float]
    volumes_ml: Mapping[str, float]
    flags: tuple[str, ...]
    checksum: str
    state: str


@dataclass(frozen=True, slots=True)
class MeasurementOptions:
    """What is measured.

    Attributes:
        features: whether the features are, beside the volumes.
        resample: whether a scan on another grid is brought onto its mask's, or refused.
    """

    features: bool
    resample: bool


def measure_tumours(
    cohort: Cohort,
    wanted: MeasurementOptions,
    path: Path,
    resources: Resources,
    step: ProgressCallback,
) -> dict[str, TumourMeasurement]:
    """Measure every subject whose files have changed since it was last measured.

    Args:
        cohort: whose tumours.
        wanted: what of them.
        path: the table; what was measured is kept there even if another subject's files are faulty.
        resources: with backend "ray", Ray must be connected.
        step: is given subjects done and their number; not called if there is nothing to do.

    Returns:
        By subject id.

    Raises:
        MgmtError: files that cannot be used, each named, once all others are done; a full disk.
    """
    kept = {
        name: row
        for name, row in _read(path).items()
        if any(s.id == name and _state(s, wanted) == row.state for s in cohort.subjects)
    }
    waiting = [subject for subject in cohort.subjects if subject.id not in kept]
    if not waiting:
        return kept
    faults: list[str] = []
    try:
        for done, (subject, found) in enumerate(
            parallel_map(_measure, waiting, wanted, resources), start=1
        ):
            if isinstance(found, MgmtError):
                faults.append(f"subject {subject.id}: {found}")
            else:
                kept[subject.id] = found
            step(done, len(waiting))
    finally:
        _write(kept, path)
    if faults:
        raise MgmtError("\n".join(faults))
    return kept


def _measure(subject: Subject, wanted: MeasurementOptions) -> TumourMeasurement | MgmtError:
    """A subject's numbers, or what is wrong with its files: one bad file stops no other."""
    try:
        state = _state(subject, wanted)
        mask = read_scan(subject.required_mask)
        box = bounding_box(mask.voxels > 0)
        assert box is not None, "an empty mask was refused when the cohort was selected"
        labels = crop(mask.voxels, box)
        voxel_ml = abs(float(np.linalg.det(mask.grid.affine[:3, :3]))) / 1000
        volumes = measure_volumes(labels, voxel_ml)
        lacking = [m for m in FEATURE_SCANS if m not in subject.scans]
        features = dict.fromkeys(FEATURE_NAMES, math.nan)
        if wanted.features and not lacking:
            features = measure_features(_scans(subject, mask, box, wanted.resample), labels)
        flags = [f"empty {region}" for region in empty_regions(labels)]
        if wanted.features:
            flags += [f"no {modality}" for modality in lacking]
        checksum = fingerprint(
            {name: _content_checksum(p) for name, p in _files(subject, wanted).items()}
        )
        return TumourMeasurement(subject.id, features, volumes, tuple(flags), checksum, state)
    except MgmtError as error:
        return error


def _scans(subject: Subject, mask: Scan, box: Window, on_mask: bool) -> dict[str, np.ndarray]:
    """The scans that features take, on the mask's grid, around the tumour."""
    parts = {}
    for modality in FEATURE_SCANS:
        path = subject.scans[modality]
        scan = read_scan(path)
        if on_mask:
            parts[modality] = resample(scan, mask.grid, box)
        else:
            check_grid(scan, mask, path, subject.required_mask)
            parts[modality] = crop(scan.voxels, box)
    return parts


def _files(subject: Subject, wanted: MeasurementOptions) -> dict[str, Path]:
    """What is read of a subject."""
    scans = FEATURE_SCANS if wanted.features and subject.has_all(FEATURE_SCANS) else ()
    return {"mask": subject.required_mask, **{m: subject.scans[m] for m in scans}}


def _state(subject: Subject, wanted: MeasurementOptions) -> str:
    """What a subject's numbers depend on; nothing is read."""
    try:
        states = {name: asdict(file_state(p)) for name, p in _files(subject, wanted).items()}
    except OSError as error:
        raise MgmtError(
            f"subject {subject.id}: {error.filename} cannot be read ({error.strerror}). Put the "
            "file back, or make the cohort's tables anew with `mgmt-ray cohort STUDY`."
        ) from error
    asked = [wanted.features, wanted.resample, sorted(subject.scans)]
    return fingerprint([METHOD, states, asked])


def _content_checksum(path: Path) -> str | list[str]:
    """Checksum of a file, or of every file of a series."""
    if path.is_dir():
        return [file_checksum(file) for file in sorted(path.iterdir())]
    return file_checksum(path)


def _read(path: Path) -> dict[str, TumourMeasurement]:
    """The rows of an earlier table; none where it is not as this version writes it."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        if tuple(table.fieldnames or ()) != COLUMNS:
            return {}
        try:
            return {row["subject"]: _from_row(row) for row in table}
        except (ValueError, TypeError, AttributeError):
            return {}


def _from_row(row: Mapping[str, str]) -> TumourMeasurement:
    return TumourMeasurement(
        subject=row["subject"],
        features={name: float(row[name] or "nan") for name in FEATURE_NAMES},
        volumes_ml={name: float(row[name]) for name in VOLUME_NAMES},
        flags=tuple(filter(None, row["flags"].split("; "))),
        checksum=row["checksum"],
        state=row["state"],
    )


def _write(measured: Mapping[str, TumourMeasurement], path: Path) -> None:
    """Write the table, sorted by subject, with every digit of its numbers."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for _, row in sorted(measured.items()):
        numbers = [*row.features.values(), *row.volumes_ml.values()]
        cells = ["" if math.isnan(number) else repr(float(number)) for number in numbers]
        writer.writerow([row.subject, *cells, "; ".join(row.flags), row.checksum, row.state])
    write_text(path, text.getvalue())
