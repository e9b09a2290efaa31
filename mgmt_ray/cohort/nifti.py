"""Reading a NIfTI file completely: its voxels, and the two forms by which a header places them.

SimpleITK silently reads a truncated ``.nii.gz`` and fills the rest with zeros, nibabel accepts a
wrong checksum, and ITK turns NaN into 0. So the file is first decompressed completely and checked,
and nibabel reads from those bytes.
"""

from __future__ import annotations

import gzip
import io
import logging
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from jaxtyping import Float64, Shaped
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from mgmt_ray.base import first_line, placeholder_fault
from mgmt_ray.cohort.dataset_files import missing_reason
from mgmt_ray.cohort.problem import DOWNLOAD_AGAIN, BadScan, ProblemKind
from mgmt_ray.cohort.subject import Form

SILENT = logging.getLogger("mgmt_ray.nifti")
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False

UNIT_MM = {1: 1000.0, 3: 0.001}
"""Millimetres of the header's unit of length (nifti1.h): metre, micrometre. Any other code means
millimetres, as it does to other readers; spacings that no scanner has are refused later."""

UNIT_BITS = 7

TWO_FILES = "Write image and header as one .nii.gz, for instance with fslchfiletype NIFTI_GZ"
CONVERT = "Convert it to .nii.gz, or give the right file"
FOREIGN_CONTENT: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x1f\x8b", "is compressed twice", "Decompress it once"),
    (0, b"PK\x03\x04", "is a zip archive", "Unpack it, and give the file in it"),
    (0, b"BZh", "is compressed with bzip2", CONVERT),
    (0, b"\xfd7zXZ\0", "is compressed with xz", CONVERT),
    (0, b"\x28\xb5\x2f\xfd", "is compressed with Zstandard", CONVERT),
    (0, b"NRRD0", "is an NRRD file", CONVERT),
    (0, b"\x89HDF", "is an HDF5 file (as of MINC 2 or Matlab)", CONVERT),
    (0, b"\x93NUMPY", "is an array of NumPy, without a position in space", CONVERT),
    (0, b"ObjectType", "is a MetaImage header", CONVERT),
    (0, b"\0\0\0\1", "looks like an image of FreeSurfer (.mgh)", CONVERT),
    (128, b"DICM", "is a single DICOM file", "Give the folder of its series, or convert it"),
    (257, b"ustar", "is a tar archive", "Unpack it, and give the file in it"),
    (344, b"ni1\0", "is the header of a NIfTI pair (.hdr and .img)", TWO_FILES),
    (4, b"ni2\0", "is the header of a NIfTI pair (.hdr and .img)", TWO_FILES),
)
"""Offset and bytes by which a file that is no NIfTI file is recognised, what it is, and what to
do; :func:`mgmt_ray.base.placeholder_fault` knows what stands in the place of any file."""


@dataclass(frozen=True, slots=True, eq=False)
class NiftiFile:
    """The content of a NIfTI file.

    Attributes:
        voxels: in the file's axis order.
        forms: from indices to mm towards right, anterior, superior; None where the header's numbers
            make no affine.
        declared: the forms whose code is above 0.
        unit_mm: millimetres of the unit in which the header counts.
    """

    voxels: Shaped[np.ndarray, "width height depth"]
    forms: Mapping[Form, Float64[np.ndarray, "4 4"] | None]
    declared: tuple[Form, ...]
    unit_mm: float


def read_nifti(path: Path) -> NiftiFile:
    """Read a single NIfTI file, ``.nii.gz`` or ``.nii``.

    Raises:
        BadScan: missing, empty, truncated, damaged, of another format, or not 3-D with one number
            per voxel.
    """
    content = _decompress(path)
    image_class = _nifti_class(content)
    if image_class is None:
        raise _other_format(path, content)
    try:
        content = _with_sound_offset(path, content, image_class)
        # not the image itself, which would not be made of a broken form beside a sound one
        header = image_class.header_class.from_fileobj(io.BytesIO(content), check=False)
        header.check_fix(logger=SILENT)  # raises as the image would, without lines of its own
        proxy = ArrayProxy(io.BytesIO(content), header)
        num_bytes = math.prod(proxy.shape) * proxy.dtype.itemsize
        num_present = max(len(content) - proxy.offset, 0)
        if num_present < num_bytes:
            found = f"the file is truncated ({num_present} of {num_bytes} bytes of voxels)"
            raise BadScan(path, "truncated", found, DOWNLOAD_AGAIN)
        voxels = np.asanyarray(proxy)
    except (ImageFileError, HeaderDataError, ValueError, OverflowError, EOFError) as error:
        found = f"the file is damaged (its header is invalid: {first_line(error)})"
        raise BadScan(path, "damaged", found, DOWNLOAD_AGAIN) from error
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]  # a single volume, stored as a series of one
    if voxels.dtype.kind not in "biuf" or voxels.ndim != 3:
        size, dtype = "×".join(map(str, voxels.shape)), voxels.dtype.name
        raise BadScan(
            path,
            "not_3d",
            f"is not a single 3-D volume (size {size}, numbers of type {dtype})",
            "Give a single map or volume of it; a raw series is not a modality",
        )
    unit_mm = UNIT_MM.get(int(header["xyzt_units"]) & UNIT_BITS, 1.0)
    codes: dict[Form, int] = {f: int(header[f"{f}_code"]) for f in ("sform", "qform")}
    return NiftiFile(
        voxels,
        {form: _affine_mm(header, form, unit_mm) for form in codes},
        tuple(form for form, code in codes.items() if code > 0),
        unit_mm,
    )


