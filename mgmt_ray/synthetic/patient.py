"""Writing one synthetic patient: scans, masks and rows of the clinical table."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, UInt8

from mgmt_ray.base import stream, write_atomically
from mgmt_ray.cohort.subject import modality_group
from mgmt_ray.cohort.upenn import automatic_mask, corrected_mask, scan_file
from mgmt_ray.synthetic.anatomy import Anatomy
from mgmt_ray.synthetic.appearance import render
from mgmt_ray.synthetic.random_fields import smoothed_noise, tumour_texture
from mgmt_ray.synthetic.scan_writer import write_scan
from mgmt_ray.synthetic.tumour import EDEMA, Tumour, grow_tumour

Bases: TypeAlias = Mapping[str, Float32[np.ndarray, "depth height width"]]
"""The healthy brain's intensities, by modality to be written."""

COLUMNS = (
    *("ID", "Gender", "Age_at_scan_years", "Survival_from_surgery_days_UPDATED"),
    *("Survival_Status", "Survival_Censor", "IDH1", "MGMT", "KPS", "GTR_over90percent"),
    "PsP_TP_score",
)
"""Columns of the clinical table, version 2.1."""

RAW_DSC_SHAPE = (6, 8, 12, 12)
"""Time, depth, height, width; far smaller than a real series, of which only the name matters."""


@dataclass(frozen=True, slots=True)
class SyntheticPatient:
    """A patient of the cohort.

    Attributes:
        id: of the baseline session, for example ``UPENN-GBM-00001_11``.
        mgmt: entry of the clinical table.
        methylated: which of the two textures the tumour has where a signal is planted.
        groups: scanned modality groups; empty for a patient in the table without scans.
        follow_up: whether there is a later session.
        raw_dsc: whether the raw DSC series is there in addition to its maps.
        corrected: whether there is a manually corrected mask.
    """

    id: str
    mgmt: str
    methylated: bool
    groups: frozenset[str]
    follow_up: bool = False
    raw_dsc: bool = False
    corrected: bool = False

    @property
    def follow_up_id(self) -> str:
        """The id of the later session."""
        return self.id.removesuffix("_11") + "_21"

    def is_written(self, images: Path) -> bool:
        """Return whether all of the patient's files exist: the automatic mask is written last."""
        return automatic_mask(images, self.id).exists()


def write_patient(
    patient: SyntheticPatient,
    images: Path,
    anatomy: Anatomy,
    bases: Bases,
    signal: Mapping[str, float],
    seed: int,
) -> None:
    """Write one patient's scans of the modalities in ``bases``, and masks, below ``NIfTI-files``.

    Random streams depend on the seed, the patient's id and the modality only, so no scan depends
    on what else is written. ``signal`` is the amplitude of the label's texture by modality, 0 for
    those that are not named.

    Raises:
        MgmtError: a file cannot be written.
    """
    tumour = grow_tumour(anatomy, stream(seed, patient.id, "tumour"))
    scanned = [m for m in bases if modality_group(m) in patient.groups]
    for modality in scanned:
        random = stream(seed, patient.id, "texture", modality)
        texture = tumour_texture(
            tumour.labels > 0, patient.methylated, signal.get(modality, 0.0), random
        )
        noise = stream(seed, patient.id, "noise", modality)
        scan = render(modality, anatomy, bases[modality], tumour, texture, noise)
        write_scan(scan, images / scan_file(patient.id, modality))
    if patient.follow_up:
        _copy_follow_up(patient, images, scanned)
    if patient.raw_dsc:
        series = stream(seed, patient.id, "raw DSC").integers(0, 900, RAW_DSC_SHAPE, np.int16)
        folder = (images / scan_file(patient.id, "PH")).parent
        write_scan(series, folder / f"{patient.id}_DSC.nii.gz")
    _write_masks(patient, images, _on_grid(tumour, anatomy), seed)


def clinical_table(patients: Sequence[SyntheticPatient], seed: int) -> str:
    """Return the clinical table (version 2.1) as CSV; a follow-up session has its own row.

    All columns other than MGMT are independent of it.

    >>> patient = SyntheticPatient("UPENN-GBM-00001_11", "Methylated", True, frozenset({"Struct"}))
    >>> clinical_table([patient], seed=0).splitlines()[0][:32]
    'ID,Gender,Age_at_scan_years,Surv'
    """
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, restval="Not Available", lineterminator="\n")
    table.writeheader()
    for patient in patients:
        random = stream(seed, patient.id, "clinical")
        row = {
            "ID": patient.id,
            "Gender": str(random.choice(["M", "F"], p=[0.6, 0.4])),
            "Age_at_scan_years": f"{np.clip(random.normal(62, 12), 19, 89):.2f}",
            "IDH1": str(random.choice(["Wildtype", "Mutated", "NOS/NEC"], p=[0.81, 0.03, 0.16])),
            "MGMT": patient.mgmt,
            "KPS": str(
                random.choice(["Not Available", "70", "80", "90"], p=[0.85, 0.05, 0.05, 0.05])
            ),
            "GTR_over90percent": str(random.choice(["Y", "N", "Not Available"], p=[0.6, 0.3, 0.1])),
        }
        table.writerow(row)
        if patient.follow_up:
            table.writerow({**row, "ID": patient.follow_up_id})
    return text.getvalue()


def _copy_follow_up(patient: SyntheticPatient, images: Path, scanned: Sequence[str]) -> None:
    """Write a later session with the baseline's scans: using it as a subject would be leakage."""
    structural = [m for m in scanned if modality_group(m) == "Struct"]
    for modality in structural or scanned:
        source = images / scan_file(patient.id, modality)

        def copy(target: Path, source: Path = source) -> None:
            shutil.copyfile(source, target)

        write_atomically(images / scan_file(patient.follow_up_id, modality), copy)


def _write_masks(
    patient: SyntheticPatient,
    images: Path,
    mask: UInt8[np.ndarray, "depth height width"],
    seed: int,
) -> None:
    if patient.corrected:
        write_scan(mask, corrected_mask(images, patient.id))
        mask = _with_less_edema(mask, stream(seed, patient.id, "automatic mask"))
    write_scan(mask, automatic_mask(images, patient.id))


def _on_grid(tumour: Tumour, anatomy: Anatomy) -> UInt8[np.ndarray, "depth height width"]:
    mask = np.zeros(anatomy.grid, np.uint8)
    mask[anatomy.box][tumour.box] = tumour.labels
    return mask


def _with_less_edema(
    mask: UInt8[np.ndarray, "depth height width"], random: np.random.Generator
) -> UInt8[np.ndarray, "depth height width"]:
    """Return a mask as an automatic segmentation might find it: without a part of the edema."""
    missed = smoothed_noise(mask.shape, 4.0, random) > 0.7
    return np.where((mask == EDEMA) & missed, np.uint8(0), mask)
