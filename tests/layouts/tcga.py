"""Writing subjects of any cohort as a copy of TCGA-GBM with methylation tables."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mgmt_ray.base import stream, write_atomically, write_text
from mgmt_ray.cohort.subject import STRUCTURAL, Subject
from mgmt_ray.cohort.tcga import MASKS, SCANS, session_file
from mgmt_ray.cohort.tcga_methylation import PROBES
from mgmt_ray.synthetic.scan_writer import copy_file

IMAGES = "Pre-operative_TCGA_GBM_NIfTI_and_Segmentations"
HM450 = "HumanMethylation450.gz"
HM27 = "HumanMethylation27"

CENTRES = ("02", "06", "08", "12", "14", "19", "27", "76")
OTHER_PROBES = ("cg00000292", "cg12434586", "cg12981138", "cg26299084")
BETAS = {1: (0.2, 0.8), 0: (0.01, 0.06)}
"""Range of both probes' betas by label; MGMT-STP27's threshold is 0.088 if both are equal."""

STRANGERS = 3
"""Patients with methylation data and no scans."""


def write_tcga_copy(subjects: Sequence[Subject], folder: Path, seed: int) -> dict[str, str]:
    """Write subjects' structural scans and masks under TCGA's names, and methylation tables.

    HumanMethylation27 and 450 each have two thirds of the subjects, one third is in both. Betas are
    drawn by label so that MGMT-STP27 gives every subject its label. The median rule halves a
    cohort whatever the truth: it gives all but ``|methylated - unmethylated| / 2`` subjects theirs.
    There are also irregularities that a reader must handle: masks corrected by hand in addition to
    automatic ones (every second subject), a later date and a patient without methylation data (both
    with the first subject's files), normal and recurrent samples of the opposite label, a patient
    with two primary samples, a missing value, other probes, and patients without scans.

    Args:
        subjects: each with the four structural scans and a mask, as files.
        folder: gets the folder of scans and the two tables.
        seed: of names, dates and betas.

    Returns:
        The new ids by old id.
    """
    random = stream(seed, "tcga copy")
    names = _names(len(subjects) + 1 + STRANGERS, random)
    patients = names[: len(subjects)]
    for number, (subject, patient) in enumerate(zip(subjects, patients, strict=True)):
        _write_session(subject, folder, patient, _date(random), corrected=number % 2 == 0)
    if subjects:
        _write_session(subjects[0], folder, patients[0], "2009.01.31", corrected=False)
        _write_session(subjects[0], folder, names[-1], _date(random), corrected=True)
    labels = [subject.label for subject in subjects]
    _write_tables(folder, patients, labels, names[len(subjects) : -1], random)
    return {subject.id: name for subject, name in zip(subjects, patients, strict=True)}


def _write_tables(
    folder: Path,
    patients: Sequence[str],
    labels: Sequence[int],
    strangers: Sequence[str],
    random: np.random.Generator,
) -> None:
    """Write both arrays' betas, with barcodes as long as GDC's in one, as Xena's in the other."""
    end = "A-11D-A368-05"
    in_450 = [i for i in range(len(patients)) if i % 3 != 0]
    in_27 = [i for i in range(len(patients)) if i % 3 != 1]
    newer = [(f"{patients[i]}-01{end}", labels[i]) for i in in_450]
    newer += [(f"{patients[i]}-02{end}", 1 - labels[i]) for i in in_450]
    newer += [(f"{name}-01{end}", 1) for name in strangers]
    older = [(f"{patients[i]}-01", labels[i]) for i in in_27]
    older += [(f"{patients[i]}-01B", labels[i]) for i in in_27[:1]]
    older += [(f"{patients[i]}-11", 1 - labels[i]) for i in in_27]
    older += [(f"{name}-01", 0) for name in strangers]
    in_both = [place for place, i in enumerate(in_450) if i in in_27]
    text = _matrix("Composite Element REF", newer, random, not_measured=in_both[:1])
    packed = gzip.compress(text.encode(), mtime=0)
    write_atomically(folder / HM450, lambda aside: aside.write_bytes(packed))
    write_text(folder / HM27, _matrix("sample", older, random))


def _names(number: int, random: np.random.Generator) -> list[str]:
    numbers = random.choice(9_999, number, replace=False) + 1
    centres = random.choice(CENTRES, number)
    return [f"TCGA-{centre}-{n:04d}" for centre, n in zip(centres, numbers, strict=True)]


def _date(random: np.random.Generator) -> str:
    year, month, day = (random.integers(*span) for span in ((1996, 2009), (1, 13), (1, 29)))
    return f"{year}.{month:02d}.{day:02d}"


def _write_session(
    subject: Subject, folder: Path, patient: str, date: str, corrected: bool
) -> None:
    files = {SCANS[m]: subject.scans[m] for m in STRUCTURAL}
    files[MASKS["automatic"]] = subject.required_mask
    if corrected:
        files[MASKS["corrected"]] = subject.required_mask
    for name, source in files.items():
        copy_file(source, folder / IMAGES / patient / session_file(patient, date, name))


def _matrix(
    corner: str,
    samples: Sequence[tuple[str, int]],
    random: np.random.Generator,
    not_measured: Sequence[int] = (),
) -> str:
    """Format probes by samples; the samples ``not_measured`` have no value of the second probe."""
    lines = [[corner, *(barcode for barcode, _ in samples)]]
    for probe in sorted((*PROBES, *OTHER_PROBES)):
        spans = [BETAS[label] if probe in PROBES else (0.0, 1.0) for _, label in samples]
        cells = [f"{random.uniform(*span):.6f}" for span in spans]
        for number in not_measured if probe == PROBES[1] else ():
            cells[number] = "NA"
        lines.append([probe, *cells])
    return "".join("\t".join(line) + "\n" for line in lines)