def _affine_mm(
    header: nibabel.Nifti1Header, form: Form, unit_mm: float
) -> Float64[np.ndarray, "4 4"] | None:
    try:
        affine = header.get_sform() if form == "sform" else header.get_qform()
    except (HeaderDataError, ValueError):
        return None
    scaled = np.array(affine, dtype=np.float64)
    scaled[:3] *= unit_mm
    return scaled if np.isfinite(scaled).all() else None


def _with_sound_offset(path: Path, content: bytes, image_class: type[nibabel.Nifti1Image]) -> bytes:
    """Return the content with the voxels' offset where voxels can begin.

    Old converters write 0 and mean the end of the header; readers then begin at byte 348 or 352 (of
    the second version 540 or 544). The file's length says which: it is taken only where the voxels
    end with the file.
    """
    size = image_class.header_class.sizeof_hdr
    if len(content) < size:
        raise EOFError("the file ends within it")
    header = image_class.header_class(content[:size], check=False)
    offset = float(header["vox_offset"])
    if not offset.is_integer() and offset >= size + 4:
        raise ValueError(f"its voxels begin at byte {offset:g}")
    if not offset < size + 4:
        return content
    try:
        num_bytes = math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize
    except KeyError:
        return content  # no type of numbers that NIfTI has: reading it says so
    start = len(content) - num_bytes
    if start not in (size, size + 4):
        found = f"its voxels begin at byte {offset:g}, which is within the header"
        raise BadScan(path, "damaged", found, "Write it again with the tool that made it")
    header["vox_offset"] = size + 4
    return header.binaryblock + bytes(4) + content[start:]


def _nifti_class(content: bytes) -> type[nibabel.Nifti1Image] | None:
    """Return the class for the header's size and magic (nifti1.h, nifti2.h); None if not NIfTI."""
    size = (content[:4], content[:4][::-1])
    if struct.pack("<i", 348) in size and content[344:348] == b"n+1\0":
        return nibabel.Nifti1Image
    if struct.pack("<i", 540) in size and content[4:8] == b"n+2\0":
        return nibabel.Nifti2Image
    return None


def _other_format(path: Path, content: bytes) -> BadScan:
    """Say what a file is that is no NIfTI file."""
    unknown = "", "Write it as .nii.gz with the tool that made it"
    what, remedy = _recognise(path, content) or unknown
    found = "is not a NIfTI file"
    start = content[:1024].lstrip()
    if what:
        found += f": it {what}"
    elif start and start[:64].isascii():
        text = start[:40].decode().partition("\n")[0]
        found += f" (it begins with the text {text!r})" if text.isprintable() else ""
    return BadScan(path, "wrong_format", found, remedy)


def _recognise(path: Path, content: bytes) -> tuple[str, str] | None:
    """Return what a file is, and what to do; None if it is of no known kind."""
    for offset, magic, what, remedy in FOREIGN_CONTENT:
        if content[offset : offset + len(magic)] == magic:
            return what, remedy
    if fault := placeholder_fault(content):
        return f"is {fault[0]}", fault[1]
    if struct.pack("<i", 348) in (content[:4], content[:4][::-1]) and len(content) == 348:
        return "is the header of an Analyze pair (.hdr and .img)", TWO_FILES
    if path.name.removesuffix(".gz").endswith(".img"):
        return "is the image of a pair (.hdr and .img), without a header", TWO_FILES
    return None


def _decompress(path: Path) -> bytes:
    """Return the decompressed content; gzip's own length and checksum are verified."""
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if p.name.endswith((".nii", ".nii.gz")))
        remedy = f"Give the file {inside[0]} in it" if inside else "Give the file"
        raise BadScan(path, "wrong_format", "is a folder, not a NIfTI file", remedy)
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = igzip.decompress(content)
    except FileNotFoundError as error:
        reason, remedy = missing_reason(path) or ("no such file", DOWNLOAD_AGAIN)
        raise BadScan(path, "no_file", reason, remedy) from error
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
