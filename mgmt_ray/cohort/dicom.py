"""Reading a folder's single DICOM series completely, through SimpleITK.

GDCM silently skips a file that it cannot read, and ITK spreads the remaining slices over the extent
of all. So every file is accounted for, and each slice's own position is compared with its position
in the volume.
"""

from __future__ import annotations

import locale
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK

from mgmt_ray.cohort.dataset_files import missing_reason
from mgmt_ray.cohort.problem import DOWNLOAD_AGAIN, BadScan

POSITION_TOLERANCE = 0.1
"""As a fraction of the slice distance; positions are rounded in their tags, and a missing slice
moves its neighbours by about half the distance."""

SAME_POSITION_MM = 0.01
ONE_PER_SLICE = (
    "Keep one file per slice in the folder, or leave the subject out with cohort.exclude"
)
ONE_SERIES = "Keep one series in the folder, or leave the subject out with cohort.exclude"

ORIENTATION, POSITION = "0020|0037", "0020|0032"
SIZE = ("0028|0010", "0028|0011")
PIXEL_FORMAT = ("0028|0100", "0028|0103", "0028|1052", "0028|1053")
"""Bits stored, signedness, rescale intercept and slope."""


def read_series(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the single series of a folder.

    Files that are not DICOM (without the suffix ``.dcm`` and without DICOM's magic bytes) are
    ignored. A missing first or last slice cannot be detected: no tag holds the number of slices.

    Returns:
        Voxels [width, height, depth], and the affine from their indices to mm towards right,
        anterior, superior, as nibabel gives them.

    Raises:
        BadScan: no series or several, a truncated or damaged file, or slices that are missing,
            duplicated, unevenly spaced, or of different sizes or directions.
    """
    image, slices = _decode(folder, _series_files(folder))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    if slices:
        _check_sizes(folder, slices)
        _check_positions(folder, slices, affine)
    voxels = SimpleITK.GetArrayFromImage(image).T
    return voxels, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _decode(folder: Path, names: list[str]) -> tuple[SimpleITK.Image, list[dict[str, str]]]:
    """Return the volume, and the tags of each slice where there is more than one file."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(folder / name) for name in names])
    reader.MetaDataDictionaryArrayUpdateOn()
    try:
        with quiet_itk():
            image = reader.Execute()
            slices = [_tags(reader, i) for i in range(len(names))] if len(names) > 1 else []
            if len({tuple(tags.get(key, "") for key in PIXEL_FORMAT) for tags in slices}) > 1:
                # ITK would convert every slice to the first one's pixel type
                reader.SetOutputPixelType(SimpleITK.sitkFloat64)
                image = reader.Execute()
    except RuntimeError as error:
        _check_sizes(folder, [_file_tags(folder / name) for name in names])
        found = "the series is damaged (SimpleITK cannot decode it)"
        raise BadScan(folder, "damaged", found, DOWNLOAD_AGAIN) from error
    if image.GetNumberOfComponentsPerPixel() > 1:
        found = "has colours as voxels, not single numbers"
        raise BadScan(folder, "not_3d", found, "Give the series as it left the scanner")
    return image, slices


def _series_files(folder: Path) -> list[str]:
    """Return the file names of the folder's single series, sorted by position."""
    files = sorted(p.name for p in folder.iterdir() if _is_dicom(p))
    if not files:
        raise BadScan(folder, "wrong_format", "holds no DICOM files", DOWNLOAD_AGAIN)
    with quiet_itk():
        series = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        if len(series) > 1:
            found = f"holds {len(series)} DICOM series instead of one"
            raise BadScan(folder, "wrong_format", found, ONE_SERIES)
        paths = (
            SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])
            if series
            else ()
        )
    names = [Path(path).name for path in paths]
    unread = [name for name in files if name not in set(names)]
    if unread:
        raise _unread_files_error(folder, unread, len(files))
    return names


def _unread_files_error(folder: Path, unread: list[str], num_files: int) -> BadScan:
    first = folder / unread[0]
    more = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
    which = f"{first.name}{more} of {num_files} files"
    if not first.stat().st_size:
        return BadScan(folder, "empty_file", f"{which}: empty", DOWNLOAD_AGAIN)
    if not _has_magic(first):
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


def _tags(reader: SimpleITK.ImageSeriesReader, number: int) -> dict[str, str]:
    return {
        key: reader.GetMetaData(number, key).strip()
        for key in (ORIENTATION, POSITION, *SIZE, *PIXEL_FORMAT)
        if reader.HasMetaDataKey(number, key)
    }


def _file_tags(path: Path) -> dict[str, str]:
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return {key: reader.GetMetaData(key).strip() for key in SIZE if reader.HasMetaDataKey(key)}


def _check_sizes(folder: Path, slices: list[dict[str, str]]) -> None:
    sizes = sorted({"×".join(tags.get(key, "?") for key in SIZE) for tags in slices})
    if len(sizes) > 1:
        found = f"has slices of different sizes ({', '.join(sizes)})"
        raise BadScan(folder, "wrong_format", found, ONE_SERIES)


def _check_positions(folder: Path, slices: list[dict[str, str]], affine: np.ndarray) -> None:
    """Compare the direction and position in each slice's tags with the volume's."""
    try:
        directions = np.array([_tag_numbers(tags, ORIENTATION, 6) for tags in slices])
        positions = np.array([_tag_numbers(tags, POSITION, 3) for tags in slices])
    except (KeyError, ValueError) as error:
        found = "has slices without a position (ImagePositionPatient)"
        raise BadScan(folder, "damaged", found, DOWNLOAD_AGAIN) from error
    if np.ptp(directions, axis=0).max() > POSITION_TOLERANCE:
        raise BadScan(folder, "wrong_format", "has slices of different directions", ONE_SERIES)
    # where two slices share a position, GDCM returns the files in another order
    along = positions @ np.cross(directions[0, :3], directions[0, 3:])
    ordered = positions[np.argsort(along, kind="stable")]
    gaps_mm = np.linalg.norm(np.diff(ordered, axis=0), axis=1)
    num_duplicates = int(np.sum(gaps_mm < SAME_POSITION_MM))
    if num_duplicates:
        found = (
            f"has several slices at one position ({num_duplicates} of its {len(positions)} files)"
        )
        raise BadScan(folder, "not_3d", found, ONE_PER_SLICE)
    gap_mm = float(np.median(gaps_mm))
    expected = affine[:3, 3] + np.outer(np.arange(len(positions)), affine[:3, 2])
    if np.linalg.norm(positions - expected, axis=1).max() <= POSITION_TOLERANCE * gap_mm:
        return
    num_missing = int(np.sum(np.round(gaps_mm / gap_mm) - 1))
    if num_missing > 0:
        found = f"{num_missing} slices are missing between its {len(positions)} files"
        raise BadScan(folder, "truncated", found, DOWNLOAD_AGAIN)
    found = f"its slices are not evenly spaced ({gaps_mm.min():g} to {gaps_mm.max():g} mm)"
    remedy = "Resample it to even slices, or leave the subject out with cohort.exclude"
    raise BadScan(folder, "wrong_format", found, remedy)


def _tag_numbers(tags: Mapping[str, str], key: str, number: int) -> list[float]:
    values = [float(text) for text in tags[key].split("\\")]
    if len(values) != number:
        raise ValueError(key)
    return values


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
