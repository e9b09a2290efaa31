"""Measure tumours, one task per subject; ``radiomics.csv`` keeps what is up to date."""

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

METHOD_VERSION = 1
"""To be increased whenever the same files would give other values, so that old rows are redone."""

FEATURE_NAMES = tuple(feature.name for feature in FEATURES)
VOLUME_NAMES = ("necrosis_ml", "edema_ml", "enhancing_ml", "tumour_ml")
COLUMNS = ("subject", *FEATURE_NAMES, *VOLUME_NAMES, "flags", "checksum", "state")


@dataclass(frozen=True, slots=True)
class TumourMeasurement:
    """The measurements of a subject's tumour: a row of ``radiomics.csv``.

    Attributes:
        subject: id.
        features: the six features by name; all NaN if the subject has no scan of one of
            ``FEATURE_SCANS``, or if features were not requested.
        volumes_ml: by the names in :data:`VOLUME_NAMES`, in ml.
        flags: anything unusual: an empty region ("empty necrosis"), a missing scan ("no T1").
        checksum: of the content of all files that were read.
        state: fingerprint of these files' states and of the options.
    """

    subject: str
    features: Mapping[str, float]
    volumes_ml: Mapping[str, float]
    flags: tuple[str, ...]
    checksum: str
    state: str


@dataclass(frozen=True, slots=True)
class MeasurementOptions:
    """What is measured, and how.

    Attributes:
        features: measure the six features besides the volumes.
        resample: resample a scan onto its mask's grid; otherwise, another grid is an error.
    """

    features: bool
    resample: bool


def measure_tumours(
    cohort: Cohort,
    options: MeasurementOptions,
    path: Path,
    resources: Resources,
    progress: ProgressCallback,
) -> dict[str, TumourMeasurement]:
    """Measure every subject whose files have changed since it was last measured.

    Args:
        cohort: subjects with masks.
        options: what is measured.
        path: the table; it keeps what was measured even if another subject's files are faulty.
        resources: backend; a subject takes one CPU.
        progress: called with (subjects done, subjects to measure), if there are any to measure.

    Returns:
        Measurements by subject id.

    Raises:
        MgmtError: lists all files that cannot be used, after the other subjects are measured; or
            the disk is full.
    """
    kept = {
        name: row
        for name, row in _read(path).items()
        if any(s.id == name and _state(s, options) == row.state for s in cohort.subjects)
    }
    pending = [subject for subject in cohort.subjects if subject.id not in kept]
    if not pending:
        return kept
    faults: list[str] = []
    try:
        for done, (subject, result) in enumerate(
            parallel_map(_measure, pending, options, resources), start=1
        ):
            if isinstance(result, MgmtError):
                faults.append(f"subject {subject.id}: {result}")
            else:
                kept[subject.id] = result
            progress(done, len(pending))
    finally:
        _write(kept, path)
    if faults:
        raise MgmtError("\n".join(faults))
    return kept


def _measure(subject: Subject, options: MeasurementOptions) -> TumourMeasurement | MgmtError:
    """Measure a subject; return the error of a faulty file, so that other subjects continue."""
    try:
        state = _state(subject, options)
        mask = read_scan(subject.required_mask)
        box = bounding_box(mask.voxels > 0)
        assert box is not None, "select_cohorts rejects empty masks"
        labels = crop(mask.voxels, box)
        voxel_ml = abs(float(np.linalg.det(mask.grid.affine[:3, :3]))) / 1000
        volumes = measure_volumes(labels, voxel_ml)
        missing = [m for m in FEATURE_SCANS if m not in subject.scans]
        features = dict.fromkeys(FEATURE_NAMES, math.nan)
        if options.features and not missing:
            features = measure_features(_scans(subject, mask, box, options.resample), labels)
        flags = [f"empty {region}" for region in empty_regions(labels)]
        if options.features:
            flags += [f"no {modality}" for modality in missing]
        checksum = fingerprint(
            {name: _content_checksum(p) for name, p in _files(subject, options).items()}
        )
        return TumourMeasurement(subject.id, features, volumes, tuple(flags), checksum, state)
    except MgmtError as error:
        return error


def _scans(
    subject: Subject, mask: Scan, box: Window, should_resample: bool
) -> dict[str, np.ndarray]:
    """Return the scans of the features on the mask's grid, cropped to the tumour's box."""
    crops = {}
    for modality in FEATURE_SCANS:
        path = subject.scans[modality]
        scan = read_scan(path)
        if should_resample:
            crops[modality] = resample(scan, mask.grid, box)
        else:
            check_grid(scan, mask, path, subject.required_mask)
            crops[modality] = crop(scan.voxels, box)
    return crops


def _files(subject: Subject, options: MeasurementOptions) -> dict[str, Path]:
    """Return the files of a subject that are read."""
    scans = FEATURE_SCANS if options.features and subject.has_all(FEATURE_SCANS) else ()
    return {"mask": subject.required_mask, **{m: subject.scans[m] for m in scans}}


def _state(subject: Subject, options: MeasurementOptions) -> str:
    """Return a fingerprint of what a measurement depends on, without reading the files."""
    try:
        states = {name: asdict(file_state(p)) for name, p in _files(subject, options).items()}
    except OSError as error:
        raise MgmtError(
            f"subject {subject.id}: {error.filename} cannot be read ({error.strerror}). "
            "Restore the file, or rebuild the cohort's tables with `mgmt-ray cohort STUDY`."
        ) from error
    requested = [options.features, options.resample, sorted(subject.scans)]
    return fingerprint([METHOD_VERSION, states, requested])


def _content_checksum(path: Path) -> str | list[str]:
    """Return the checksum of a file, or of every file of a DICOM series."""
    if path.is_dir():
        return [file_checksum(file) for file in sorted(path.iterdir())]
    return file_checksum(path)


def _read(path: Path) -> dict[str, TumourMeasurement]:
    """Return the rows of an earlier table; none if it has other columns or cannot be read."""
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
    """Write the table, sorted by subject, with all digits of its values."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for _, row in sorted(measured.items()):
        numbers = [*row.features.values(), *row.volumes_ml.values()]
        cells = ["" if math.isnan(number) else repr(float(number)) for number in numbers]
        writer.writerow([row.subject, *cells, "; ".join(row.flags), row.checksum, row.state])
    write_text(path, text.getvalue())
