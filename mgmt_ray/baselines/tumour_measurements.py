"""Measure tumours, one task per subject; what is up to date is not measured again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mgmt_ray.base import file_checksum, fingerprint, write_csv
from mgmt_ray.baselines.radiomic_features import (
    FEATURES,
    empty_regions,
    measure_features,
    measure_volumes,
)
from mgmt_ray.cluster.progress import ProgressCallback
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.reader import LABEL_PRESETS, LabelMap
from mgmt_ray.cohort.scan import Scan, check_grid, read_mask, read_scan
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.data.bring_up_to_date import Maker, bring_up_to_date
from mgmt_ray.preprocess.artefact_store import Artefact, ArtefactPart, Wanted, subject_file_state
from mgmt_ray.preprocess.spatial import Window, bounding_box, crop, resample
from mgmt_ray.study.baseline_config import FEATURE_SCANS, REGIONS

OTHER = 5
"""Label of tumour that is none of the parts in :data:`REGIONS`."""

PART = "tumours"
"""Part of a store of measurements."""

FEATURE_NAMES = tuple(feature.name for feature in FEATURES)
VOLUME_NAMES = ("necrosis_ml", "edema_ml", "enhancing_ml", "tumour_ml")
COLUMNS = ("subject", *FEATURE_NAMES, *VOLUME_NAMES, "flags", "checksum")


@dataclass(frozen=True, slots=True)
class TumourMeasurement:
    """The measurements of a subject's tumour: a row of ``radiomics.csv``.

    Attributes:
        subject: id.
        features: the six features by name; all NaN if the subject has no scan of one of
            ``FEATURE_SCANS``, or if features were not requested.
        volumes_ml: by the names in :data:`VOLUME_NAMES`, in ml; NaN for parts of the tumour if it
            is not known which label is which.
        flags: anything unusual: an empty region ("empty necrosis"), a missing scan ("no T1").
        checksum: of the content of all files that were read.
    """

    subject: str
    features: Mapping[str, float]
    volumes_ml: Mapping[str, float]
    flags: tuple[str, ...]
    checksum: str


@dataclass(frozen=True, slots=True)
class MeasurementOptions:
    """What is measured, and how.

    Attributes:
        features: measure the six features besides the volumes.
        resample: resample a scan onto its mask's grid; otherwise, another grid is an error.
        labels: which label of a mask is which; None where only the whole tumour can be measured.
    """

    features: bool
    resample: bool
    labels: LabelMap | None = LABEL_PRESETS["brats2021"]


def measure_tumours(
    cohort: Cohort,
    options: MeasurementOptions,
    folder: Path,
    resources: Resources,
    progress: ProgressCallback,
) -> dict[str, TumourMeasurement]:
    """Measure every subject whose files have changed since it was last measured.

    Args:
        cohort: subjects with masks.
        options: what is measured.
        folder: of the measurements; keeps what was measured even if other subjects' files are
            faulty.
        resources: backend; a subject takes one CPU.
        progress: called with (subjects done, subjects to measure), if there are any to measure.

    Returns:
        Measurements by subject id.

    Raises:
        UnusableFiles: lists all files that cannot be used, after the other subjects are measured.
        CannotWrite: the disk is full.
    """
    wanted = [Wanted(PART, s.id, _key(s, options), s) for s in cohort.subjects]
    maker = Maker(_measure_task, options)
    update = bring_up_to_date(folder, {PART: wanted}, maker, {}, resources, progress)
    update.check_faults()
    part = ArtefactPart(folder, PART)
    return {s.id: _read(s.id, part) for s in cohort.subjects}


def write_measurements(measured: Mapping[str, TumourMeasurement], path: Path) -> None:
    """Write the table of :data:`COLUMNS`, sorted by subject, with all digits of its values."""
    rows = [
        [
            row.subject,
            *("" if math.isnan(n) else repr(n) for n in row.features.values()),
            *("" if math.isnan(n) else repr(n) for n in row.volumes_ml.values()),
            "; ".join(row.flags),
            row.checksum,
        ]
        for _, row in sorted(measured.items())
    ]
    write_csv(path, [COLUMNS, *rows])


def _measure_task(task: Sequence[Wanted[Subject]], options: MeasurementOptions) -> list[Artefact]:
    return [_measure(item.source, options) for item in task]


def _measure(subject: Subject, options: MeasurementOptions) -> Artefact:
    mask = read_mask(subject.required_mask, subject.conventions)
    box = bounding_box(mask.voxels > 0)
    assert box is not None, "select_cohorts rejects empty masks"
    labels = _translate(crop(mask.voxels, box), options.labels)
    voxel_ml = abs(float(np.linalg.det(mask.grid.affine[:3, :3]))) / 1000
    volumes = measure_volumes(labels, voxel_ml)
    missing = [m for m in FEATURE_SCANS if m not in subject.scans]
    features = dict.fromkeys(FEATURE_NAMES, math.nan)
    if options.features and not missing:
        features = measure_features(_scans(subject, mask, box, options.resample), labels)
    flags = [f"empty {region}" for region in empty_regions(labels)]
    if options.labels is None:
        volumes |= dict.fromkeys(VOLUME_NAMES[:-1], math.nan)
        flags = []
    if options.features:
        flags += [f"no {modality}" for modality in missing]
    files = _files(subject, options)
    checksum = fingerprint({name: _content_checksum(path) for name, path in files.items()})
    arrays = {
        "features": np.array([features[name] for name in FEATURE_NAMES]),
        "volumes_ml": np.array([volumes[name] for name in VOLUME_NAMES]),
    }
    return Artefact(arrays, {"flags": flags, "checksum": checksum})


def _translate(mask: np.ndarray, labels: LabelMap | None) -> np.ndarray:
    """Return a mask whose parts have the labels of :data:`REGIONS`; all else is ``OTHER``."""
    translated = np.where(mask > 0, OTHER, 0)
    for name, label in labels.parts.items() if labels else ():
        translated[mask == label] = REGIONS[name][0]
    return translated


def _read(subject: str, part: ArtefactPart) -> TumourMeasurement:
    artefact = part.load(subject)
    features = dict(zip(FEATURE_NAMES, artefact.arrays["features"].tolist(), strict=True))
    volumes = dict(zip(VOLUME_NAMES, artefact.arrays["volumes_ml"].tolist(), strict=True))
    flags, checksum = artefact.description["flags"], artefact.description["checksum"]
    return TumourMeasurement(subject, features, volumes, tuple(flags), checksum)


def _scans(
    subject: Subject, mask: Scan, box: Window, should_resample: bool
) -> dict[str, np.ndarray]:
    """Return the scans of the features on the mask's grid, cropped to the tumour's box."""
    crops = {}
    for modality in FEATURE_SCANS:
        path = subject.scans[modality]
        scan = read_scan(path, subject.conventions)
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


def _key(subject: Subject, options: MeasurementOptions) -> str:
    """Return a fingerprint of what a measurement depends on, without reading the files."""
    files = _files(subject, options)
    states = {name: asdict(subject_file_state(subject.id, name, p)) for name, p in files.items()}
    requested = [options.features, options.resample, sorted(subject.scans)]
    labels = options.labels.model_dump() if options.labels else None
    requested += [asdict(subject.conventions), labels]
    return fingerprint([FEATURE_NAMES, VOLUME_NAMES, requested, states])


def _content_checksum(path: Path) -> str | list[str]:
    """Return the checksum of a file, or of every file of a DICOM series."""
    if path.is_dir():
        return [file_checksum(file) for file in sorted(path.iterdir())]
    return file_checksum(path)
