"""The tags of DICOM files, and which files hold slices of a scan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

DECODED = {
    *(ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian),
    *(DeflatedExplicitVRLittleEndian, RLELossless, JPEGBaseline8Bit, JPEGExtended12Bit),
    *(JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless),
    *(JPEG2000Lossless, JPEG2000),
}
"""Transfer syntaxes that GDCM, which SimpleITK decodes with, knows."""

STANDARD_ROOT = "1.2.840.10008."
"""What the UIDs of the standard begin with (DICOM PS3.6, annex A)."""


def read_header(path: Path) -> pydicom.Dataset:
    """Read a file's tags; empty if they cannot be read."""
    try:
        # values of more bytes than that, like voxels, are left in the file until they are asked for
        return pydicom.dcmread(path, defer_size=1024, force=True)
    except Exception:  # the parser may raise anything on bytes that are no DICOM
        return pydicom.Dataset()


def holds_no_slice(header: pydicom.Dataset) -> bool:
    """Whether an object lies beside a scan: a segmentation, presentation state, report or other.

    Classes of images of the standard have that word in their names. A file that lost its tags has
    no class, and is none of these.

    >>> header = pydicom.Dataset()
    >>> header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    >>> UID(header.SOPClassUID).name, holds_no_slice(header)
    ('RT Structure Set Storage', True)
    """
    sop_class = UID(str(header.get("SOPClassUID") or ""))
    if sop_class.startswith(STANDARD_ROOT):
        return sop_class.name != sop_class and "Image" not in sop_class.name
    return bool(sop_class) and "Rows" not in header


def unknown_compression(header: pydicom.Dataset) -> str:
    """Return the name of a file's transfer syntax if it cannot be decoded; else empty."""
    syntax = _transfer_syntax(header)
    return "" if syntax in DECODED or syntax.name == syntax else syntax.name


def missing_bytes(header: pydicom.Dataset) -> str:
    """Say how many bytes of uncompressed voxels there are, if they are too few; else empty.

    GDCM fills the rest with whatever is in memory.
    """
    syntax = _transfer_syntax(header)
    if syntax not in DECODED or syntax.is_compressed or "PixelData" not in header:
        return ""
    sizes = (header.get(tag) for tag in ("Rows", "Columns", "BitsAllocated"))
    values = header.get("SamplesPerPixel", 1) * num_frames(header)
    needed = -(-math.prod(int(size or 0) for size in sizes) * values // 8)
    given = len(header.PixelData)
    return f"{given} of {needed} bytes of voxels" if given < needed else ""


def num_frames(header: pydicom.Dataset) -> int:
    """Return how many frames a file says that it has; 1 where it does not."""
    return int(header.get("NumberOfFrames") or 1)


def _transfer_syntax(header: pydicom.Dataset) -> UID:
    meta = getattr(header, "file_meta", pydicom.Dataset())
    return UID(str(meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian))


def is_multi_frame(header: pydicom.Dataset) -> bool:
    """Whether a file holds several slices, or one that is described like a part of several."""
    return "PerFrameFunctionalGroupsSequence" in header or num_frames(header) > 1


def tag_numbers(header: pydicom.Dataset, keyword: str, length: int) -> Sequence[float] | None:
    """Return a tag's numbers; None if it is missing or does not have ``length`` numbers."""
    try:
        numbers = [float(value) for value in header[keyword].value]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return numbers if len(numbers) == length else None
