"""Reading a scan whole, from NIfTI or DICOM, with array axes that mean the same everywhere.

SimpleITK reads a truncated ``.nii.gz`` without a word and fills the rest with zeros, nibabel
accepts a wrong checksum, and ITK turns NaN into 0. So the file is decompressed whole and checked
first, once, and nibabel reads from those bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from jaxtyping import Float64, Shaped
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from nibabel.spatialimages import HeaderDataError

from mgmt_ray.base import first_line
from mgmt_ray.cohort.dicom import read_series
from mgmt_ray.cohort.problem import DOWNLOAD_AGAIN, VIEW_SCAN, BadScan, ProblemKind

SPACING_TOLERANCE_MM = 1e-4
ORIGIN_TOLERANCE_MM = 0.1
DIRECTION_TOLERANCE = 1e-3
"""Together less than half a voxel at the far corner of 240 voxels of 1 mm (0.02 + 0.1 + 0.24);
more than single precision and a quaternion's fourth component lose in a NIfTI header."""

AXES = axcodes2ornt(("S", "P", "L"))
"""Towards which side an array's depth, height and width grow: the order of UPENN-GBM and BraTS."""

TINY = 1e-9
"""Below this determinant an affine is singular: voxels of a nanometre do not exist."""

LARGEST = float(np.finfo(np.float32).max)

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

EMPTY_HASH = "empty"


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where voxels lie.

    Attributes:
        shape: depth, height, width in voxels.
        affine: from (depth, height, width) indices to mm, towards left, posterior, superior.
    """

    shape: tuple[int, int, int]
    affine: Float64[np.ndarray, "4 4"]

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance between voxels along depth, height and width."""
        return tuple(np.linalg.norm(self.affine[:3, :3], axis=0).tolist())

    @property
    def origin_mm(self) -> tuple[float, ...]:
        """Where the first voxel is: left, posterior, superior."""
        return tuple(self.affine[:3, 3].tolist())

    @property
    def direction(self) -> tuple[float, ...]:
        """Unit vectors of depth, height and width, one after another."""
        return tuple((self.affine[:3, :3] / self.spacing_mm).T.ravel().tolist())

    def difference(self, other: Grid) -> str:
        """In words what differs; empty when voxels lie in the same places."""
        if self.shape != other.shape:
            return f"size {format_extents(self.shape)} against {format_extents(other.shape)} voxels"
        for what, mine, others, tolerance in (
            ("spacing (mm)", self.spacing_mm, other.spacing_mm, SPACING_TOLERANCE_MM),
            ("origin (mm)", self.origin_mm, other.origin_mm, ORIGIN_TOLERANCE_MM),
            ("direction", self.direction, other.direction, DIRECTION_TOLERANCE),
        ):
            if not np.allclose(mine, others, rtol=0, atol=tolerance):
                return f"{what} {_format_numbers(mine)} against {_format_numbers(others)}"
        return ""


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """One volume.

    Attributes:
        voxels: [depth, height, width], of the file's own type where it has no scaling; finite.
            Depth grows towards superior, height towards posterior, width towards left, as closely
            as axes can be exchanged and turned round without resampling.
        grid: where they lie.
    """

    voxels: Shaped[np.ndarray, "depth height width"]
    grid: Grid


def read_scan(path: Path) -> Scan:
    """Read a scan or a mask after making sure that it is whole.

    Args:
        path: a NIfTI file, ``.nii.gz`` or ``.nii``, or the folder of one DICOM series.

    Raises:
        BadScan: not there, empty, truncated, damaged, of another format, not 3-D with one number
            per voxel, or with values that are not finite.
    """
    voxels, affine = read_series(path) if path.is_dir() else _read_nifti(path)
    if voxels.dtype.kind == "f":
        num_strange = voxels.size - int(np.count_nonzero(np.abs(voxels) <= LARGEST))
        if num_strange:
            found = f"{num_strange} voxels are NaN or infinite (in single precision)"
            raise BadScan(path, "not_finite", found, VIEW_SCAN)
    if not (np.isfinite(affine).all() and abs(np.linalg.det(affine)) > TINY):
        found = "the file is damaged (its header gives voxels no place)"
        raise BadScan(path, "damaged", found, DOWNLOAD_AGAIN)
    turn = ornt_transform(io_orientation(affine), AXES)
    turned = apply_orientation(voxels, turn)
    affine = RAS_TO_LPS @ affine @ inv_ornt_aff(turn, voxels.shape)
    depth, height, width = turned.shape
    return Scan(turned, Grid((depth, height, width), affine))


