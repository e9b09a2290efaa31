"""Plain properties of a subject: of its files, its row of the table, its mask and its tumour."""

from __future__ import annotations

import io
import math
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import nibabel
import numpy as np
from nibabel.orientations import aff2axcodes
from nibabel.spatialimages import HeaderDataError
from scipy.ndimage import label as connected_parts

from mgmt_ray.audit.audited_study import AuditContext
from mgmt_ray.cohort.covariates import age_in_years
from mgmt_ray.cohort.csv_rows import is_unknown, read_number
from mgmt_ray.cohort.dicom.headers import read_header
from mgmt_ray.cohort.problem import BadScan
from mgmt_ray.cohort.scan import read_mask
from mgmt_ray.cohort.subject import MODALITY_GROUPS, Subject, modality_group
from mgmt_ray.preprocess.scan_inspection import read_inspection
from mgmt_ray.statistics.leak_detection import Value

Source: TypeAlias = Literal["file", "table", "biology"]
"""Of a property: how a file was made; the cohort's table; or what may truly depend on methylation
or go with it in a cohort: age, sex, the tumour's size, place and intensities."""

BIOLOGY = ("age", "sex")
MARKER = re.compile(r"mgmt|methyl|^cg\d|beta|promot", re.IGNORECASE)
"""Columns of the table that hold the measured marker: the label follows from them, and no network
reads them."""

HEADER_NAMES = {
    "dim": "grid",
    "pixdim": "spacing",
    "datatype": "number type",
    "bitpix": "number type",
    "scl_slope": "scale",
    "scl_inter": "scale",
    "qoffset": "origin",
    "srow": "origin and orientation",
    "quatern": "orientation",
}
"""What header fields of NIfTI say, by the beginning of their names."""

OF_VOXELS = ("file size", "ratio of compression")

NO_TEXT = ("SQ", "UI", "OB", "OW", "UN")
"""DICOM elements that hold sequences, bytes, or identifiers that no two files share."""

HEAD_BYTES = 1 << 16
"""Of a file, in which header and extensions lie."""


@dataclass(frozen=True, slots=True)
class PlainProperty:
    """A property of a subject.

    Attributes:
        of_voxels: whether a scan's voxels determine it, so that a planted signal may change it.
    """

    name: str
    source: Source
    value: Value
    of_voxels: bool = False


def plain_properties(audit: AuditContext, subject: Subject) -> Iterator[PlainProperty]:
    """Yield what is known of a subject without looking at its images as a network does.

    Where a file lies no longer or cannot be read, its properties are left out.
    """
    yield from _of_id(subject)
    for name, cell in subject.covariates.items():
        if not MARKER.search(name):
            source: Source = "biology" if name in BIOLOGY else "table"
            yield PlainProperty(f"column {name}", source, _cell_value(name, cell))
    for group in [*MODALITY_GROUPS, *audit.study.modalities]:
        number = sum(group in (m, modality_group(m)) for m in subject.scans)
        yield PlainProperty(f"number of scans of {group}", "file", float(number))
    for modality, path in subject.scans.items():
        yield from _of_file(audit, subject, modality, path)
        yield from _of_inspection(audit, subject, modality)
    yield PlainProperty("kind of mask", "file", subject.mask_kind)
    if subject.mask is not None:
        yield from _of_file(audit, subject, "mask", subject.mask)
        yield from _of_mask(subject, subject.mask)


def _of_id(subject: Subject) -> Iterator[PlainProperty]:
    for name, text in (("id", subject.id), ("person", subject.person)):
        pieces = re.split(r"(\d+)", text)
        yield PlainProperty(f"length of {name}", "file", float(len(text)))
        for place, piece in enumerate(pieces):
            value = float(piece) if place % 2 else piece
            yield PlainProperty(f"part {place + 1} of {name}", "file", value)


def _cell_value(name: str, cell: str) -> Value:
    if is_unknown(cell):
        return None
    years = age_in_years(cell) if name == "age" else math.nan
    return _number_or_text(cell) if math.isnan(years) else years


def _number_or_text(text: str) -> str | float:
    number = read_number(text)
    return number if math.isfinite(number) else text.strip()


