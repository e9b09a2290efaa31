"""Reading a scan completely, from NIfTI or DICOM, into arrays of one axis order; its checks.

SimpleITK silently reads a truncated ``.nii.gz`` and fills the rest with zeros, nibabel accepts a
wrong checksum, and ITK turns NaN into 0. So the file is first decompressed completely and checked,
and nibabel reads from those bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
from collections.abc import Sequence
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
from mgmt_ray.cohort.csv_rows import join_first
from mgmt_ray.cohort.dicom import read_series
from mgmt_ray.cohort.problem import DOWNLOAD_AGAIN, VIEW_SCAN, BadScan, ProblemKind

SPACING_TOLERANCE_MM = 1e-4
ORIGIN_TOLERANCE_MM = 0.1
DIRECTION_TOLERANCE = 1e-3
"""The tolerances add up to less than half a voxel at the far corner of 240 voxels of 1 mm
(0.02 + 0.1 + 0.24), and exceed the rounding of single precision and of quaternions in NIfTI
headers."""

AXES = axcodes2ornt(("S", "P", "L"))
"""Directions of increasing depth, height and width: the order of UPENN-GBM and BraTS."""

MIN_VOXEL_VOLUME_MM3 = 1e-9
"""An affine of a smaller determinant is singular: no voxel has sides of a micrometre."""

MAX_VALUE = float(np.finfo(np.float32).max)

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

RESAMPLE_OR_EXCLUDE = (
    "Resample one to the other, set recipe.resample: true, or leave the subject out with "
    "cohort.exclude"
)

EMPTY_HASH = "empty"
"""Voxel hash of a scan that is 0 everywhere."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Size and position of an array of voxels.

    Attributes:
        shape: depth, height, width in voxels.
        affine: from (depth, height, width) indices to mm, towards left, posterior, superior.

    >>> grid = Grid((155, 240, 240), np.eye(4))
    >>> grid.spacing_mm
    (1.0, 1.0, 1.0)
    >>> grid.difference(Grid((155, 240, 240), np.diag([2.0, 1.0, 1.0, 1.0])))
    'spacing (mm) 1 1 1 against 2 1 1'
    """

    shape: tuple[int, int, int]
    affine: Float64[np.ndarray, "4 4"]

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance between voxels along depth, height and width."""
        return tuple(np.linalg.norm(self.affine[:3, :3], axis=0).tolist())

    @property
    def origin_mm(self) -> tuple[float, ...]:
        """Position of the first voxel: left, posterior, superior."""
        return tuple(self.affine[:3, 3].tolist())

    @property
    def direction(self) -> tuple[float, ...]:
        """Unit vectors of depth, height and width, one after another."""
        return tuple((self.affine[:3, :3] / self.spacing_mm).T.ravel().tolist())

    def difference(self, other: Grid) -> str:
        """Describe the first difference; empty when voxels have the same positions."""
        if self.shape != other.shape:
            return f"size {format_extents(self.shape)} against {format_extents(other.shape)} voxels"
        for name, values, other_values, tolerance in (
            ("spacing (mm)", self.spacing_mm, other.spacing_mm, SPACING_TOLERANCE_MM),
            ("origin (mm)", self.origin_mm, other.origin_mm, ORIGIN_TOLERANCE_MM),
            ("direction", self.direction, other.direction, DIRECTION_TOLERANCE),
        ):
            if not np.allclose(values, other_values, rtol=0, atol=tolerance):
                return f"{name} {_format_numbers(values)} against {_format_numbers(other_values)}"
        return ""


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """One volume.

    Attributes:
        voxels: finite, and of the file's own type where its header scales no values. Depth grows
            towards superior, height towards posterior, width towards left, as closely as swapping
            and flipping axes allows without resampling.
    """

    voxels: Shaped[np.ndarray, "depth height width"]
    grid: Grid


