"""MGMT promoter methylation of TCGA patients, from two probes of Illumina's arrays.

Two kinds of tables are read, which differ in their first line: a matrix with a probe per row and a
sample per column (UCSC Xena, Firehose, which has four columns per sample and a second line that
names them), and a table with a sample per row and a column per probe. Cells are delimited by tabs,
semicolons or commas; a table may be compressed with gzip. A matrix of every probe has gigabytes: it
is read line by line to its end, so that a truncated or damaged copy is detected.
"""

from __future__ import annotations

import csv
import gzip
import math
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from mgmt_ray.base import MgmtError, first_line
from mgmt_ray.cohort.csv_rows import is_unknown, read_number
from mgmt_ray.cohort.problem import Problem

PROBES = ("cg12434587", "cg12981137")
"""Probes that are both on HumanMethylation27 and on HumanMethylation450."""

BARCODE = re.compile(r"(TCGA[-.][A-Z0-9]{2}[-.][A-Z0-9]{4})[-.](\d{2})[A-Z]?(?:[-.][A-Z0-9]+)*")
"""Patient and sample type; R writes dots instead of hyphens."""

PRIMARY_TUMOUR = "01"
"""Other sample types are recurrences (02) or normal tissue (10, 11), not the first tumour."""

STP27_CUT_OFF = 0.358
CLIP = 1e-6
"""Distance that betas keep from 0 and 1, where M is infinite: M stays within ±20, much further out
than an array measures, so no measured value changes."""

Sample: TypeAlias = tuple[str, tuple[str, str]]
"""A barcode, and the table's cells of the two probes."""


@dataclass(frozen=True, slots=True)
class Methylation:
    """Methylated fractions (betas, 0 to 1) of a primary tumour at each of :data:`PROBES`."""

    betas: tuple[float, float]
    file: Path

    @property
    def score(self) -> float:
        """Mean of the two betas, whose median over training subjects is the cut-off.

        Chen et al. 2020 name the two probes and "a median cutoff using the level 3 beta-value", but
        not how two values become one; the mean weights them equally.
        """
        return (self.betas[0] + self.betas[1]) / 2

    @property
    def is_methylated_by_stp27(self) -> bool:
        """Whether :func:`stp27_probability` is above the published cut-off of 0.358."""
        return stp27_probability(*self.betas) > STP27_CUT_OFF


def stp27_probability(beta_12434587: float, beta_12981137: float) -> float:
    """Return the probability of a methylated MGMT promoter by the model MGMT-STP27.

    Bady et al. 2012, Acta Neuropathologica 124:547: ``logit p = 4.3215 + 0.5271 M(cg12434587) +
    0.9265 M(cg12981137)`` with ``M = log2(beta / (1 - beta))``. We differ at betas closer than
    :data:`CLIP` to 0 or 1, which are moved to that distance.

    >>> round(stp27_probability(0.1, 0.05), 3), round(stp27_probability(0.6, 0.5), 3)
    (0.217, 0.99)
    """
    logit = 4.3215 + 0.5271 * _m_value(beta_12434587) + 0.9265 * _m_value(beta_12981137)
    return 1 / (1 + math.exp(-logit))


def _m_value(beta: float) -> float:
    beta = min(max(beta, CLIP), 1 - CLIP)
    return math.log2(beta / (1 - beta))


def read_methylation(
    files: Sequence[Path], patients: Collection[str]
) -> tuple[dict[str, Methylation], list[Problem]]:
    """Read the methylation of patients from one or several tables.

    The first file with both probes of a patient is used. Several primary tumour samples of a
    patient in that file are averaged over those with both probes.

    Args:
        files: tables, the preferred first.
        patients: ids like ``TCGA-02-0006``; other patients are ignored.

    Returns:
        Methylation by patient, and a problem for each patient with a value that is not a beta.

    Raises:
        MgmtError: a file cannot be read, is not such a table, or has no row or column of a probe.
    """
    measured: dict[str, Methylation] = {}
    problems: dict[str, Problem] = {}
    for path in files:
        betas: dict[str, list[tuple[float, float]]] = {}
        for barcode, cells in read_samples(path):
            patient, sample_type = _split_barcode(barcode)
            if sample_type != PRIMARY_TUMOUR or patient not in patients:
                continue
            if patient in measured or patient in problems:
                continue
            try:
                first, second = (_beta(cell) for cell in cells)
            except ValueError as error:
                problems[patient] = _invalid_beta(patient, path, barcode, error)
                continue
            if first is not None and second is not None:
                betas.setdefault(patient, []).append((first, second))
        for patient in betas.keys() - problems.keys():
            firsts, seconds = zip(*betas[patient], strict=True)
            means = (sum(firsts) / len(firsts), sum(seconds) / len(seconds))
            measured[patient] = Methylation(means, path)
    return measured, list(problems.values())