def voxel_hash(scan: Scan) -> str:
    """SHA-256 (hexadecimal) of the values that are not 0, as float32 in the order of their size.

    A copy keeps it under another name, compression, number type, margin or orientation, even where
    its header was lost: the order of voxels does not matter, and two scans of a million values do
    not agree in all of them by chance.
    """
    values = np.asarray(scan.voxels, dtype=np.float32).ravel()
    values = np.sort(values[values != 0])
    return hashlib.sha256(values.tobytes()).hexdigest() if values.size else EMPTY_HASH


def mask_hash(mask: Scan) -> str:
    """SHA-256 (hexadecimal) of where a mask marks tumour and how; its place counts."""
    labels = np.ascontiguousarray(mask.voxels, dtype=np.int16)
    return hashlib.sha256(repr(labels.shape).encode() + labels.tobytes()).hexdigest()


def format_extents(extents: tuple[int, ...]) -> str:
    """Sizes as ``155×240×240``."""
    return "×".join(map(str, extents))


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels by (width, height, depth) as the file has them, and their affine towards RAS."""
    content = _decompress(path)
    kind = _nifti_version(content)
    if kind is None:
        raise BadScan(
            path,
            "wrong_format",
            "is not a NIfTI file",
            "Write it as .nii.gz with the tool that made it, or give the right file",
        )
    try:
        image = kind.from_bytes(content)
        wanted = math.prod(image.shape) * image.get_data_dtype().itemsize
        assert isinstance(image.dataobj, ArrayProxy)
        length = max(len(content) - image.dataobj.offset, 0)
        if length < wanted:
            found = f"the file is truncated ({length} of {wanted} bytes of voxels)"
            raise BadScan(path, "truncated", found, DOWNLOAD_AGAIN)
        voxels = np.asanyarray(image.dataobj)
    except (ImageFileError, HeaderDataError, ValueError, OverflowError, EOFError) as error:
        found = f"the file is damaged (its header makes no sense: {first_line(error)})"
        raise BadScan(path, "damaged", found, DOWNLOAD_AGAIN) from error
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]  # a single volume, told as a series of one
    if voxels.dtype.kind not in "biuf" or voxels.ndim != 3:
        size, kind_of_number = format_extents(voxels.shape), voxels.dtype.name
        raise BadScan(
            path,
            "not_3d",
            f"is no single 3-D volume (size {size}, numbers of type {kind_of_number})",
            "Give one map or volume of it; a raw series is not a modality",
        )
    affine = np.asarray(image.affine, dtype=np.float64)
    return voxels, affine


def _nifti_version(content: bytes) -> type[nibabel.Nifti1Image] | None:
    """The version by size and magic number (nifti1.h and nifti2.h); None for other formats."""
    size = (content[:4], content[:4][::-1])
    if struct.pack("<i", 348) in size and content[344:348] == b"n+1\0":
        return nibabel.Nifti1Image
    if struct.pack("<i", 540) in size and content[4:8] == b"n+2\0":
        return nibabel.Nifti2Image
    return None


def _decompress(path: Path) -> bytes:
    """The whole content, decompressed; gzip's own length and checksum are compared on the way."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = igzip.decompress(content)
    except FileNotFoundError as error:
        raise BadScan(path, "no_file", "no such file", DOWNLOAD_AGAIN) from error
    except EOFError as error:
        found = "the file is truncated (its gzip stream has no end, or something follows it)"
        raise BadScan(path, "truncated", found, DOWNLOAD_AGAIN) from error
    except (gzip.BadGzipFile, IsalError) as error:  # type: ignore[misc] # stub: a value
        kind: ProblemKind = "wrong_checksum" if "CRC" in str(error) else "damaged"
        raise BadScan(path, kind, f"the file is damaged ({error})", DOWNLOAD_AGAIN) from error
    except OSError as error:
        found = f"cannot be read ({error.strerror or error})"
        remedy = "Look at its permissions and at the disk, then repeat the command"
        raise BadScan(path, "unreadable", found, remedy) from error
    if not content:
        raise BadScan(path, "empty_file", "the file is empty", DOWNLOAD_AGAIN)
    return content


def _format_numbers(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:g}" for number in numbers)
