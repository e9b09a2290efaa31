"""Reading a folder's single DICOM series completely, through SimpleITK.

GDCM silently skips a file that it cannot read, ITK spreads the remaining slices over the extent of
all and takes the first slice's spacing for all. So every file is accounted for, and the volume is
put together from what each slice says of its own place.
"""

from __future__ import annotations

import locale
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK

from mgmt_ray.base import placeholder_fault
from mgmt_ray.cohort.dataset_files import missing_reason
from mgmt_ray.cohort.dicom.headers import (
    holds_no_slice,
    is_multi_frame,
    missing_bytes,
    read_header,
    unknown_compression,
)
from mgmt_ray.cohort.dicom.multi_frame import read_frames
from mgmt_ray.cohort.dicom.slice_stack import ONE_SERIES, SlicePlane, stack_slices
from mgmt_ray.cohort.problem import DOWNLOAD_AGAIN, BadScan

ORIENTATION, POSITION = "0020|0037", "0020|0032"

PIXEL_FORMAT = ("BitsStored", "PixelRepresentation", "RescaleIntercept", "RescaleSlope")

DECOMPRESS = "Decompress it (for instance with gdcmconv --raw or dcmdjpls), or export it again"


def read_series(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the single series of a folder.

    Ignored are files that are not DICOM (without the suffix ``.dcm`` and without DICOM's magic
    bytes), and objects that hold no slices: segmentations, presentation states, reports. A missing
    first or last slice cannot be detected where no tag holds the number of slices.

    Returns:
        Voxels [width, height, depth], and the affine from their indices to mm towards right,
        anterior, superior, as nibabel gives them.

    Raises:
        BadScan: no series or several, a truncated or damaged file, or slices that are missing,
            duplicated, unevenly spaced, shifted, or of different sizes, spacings or directions.
    """
    with warnings.catch_warnings(action="ignore"):  # of tags that break the standard's rules
        headers = _series_files(folder)
        _check_pixels(folder, headers)
        if any(map(is_multi_frame, headers.values())):
            return read_frames(folder, headers, lambda name: _decode(folder, [name], headers))
        planes = [SlicePlane.of(header, header, header) for header in headers.values()]
        order, affine = stack_slices(folder, planes, "files")
        names = [[*headers][index] for index in order]
        return _decode(folder, names, headers).T, affine


def _decode(folder: Path, names: list[str], headers: Mapping[str, pydicom.Dataset]) -> np.ndarray:
    """Return the voxels of files, [slice, row, column]."""
    paths = [str(folder / name) for name in names]
    # ITK would convert every slice to the first one's pixel type
    formats = {tuple(str(headers[name].get(tag)) for tag in PIXEL_FORMAT) for name in names}
    pixel_type = SimpleITK.sitkFloat64 if len(formats) > 1 else SimpleITK.sitkUnknown
    try:
        with quiet_itk():
            image = SimpleITK.ReadImage(paths if len(paths) > 1 else paths[0], pixel_type)
    except RuntimeError as error:
        found = "the series is damaged (SimpleITK cannot decode it)"
        raise BadScan(folder, "damaged", found, DOWNLOAD_AGAIN) from error
    if image.GetNumberOfComponentsPerPixel() > 1:
        found = "has colours as voxels, not single numbers"
        raise BadScan(folder, "not_3d", found, "Give the series as it left the scanner")
    return SimpleITK.GetArrayFromImage(image)


def _series_files(folder: Path) -> dict[str, pydicom.Dataset]:
    """Return the headers of the files of the folder's single series, by file name."""
    files = sorted(p.name for p in folder.iterdir() if _is_dicom(p))
    if not files:
        below = next((p.name for p in sorted(folder.iterdir()) if p.is_dir()), "")
        remedy = f"Give the folder of the series, like {below} in it" if below else DOWNLOAD_AGAIN
        raise BadScan(folder, "wrong_format", "holds no DICOM files", remedy)
    headers = {name: read_header(folder / name) for name in files}
    slices = {name: header for name, header in headers.items() if not holds_no_slice(header)}
    if not slices:
        found = f"holds no slices: its {len(files)} DICOM files are segmentations, reports or such"
        raise BadScan(folder, "wrong_format", found, "Give the series of the scan")
    for name, header in slices.items():
        if syntax := unknown_compression(header):
            found = f"{name}: its compression cannot be read ({syntax})"
            raise BadScan(folder, "wrong_format", found, DECOMPRESS)
    series = [[n for n in names if n in slices] for names in _series_of_gdcm(folder)]
    series = [names for names in series if names]
    if len(series) > 1:
        found = f"holds {len(series)} DICOM series instead of one"
        raise BadScan(folder, "wrong_format", found, ONE_SERIES)
    unread = [name for name in slices if not series or name not in set(series[0])]
    if unread:
        raise _unread_files_error(folder, unread, len(slices))
    return slices


def _series_of_gdcm(folder: Path) -> list[list[str]]:
    """Return the names of the files that GDCM can read completely, by series."""
    reader = SimpleITK.ImageSeriesReader
    try:
        with quiet_itk():
            ids = reader.GetGDCMSeriesIDs(str(folder))
            series = [reader.GetGDCMSeriesFileNames(str(folder), name) for name in ids]
    except RuntimeError as error:
        found = "the series is damaged (GDCM cannot read its tags)"
        raise BadScan(folder, "damaged", found, DOWNLOAD_AGAIN) from error
    return [[Path(path).name for path in paths] for paths in series]


def _unread_files_error(folder: Path, unread: list[str], num_files: int) -> BadScan:
    first = folder / unread[0]
    more = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
    which = f"{first.name}{more} of {num_files} files"
    if not first.stat().st_size:
        return BadScan(folder, "empty_file", f"{which}: empty", DOWNLOAD_AGAIN)
    if not _has_magic(first):
        with first.open("rb") as file:
            fault = placeholder_fault(file.read(1024))
        if fault:
            return BadScan(folder, "wrong_format", f"{which}: {fault[0]}", fault[1])
        found = f"{which}: damaged, does not start like a DICOM file"
        return BadScan(folder, "damaged", found, DOWNLOAD_AGAIN)
    return BadScan(folder, "truncated", f"{which}: truncated, or without an image", DOWNLOAD_AGAIN)


def _is_dicom(path: Path) -> bool:
    if path.name.startswith(".") or path.name == "DICOMDIR":
        return False
    if path.is_symlink() and (fault := missing_reason(path)):
        found, remedy = fault
        raise BadScan(path.parent, "no_file", f"{path.name}: {found}", remedy)
    if not path.is_file():
        return False
    return path.suffix.lower() == ".dcm" or _has_magic(path)


def _has_magic(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError as error:
        found = f"{path.name} cannot be read ({error.strerror or error})"
        raise BadScan(path.parent, "damaged", found, DOWNLOAD_AGAIN) from error


def _check_pixels(folder: Path, headers: Mapping[str, pydicom.Dataset]) -> None:
    """Check that all slices have one size, one number per pixel, and values that grow with light.

    Raises:
        BadScan: they have not, or an image is a mosaic of slices.
    """
    sizes = sorted({f"{h.get('Rows', '?')}×{h.get('Columns', '?')}" for h in headers.values()})
    if len(sizes) > 1:
        found = f"has slices of different sizes ({', '.join(sizes)})"
        raise BadScan(folder, "wrong_format", found, ONE_SERIES)
    for name, header in headers.items():
        if fault := missing_bytes(header):
            found = f"{name} is truncated ({fault})"
            raise BadScan(folder, "truncated", found, DOWNLOAD_AGAIN)
        if "MOSAIC" in map(str, header.get("ImageType") or ()):
            found = f"{name} is a mosaic: one image with all slices of a volume as tiles"
            remedy = "Convert it with dcm2niix, or export it as one image per slice"
            raise BadScan(folder, "not_3d", found, remedy)
        if header.get("PhotometricInterpretation") == "MONOCHROME1":
            found = f"{name} is inverted: its low values are bright (MONOCHROME1)"
            remedy = "Export it as MONOCHROME2, like the other scans"
            raise BadScan(folder, "wrong_format", found, remedy)


@contextmanager
def quiet_itk() -> Iterator[None]:
    """Silence ITK's warnings, whose causes are raised as errors here, and restore the locale.

    Writing DICOM sets the process's locale to C, in which Python reads text files as ASCII.
    """
    shows_warnings = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    previous_locale = locale.setlocale(locale.LC_ALL)
    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(shows_warnings)
        locale.setlocale(locale.LC_ALL, previous_locale)