def read_scan(path: Path) -> Scan:
    """Read a scan or a mask and check that it is complete.

    Args:
        path: a NIfTI file, ``.nii.gz`` or ``.nii``, or the folder of one DICOM series.

    Raises:
        BadScan: missing, empty, truncated, damaged, of another format, not 3-D with one number per
            voxel, or with NaN or infinite values.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "flair.nii.gz")
    ...     nibabel.Nifti1Image(np.zeros((4, 3, 2), np.int16), np.eye(4)).to_filename(path)
    ...     scan = read_scan(path)
    >>> scan.voxels.shape, scan.grid.spacing_mm
    ((2, 3, 4), (1.0, 1.0, 1.0))
    """
    voxels, affine = read_series(path) if path.is_dir() else _read_nifti(path)
    if voxels.dtype.kind == "f":
        num_invalid = voxels.size - int(np.count_nonzero(np.abs(voxels) <= MAX_VALUE))
        if num_invalid:
            found = f"{num_invalid} voxels are NaN or infinite (in single precision)"
            raise BadScan(path, "not_finite", found, VIEW_SCAN)
    if not (np.isfinite(affine).all() and abs(np.linalg.det(affine)) > MIN_VOXEL_VOLUME_MM3):
        found = "the file is damaged (its affine is singular or not finite)"
        raise BadScan(path, "damaged", found, DOWNLOAD_AGAIN)
    transform = ornt_transform(io_orientation(affine), AXES)
    reoriented = apply_orientation(voxels, transform)
    affine = RAS_TO_LPS @ affine @ inv_ornt_aff(transform, voxels.shape)
    depth, height, width = reoriented.shape
    return Scan(reoriented, Grid((depth, height, width), affine))


def voxel_hash(scan: Scan) -> str:
    """Return the SHA-256 (hexadecimal) of the non-zero values, as sorted float32.

    A copy keeps its hash under another name, compression, number type, margin or orientation, and
    without its header: the order of voxels does not matter, and two scans of a million values do
    not share all of them by chance.

    >>> voxels = np.arange(24.0).reshape(2, 3, 4)
    >>> grid = Grid((2, 3, 4), np.eye(4))
    >>> voxel_hash(Scan(voxels, grid)) == voxel_hash(Scan(np.flip(voxels), grid))
    True
    """
    values = np.asarray(scan.voxels, dtype=np.float32).ravel()
    values = np.sort(values[values != 0])
    return hashlib.sha256(values.tobytes()).hexdigest() if values.size else EMPTY_HASH


def mask_hash(mask: Scan) -> str:
    """Return the SHA-256 (hexadecimal) of a mask's labels at their positions."""
    labels = np.ascontiguousarray(mask.voxels, dtype=np.int16)
    return hashlib.sha256(repr(labels.shape).encode() + labels.tobytes()).hexdigest()


def check_mask(mask: Scan, path: Path, labels: Sequence[int]) -> None:
    """Check that a mask marks a tumour, with known labels only.

    Args:
        labels: accepted in addition to 0 (background).

    Raises:
        BadScan: it marks no tumour, or has other labels.

    >>> mask = Scan(np.full((2, 2, 2), 3), Grid((2, 2, 2), np.eye(4)))
    >>> check_mask(mask, Path("mask.nii.gz"), (1, 2, 3, 4))
    >>> try:
    ...     check_mask(mask, Path("mask.nii.gz"), (1, 2, 4))
    ... except BadScan as error:
    ...     print(error.found)
    the mask has labels 3; known are 0, 1, 2, 4
    """
    present = np.unique(mask.voxels)
    unknown = [f"{value:g}" for value in present if value not in (0, *labels)]
    if unknown:
        known = ", ".join(map(str, (0, *labels)))
        raise BadScan(
            path,
            "unknown_mask_label",
            f"the mask has labels {join_first(unknown, 5)}; known are {known}",
            "Fix the mask, or name all its labels in cohort.mask_labels",
        )
    if not (present > 0).any():
        found = "the mask marks no tumour (no label above 0)"
        raise BadScan(path, "empty_mask", found, VIEW_SCAN)


def check_values(scan: Scan, path: Path) -> None:
    """Check that an image is not constant.

    Raises:
        BadScan: all its voxels have one value.
    """
    low = scan.voxels.min()
    if low == scan.voxels.max():
        raise BadScan(path, "constant", f"every voxel is {low:g}", VIEW_SCAN)


