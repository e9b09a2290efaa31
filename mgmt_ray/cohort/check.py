"""Whether scans and masks are sound, and belong together.

SimpleITK reads a truncated ``.nii.gz`` without a word and fills the rest with zeros, and nibabel
accepts a wrong checksum; only decompressing the whole file finds both. SimpleITK's NIfTI reader
turns NaN into 0, so numbers are looked at in the file's own bytes. Neither library minds a series
of several volumes, or an image of one value.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import SimpleITK

from mgmt_ray.base import MgmtError

CHUNK_BYTES = 1 << 22
"""A multiple of every number's size, so that no number is cut in two."""

MOST_HEADER_BYTES = 1 << 28
"""Header and extensions; what claims more is damaged."""

HEADER_BYTES = 348
"""Of NIfTI-1, which begins with this very number (nifti1.h)."""

SPACING_TOLERANCE_MM = 1e-4
ORIGIN_TOLERANCE_MM = 0.1
DIRECTION_TOLERANCE = 1e-3
"""Together less than half a voxel at the far corner of 240 voxels of 1 mm (0.02 + 0.1 + 0.24);
more than single precision and a quaternion's fourth component lose in a NIfTI header."""


class BadScan(MgmtError):
    """A scan or mask that must not be used as it is."""

    def __init__(self, path: Path, found: str, remedy: str) -> None:
        super().__init__(f"{path}: {found}. {remedy}")


GET_AGAIN = "Copy or download the file again, or leave the subject out with cohort.exclude."
LOOK_AT_IT = "Look at it in a viewer; mend it, or leave the subject out with cohort.exclude."


def read_scan(path: Path) -> SimpleITK.Image:
    """Read a scan or a mask after making sure that the file is whole.

    Args:
        path: a NIfTI-1 file, ``.nii.gz`` or ``.nii``.

    Returns:
        A 3-D image with one finite number per voxel.

    Raises:
        BadScan: no such file, empty, truncated, damaged, not NIfTI-1, not 3-D with one number per
            voxel, or with values that are not finite.
    """
    _check_bytes(path)
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise BadScan(path, f"cannot be read ({reason})", GET_AGAIN) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise BadScan(
            path,
            f"is no single 3-D volume (size {_times(image.GetSize())}, "
            f"{image.GetNumberOfComponentsPerPixel()} numbers per voxel)",
            "Give one map or volume of it; a raw series is not a modality.",
        )
    return image


def check_pair(
    image: SimpleITK.Image, mask: SimpleITK.Image, image_path: Path, mask_path: Path
) -> None:
    """Make sure that an image says something and that its mask marks a tumour on the same grid.

    Args:
        image: from :func:`read_scan`.
        mask: from :func:`read_scan`; the tumour is where it is above 0.
        image_path: for the message.
        mask_path: for the message.

    Raises:
        BadScan: the image has one value only, size, spacing, origin or direction differ, or the
            mask is empty.
    """
    values = SimpleITK.GetArrayViewFromImage(image)
    if values.min() == values.max():
        raise BadScan(image_path, f"every voxel is {values.min():g}", LOOK_AT_IT)
    difference = _difference(image, mask)
    if difference:
        raise BadScan(
            image_path,
            f"is not on the grid of its mask {mask_path.name}: {difference}",
            "Resample one to the other, or leave the subject out with cohort.exclude.",
        )
    if not (SimpleITK.GetArrayViewFromImage(mask) > 0).any():
        raise BadScan(mask_path, "the mask marks no tumour (no label above 0)", LOOK_AT_IT)


def _difference(image: SimpleITK.Image, mask: SimpleITK.Image) -> str:
    if image.GetSize() != mask.GetSize():
        return f"size {_times(image.GetSize())} against {_times(mask.GetSize())} voxels"
    for what, of_image, of_mask, tolerance in (
        ("spacing (mm)", image.GetSpacing(), mask.GetSpacing(), SPACING_TOLERANCE_MM),
        ("origin (mm)", image.GetOrigin(), mask.GetOrigin(), ORIGIN_TOLERANCE_MM),
        ("direction", image.GetDirection(), mask.GetDirection(), DIRECTION_TOLERANCE),
    ):
        if not np.allclose(of_image, of_mask, rtol=0, atol=tolerance):
            return f"{what} {_listed(of_image)} against {_listed(of_mask)}"
    return ""


def _check_bytes(path: Path) -> None:
    if not path.is_file():
        raise BadScan(path, "no such file", GET_AGAIN)
    if path.stat().st_size == 0:
        raise BadScan(path, "the file is empty", GET_AGAIN)
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    _check_content(path, unpacked)
            else:
                _check_content(path, file)
    except EOFError as error:
        found = "the file is truncated (its gzip stream has no end)"
        raise BadScan(path, found, GET_AGAIN) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BadScan(path, f"the file is damaged ({error})", GET_AGAIN) from error
    except OSError as error:
        raise BadScan(path, f"cannot be read ({error.strerror or error})", GET_AGAIN) from error


def _check_content(path: Path, file: io.BufferedIOBase) -> None:
    """Read to the end, which also compares gzip's checksum, and look at each number."""
    start, number, dtype = _numbers_by_header(path, file.read(HEADER_BYTES))
    file.read(start - HEADER_BYTES)
    wanted, length, num_strange = number * dtype.itemsize, 0, 0
    while chunk := file.read(CHUNK_BYTES):
        if dtype.kind == "f":
            whole = max(0, min(len(chunk), wanted - length)) // dtype.itemsize
            values = np.frombuffer(chunk, dtype, whole)
            num_strange += whole - int(np.count_nonzero(np.isfinite(values)))
        length += len(chunk)
    if length < wanted:
        found = f"the file is truncated ({length} of {wanted} bytes of voxels)"
        raise BadScan(path, found, GET_AGAIN)
    if num_strange:
        raise BadScan(path, f"{num_strange} voxels are NaN or infinite", LOOK_AT_IT)


def _numbers_by_header(path: Path, header: bytes) -> tuple[int, int, np.dtype[np.generic]]:
    """Where a NIfTI-1 file's numbers begin, how many and of which type (offsets of nifti1.h)."""
    order = {struct.pack(o + "i", HEADER_BYTES): o for o in "<>"}.get(header[:4])
    if order is None or len(header) < HEADER_BYTES or header[344:348] != b"n+1\0":
        raise BadScan(
            path,
            "is not a NIfTI-1 file",
            "Write it as .nii.gz with the tool that made it, or give the right file.",
        )
    dimensions = struct.unpack_from(order + "8h", header, 40)
    datatype, bits = struct.unpack_from(order + "2h", header, 70)
    (offset,) = struct.unpack_from(order + "f", header, 108)
    possible = 1 <= dimensions[0] <= 7 and min(dimensions[1 : dimensions[0] + 1]) > 0
    if not (possible and bits % 8 == 0 and HEADER_BYTES <= offset < MOST_HEADER_BYTES):
        raise BadScan(path, "the file is damaged (its header makes no sense)", GET_AGAIN)
    floats = {16: "f4", 64: "f8"}
    dtype = np.dtype(order + floats.get(datatype, f"V{bits // 8}"))
    return int(offset), math.prod(dimensions[1 : dimensions[0] + 1]), dtype


def _times(extents: tuple[int, ...]) -> str:
    return "×".join(map(str, extents))


def _listed(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:g}" for number in numbers)