def read_samples(path: Path) -> list[Sample]:
    """Read every sample of a table, of any patient and type, with the cells of the two probes.

    Raises:
        MgmtError: it cannot be read, is not such a table, or has no row or column of a probe.
    """
    try:
        with path.open("rb") as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if is_gzip else path.open("rb") as lines:
            samples = _samples(path, iter(lines))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise MgmtError(
            f"{path}: methylation data cannot be read ({first_line(error)}). "
            "Download the file again, or give the right one in cohort.methylation."
        ) from error
    if not samples:
        raise MgmtError(
            f"{path}: has no samples with barcodes like TCGA-02-0001-01A. Give a table of samples "
            "in cohort.methylation; a patient's id does not distinguish tumour from normal tissue."
        )
    return samples


def _samples(path: Path, lines: Iterator[bytes]) -> list[Sample]:
    head = next(lines, b"").removeprefix(b"\xef\xbb\xbf")
    delimiter = max("\t;,", key=lambda mark: head.count(mark.encode()))
    header = _cells(head, delimiter)
    if set(PROBES) <= set(header):
        return list(_by_row(path, header, (_cells(line, delimiter) for line in lines)))
    if any(BARCODE.fullmatch(cell) for cell in header):
        return _by_column(path, header, lines, delimiter)
    raise MgmtError(
        f"{path}: is not a methylation table; its first line has neither barcodes like "
        f"TCGA-02-0001-01A nor the columns {' and '.join(PROBES)}. Give the right files in "
        "cohort.methylation."
    )


def _by_row(path: Path, header: list[str], rows: Iterable[list[str]]) -> Iterator[Sample]:
    for row in rows:
        barcode = next((cell for cell in row if BARCODE.fullmatch(cell)), None)
        if barcode is not None:
            cells = dict(_cells_by_column(path, header, row, barcode))
            yield barcode, (cells[PROBES[0]], cells[PROBES[1]])


def _by_column(
    path: Path, header: list[str], lines: Iterator[bytes], delimiter: str
) -> list[Sample]:
    probes = {name.encode(): name for name in PROBES}
    column_types: list[str] = []
    rows: dict[str, list[str]] = {}
    for number, line in enumerate(lines):
        name = line.split(delimiter.encode(), 1)[0].strip(b'" \r\n')
        if number == 0 and name == b"Composite Element REF":
            column_types = _cells(line, delimiter)
        elif name in probes:
            if probes[name] in rows:
                raise MgmtError(f"{path}: has probe {probes[name]} twice. Keep the right row.")
            rows[probes[name]] = _cells(line, delimiter)
    missing = [name for name in PROBES if name not in rows]
    if missing:
        raise MgmtError(
            f"{path}: has no probe {' and '.join(missing)}. Give complete level-3 data by probe "
            "(not by gene) of HumanMethylation27 or 450 in cohort.methylation."
        )
    first, second = (_cells_by_column(path, header, rows[name], name) for name in PROBES)
    is_beta = [name == "Beta_value" for name in column_types] or [True] * len(first)
    return [
        (barcode, (first_cell, second_cell))
        for (barcode, first_cell), (_, second_cell), used in zip(
            first, second, is_beta, strict=True
        )
        if used and BARCODE.fullmatch(barcode)
    ]


def _cells_by_column(
    path: Path, header: list[str], row: list[str], row_name: str
) -> list[tuple[str, str]]:
    """Return cells with the names of their columns; R omits the name of the first column."""
    names = ["", *header] if len(row) == len(header) + 1 else header
    if len(names) != len(row):
        raise MgmtError(
            f"{path}: {row_name} has {len(row)} cells, the first line {len(header)}. "
            "The file is truncated or damaged: download it again."
        )
    return list(zip(names, row, strict=True))


def _cells(line: bytes, delimiter: str) -> list[str]:
    rows = list(csv.reader([line.decode()], delimiter=delimiter))
    return [cell.strip() for cell in rows[0]] if rows else []


def _split_barcode(barcode: str) -> tuple[str, str]:
    """Return a barcode's patient and sample type."""
    match = BARCODE.fullmatch(barcode)
    assert match is not None
    return match[1].replace(".", "-"), match[2]


def _beta(cell: str) -> float | None:
    if is_unknown(cell):
        return None
    value = read_number(cell)
    if not 0 <= value <= 1:
        raise ValueError(cell)
    return value


def _invalid_beta(patient: str, path: Path, barcode: str, error: ValueError) -> Problem:
    found = f"sample {barcode} has the value {error.args[0]!r}, which is not a beta from 0 to 1"
    remedy = "Use level-3 beta values, not M-values"
    return Problem(patient, "unknown_label", str(path), found, remedy)