def check_grid(scan: Scan, mask: Scan, path: Path, mask_path: Path) -> None:
    """Check that an image and its mask are on the same grid.

    Raises:
        BadScan: size, spacing, origin or direction differ.

    >>> scan, mask = (Scan(np.ones((2, 2, 2)), Grid((2, 2, 2), np.eye(4) * s)) for s in (1, 2))
    >>> check_grid(scan, scan, Path("flair.nii.gz"), Path("mask.nii.gz"))
    >>> try:
    ...     check_grid(scan, mask, Path("flair.nii.gz"), Path("mask.nii.gz"))
    ... except BadScan as error:
    ...     print(error.found)
    is not on the grid of its mask mask.nii.gz: spacing (mm) 1 1 1 against 2 2 2
    """
    difference = scan.grid.difference(mask.grid)
    if difference:
        found = f"is not on the grid of its mask {mask_path.name}: {difference}"
        raise BadScan(path, "other_grid", found, RESAMPLE_OR_EXCLUDE)


def format_extents(extents: tuple[int, ...]) -> str:
    """Join sizes for a message.

    >>> format_extents((155, 240, 240))
    '155×240×240'
    """
    return "×".join(map(str, extents))


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels in the file's axis order, and their affine towards RAS."""
    content = _decompress(path)
    image_class = _nifti_class(content)
    if image_class is None:
        raise BadScan(
            path,
            "wrong_format",
            "is not a NIfTI file",
            "Write it as .nii.gz with the tool that made it, or give the right file",
        )
    try:
        image = image_class.from_bytes(content)
        num_bytes = math.prod(image.shape) * image.get_data_dtype().itemsize
        assert isinstance(image.dataobj, ArrayProxy)
        num_present = max(len(content) - image.dataobj.offset, 0)
        if num_present < num_bytes:
            found = f"the file is truncated ({num_present} of {num_bytes} bytes of voxels)"
            raise BadScan(path, "truncated", found, DOWNLOAD_AGAIN)
        voxels = np.asanyarray(image.dataobj)
    except (ImageFileError, HeaderDataError, ValueError, OverflowError, EOFError) as error:
        found = f"the file is damaged (its header is invalid: {first_line(error)})"
        raise BadScan(path, "damaged", found, DOWNLOAD_AGAIN) from error
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]  # a single volume, stored as a series of one
    if voxels.dtype.kind not in "biuf" or voxels.ndim != 3:
        size, dtype = format_extents(voxels.shape), voxels.dtype.name
        raise BadScan(
            path,
            "not_3d",
            f"is not a single 3-D volume (size {size}, numbers of type {dtype})",
            "Give a single map or volume of it; a raw series is not a modality",
        )
    affine = np.asarray(image.affine, dtype=np.float64)
    return voxels, affine


def _nifti_class(content: bytes) -> type[nibabel.Nifti1Image] | None:
    """Return the class for the header's size and magic (nifti1.h, nifti2.h); None if not NIfTI."""
    size = (content[:4], content[:4][::-1])
    if struct.pack("<i", 348) in size and content[344:348] == b"n+1\0":
        return nibabel.Nifti1Image
    if struct.pack("<i", 540) in size and content[4:8] == b"n+2\0":
        return nibabel.Nifti2Image
    return None


def _decompress(path: Path) -> bytes:
    """Return the decompressed content; gzip's own length and checksum are verified."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = igzip.decompress(content)
    except FileNotFoundError as error:
        raise BadScan(path, "no_file", "no such file", DOWNLOAD_AGAIN) from error
    except EOFError as error:
        found = "the file is truncated (its gzip stream does not end, or other bytes follow it)"
        raise BadScan(path, "truncated", found, DOWNLOAD_AGAIN) from error
    except (gzip.BadGzipFile, IsalError) as error:  # type: ignore[misc] # stub: a value
        kind: ProblemKind = "wrong_checksum" if "CRC" in str(error) else "damaged"
        raise BadScan(path, kind, f"the file is damaged ({error})", DOWNLOAD_AGAIN) from error
    except OSError as error:
        found = f"cannot be read ({error.strerror or error})"
        remedy = "Check its permissions and the disk, then rerun the command"
        raise BadScan(path, "unreadable", found, remedy) from error
    if not content:
        raise BadScan(path, "empty_file", "the file is empty", DOWNLOAD_AGAIN)
    return content


def _format_numbers(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:g}" for number in numbers)
