"""Writing subjects in the layout of BraTS21, with the irregularities that a reader must handle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import SimpleITK

from mgmt_ray.base import stream, write_text
from mgmt_ray.cohort.brats21 import FAULTY, LABEL_TABLE, NIFTI_NAMES, SERIES_NAMES, scan_path
from mgmt_ray.cohort.scan import Scan, read_scan
from mgmt_ray.cohort.subject import STRUCTURAL, Subject
from mgmt_ray.synthetic.scan_writer import copy_file
from tests.layouts.dicom_series import write_series
from tests.layouts.inverted_contrast import write_inverted_contrast

HIGHEST_ID = 1666
NUM_UNLABELLED = 2
MASKS = "masks"
STRAY = ".DS_Store"


def write_brats21_copy(
    subjects: Sequence[Subject], folder: Path, seed: int, images: str = "nifti"
) -> dict[str, str]:
    """Write a copy of BraTS21 with these subjects, unlabelled cases and the faulty ones.

    The faulty cases have an empty FLAIR scan. With DICOM the masks lie in ``masks/``.

    Args:
        subjects: with the four structural scans as NIfTI; integers if written as DICOM.
        folder: gets the images and ``train_labels.csv``.
        seed: of the new ids.
        images: "nifti" or "dicom".

    Returns:
        The new ids, five digits, by the old ones.
    """
    drawn = stream(seed, "BraTS21 ids").permutation(HIGHEST_ID + 1)
    free = [name for name in (f"{number:05d}" for number in drawn) if name not in FAULTY]
    sources = sorted(subjects, key=lambda subject: subject.id)
    ids = {source.id: name for source, name in zip(sources, free, strict=False)}
    for source in sources:
        _write_case(source, ids[source.id], folder, images)
    for source, name in zip(cycle(sources), free[len(ids) :][:NUM_UNLABELLED], strict=False):
        _write_case(source, name, folder, images, labelled=False)
    for step, (source, name) in enumerate(zip(cycle(sources), FAULTY, strict=False), start=1):
        _write_case(_faulty(source, folder / f".{name}", step), name, folder, images)
        _remove(folder / f".{name}")
    labels = {ids[source.id]: source.label for source in sources} | dict.fromkeys(FAULTY, 1)
    (folder / STRAY).write_bytes(b"\0\0\0\1Bud1")
    write_text(folder / "sample_submission.csv", "BraTS21ID,MGMT_value\n00001,0.5\n")
    lines = ["BraTS21ID,MGMT_value", *(f"{name},{labels[name]}" for name in sorted(labels))]
    write_text(folder / LABEL_TABLE, "\n".join(lines) + "\n")
    return ids


def _write_case(
    source: Subject, name: str, folder: Path, images: str, labelled: bool = True
) -> None:
    if images == "nifti":
        case = folder / "BraTS2021_Training_Data" / f"BraTS2021_{name}"
        for modality in NIFTI_NAMES:
            copy_file(source.scans[modality], scan_path(case, name, modality, images))
        copy_file(source.required_mask, case / f"BraTS2021_{name}_seg.nii.gz")
        return
    case = folder / ("train" if labelled else "test") / name
    for modality, description in SERIES_NAMES.items():
        image = _as_image(read_scan(source.scans[modality]))
        write_series(image, scan_path(case, name, modality, images), name, description)
    (case / SERIES_NAMES["FLAIR"] / STRAY).write_bytes(b"\0\0\0\1Bud1")
    if labelled:
        copy_file(source.required_mask, folder / MASKS / f"{name}.nii.gz")


def _faulty(source: Subject, folder: Path, step: int) -> Subject:
    """Return a subject with other voxels, so that included faulty cases are not duplicates."""
    scans: Mapping[str, Path] = {m: folder / f"{m}.nii.gz" for m in STRUCTURAL}
    for modality, path in scans.items():
        write_inverted_contrast(source.scans[modality], path, 0 if modality == "FLAIR" else step)
    return Subject(source.id, source.label, scans, source.required_mask)


def _remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def _as_image(scan: Scan) -> SimpleITK.Image:
    """Return the scan as 16-bit integers, as scanners write them."""
    numbers = scan.voxels.astype(np.int16)
    assert np.array_equal(numbers, scan.voxels), "fractions, or too large for 16 bits"
    image = SimpleITK.GetImageFromArray(numbers)
    spacing = scan.grid.spacing_mm[::-1]
    image.SetSpacing(spacing)
    image.SetDirection((scan.grid.affine[:3, 2::-1] / spacing).ravel().tolist())
    image.SetOrigin(scan.grid.origin_mm)
    return image