def _of_file(
    audit: AuditContext, subject: Subject, role: str, path: Path
) -> Iterator[PlainProperty]:
    try:
        facts = dict(_dicom_facts(path) if path.is_dir() else nifti_facts(path))
    except (OSError, EOFError, zlib.error, HeaderDataError, ValueError):
        return
    root = audit.study.cohort.root
    place = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    facts["name and folder"] = without_ids(place.as_posix(), subject)
    for name, value in facts.items():
        known = without_ids(value, subject) if isinstance(value, str) else value
        of_voxels = role != "mask" and name in OF_VOXELS
        yield PlainProperty(f"{role}: {name}", "file", known, of_voxels)


def without_ids(text: str, subject: Subject) -> str:
    """Replace ids and numbers, which differ between subjects in any case."""
    for own in sorted({subject.id, subject.person}, key=len, reverse=True):
        text = text.replace(own, "ID")
    return re.sub(r"\d{3,}", "N", text)


def nifti_facts(path: Path) -> Iterator[tuple[str, Value]]:
    """Yield every field of a NIfTI header, and how the file was compressed."""
    with path.open("rb") as file:
        start = file.read(HEAD_BYTES)
        file.seek(-4, os.SEEK_END)
        unpacked, stored = file.read(), path.stat().st_size
    yield "file size", float(stored)
    content = start
    if start[:2] == b"\x1f\x8b":
        # RFC 1952: flags, time, level and system; at the end the size modulo 2^32
        content = zlib.decompressobj(wbits=31).decompress(start)
        size = int.from_bytes(unpacked, "little")
        yield "unpacked size", float(size)
        yield "ratio of compression", stored / max(size, 1)
        yield "flags of compression", f"{start[3]} {start[8]} {start[9]}"
        yield "time of compression", float(int.from_bytes(start[4:8], "little"))
        if start[3] & 8:
            yield "name in the file", start[10:].partition(b"\0")[0].decode("latin1")
    second = int.from_bytes(content[:4], "little") == 540 or content[:4] == b"\0\0\x02\x1c"
    kind = nibabel.Nifti2Header if second else nibabel.Nifti1Header
    header = kind.from_fileobj(io.BytesIO(content), check=False)
    yield "header version and byte order", f"{kind.__name__} {header.endianness}"
    for field in kind.template_dtype.names or ():
        meaning = next(
            (m for start, m in HEADER_NAMES.items() if field.startswith(start)), "header"
        )
        values = np.atleast_1d(header[field])
        for number, each in enumerate(values.tolist()):
            index = f"[{number}]" if len(values) > 1 else ""
            text = each.decode("latin1").rstrip("\0 ") if isinstance(each, bytes) else float(each)
            yield f"{meaning} ({field}{index})", None if text != text else text
    yield "orientation", "".join(aff2axcodes(header.get_best_affine()))
    end = int(header["vox_offset"])
    yield "header extensions", content[kind.sizeof_hdr : end].rstrip(b"\0").decode("latin1")


def _dicom_facts(folder: Path) -> Iterator[tuple[str, Value]]:
    """Yield the tags of a series' first file, and the number and size of its files."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    yield "number of files", float(len(files))
    yield "file size", float(sum(path.stat().st_size for path in files))
    for element in read_header(files[0]):
        if element.keyword and element.VR not in NO_TEXT:
            yield f"tag {element.keyword}", _number_or_text(str(element.value))


def _of_mask(subject: Subject, path: Path) -> Iterator[PlainProperty]:
    try:
        voxels = read_mask(path, subject.conventions).voxels
    except BadScan:
        return
    labels, counts = np.unique(voxels[voxels != 0], return_counts=True)
    yield PlainProperty("mask: labels", "file", " ".join(map(str, labels.tolist())))
    yield PlainProperty("mask: separate parts", "biology", float(connected_parts(voxels != 0)[1]))
    yield PlainProperty("mask: voxels", "biology", float(counts.sum()))
    for value, count in zip(labels.tolist(), counts.tolist(), strict=True):
        yield PlainProperty(f"mask: voxels of {value}", "biology", float(count))


def _of_inspection(audit: AuditContext, subject: Subject, modality: str) -> Iterator[PlainProperty]:
    """Yield numbers of the raw scan in its own unit; none if its inspection is lost."""
    inspection = read_inspection(audit.context.folder.inspections, subject.id)
    for view in inspection.views if inspection else ():
        if view.modality == modality:
            yield PlainProperty(f"{modality}: smallest value", "biology", view.low, of_voxels=True)
            yield PlainProperty(f"{modality}: largest value", "biology", view.high, of_voxels=True)
            name = f"{modality}: slice with most tumour"
            yield PlainProperty(name, "biology", float(view.slice_number))
