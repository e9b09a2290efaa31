"""A synthetic cohort in the layout of UPENN-GBM, with a known relation between scans and label.

Only the grain of the tumour's texture depends on the label, and only in the modalities of
``signal``; nothing else of a subject does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from pydantic import Field, model_validator

from mgmt_ray.base import (
    Config,
    MgmtError,
    fingerprint,
    stream,
    write_json,
    write_text,
)
from mgmt_ray.cohort.reader import check_modalities
from mgmt_ray.cohort.subject import MODALITIES, modality_group
from mgmt_ray.synthetic.anatomy import UPENN_GRID, phantom
from mgmt_ray.synthetic.appearance import render_healthy_brain
from mgmt_ray.synthetic.patient import SyntheticPatient, clinical_table, write_patient

TABLE = "UPENN-GBM_clinical_info_v2.1.csv"
IMAGES = "NIfTI-files"
SMALLEST_GRID = 16
"""Least voxels of a scan along each axis."""


class SyntheticConfig(Config):
    """The subjects, their scans, and the signal of their label."""

    subjects: int = Field(100, ge=1, description="subjects with an MGMT label, scans and a mask")
    grid: tuple[int, int, int] = Field(
        UPENN_GRID, description="depth, height, width of a scan in voxels of 1 mm"
    )
    signal: dict[str, float] = Field(
        {},
        description="amplitude of the label's texture by modality, in standard deviations of the "
        "texture that every tumour has; above about 3 values are clipped",
    )
    methylated_fraction: float = Field(
        0.42, ge=0, le=1, description="fraction of the labelled subjects that are methylated"
    )
    without_dti: float = Field(0.17, ge=0, le=1, description="fraction of subjects without DTI")
    without_dsc: float = Field(
        0.28, ge=0, le=1, description="fraction without DSC, including those without DTI"
    )
    modalities: tuple[str, ...] = Field(MODALITIES, description="scans that are written")
    follow_ups: float = Field(
        0.1, ge=0, le=1, description="fraction with a follow-up (copied scans) without a mask"
    )
    raw_dsc: float = Field(
        0.2, ge=0, le=1, description="fraction of those with DSC that have its raw series too"
    )
    corrected_masks: float = Field(
        0.24, ge=0, le=1, description="fraction with a mask corrected by hand"
    )
    indeterminate: int = Field(2, ge=0, description="further subjects, with MGMT Indeterminate")
    not_available: int = Field(2, ge=0, description="further subjects, with MGMT Not Available")
    without_scans: int = Field(2, ge=0, description="further subjects, with a label and no scans")
    seed: int = Field(0, description="random seed of the cohort")

    @model_validator(mode="after")
    def _check_values(self) -> SyntheticConfig:
        check_modalities(self.modalities, MODALITIES)
        absent = [m for m in self.signal if m not in self.modalities]
        if absent:
            raise ValueError(
                f"signal in {', '.join(absent)}, which is not among the modalities "
                f"({', '.join(self.modalities)})"
            )
        if any(amplitude < 0 for amplitude in self.signal.values()):
            raise ValueError("a signal's amplitude must be at least 0")
        if min(self.grid) < SMALLEST_GRID:
            raise ValueError(f"grid {self.grid}: must be at least {SMALLEST_GRID} voxels per axis")
        if self.without_dsc < self.without_dti:
            raise ValueError(
                "without_dsc must be at least without_dti: subjects with DSC have DTI too"
            )
        return self


def synthesize(
    config: SyntheticConfig, folder: Path, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write the cohort: images, masks, clinical table, and ``planted.json`` with the signal.

    The same config gives the same files. An interrupted cohort is completed, a finished one is left
    unchanged. The table is written last, so that half a cohort cannot be read.

    Args:
        folder: gets ``NIfTI-files/``, the table and ``planted.json``.
        progress: receives the number of written subjects and their total.

    Raises:
        MgmtError: the folder holds another cohort, or a file cannot be written.

    >>> from tempfile import TemporaryDirectory
    >>> temporary = TemporaryDirectory()
    >>> config = SyntheticConfig(subjects=1, grid=(16, 16, 16), modalities=("T1",))
    >>> synthesize(config, Path(temporary.name))
    >>> sorted(path.name for path in Path(temporary.name).iterdir())
    ['NIfTI-files', 'UPENN-GBM_clinical_info_v2.1.csv', 'planted.json']
    """
    anatomy = phantom(config.grid, stream(config.seed, "anatomy"))
    _claim_folder(config, folder)
    bases = {m: render_healthy_brain(m, anatomy) for m in config.modalities}
    patients = plan_patients(config)
    scanned = [patient for patient in patients if patient.groups]
    for done, patient in enumerate(scanned, start=1):
        if not patient.is_written(folder / IMAGES):
            write_patient(patient, folder / IMAGES, anatomy, bases, config.signal, config.seed)
        if progress:
            progress(done, len(scanned))
    write_text(folder / TABLE, clinical_table(patients, config.seed))


def plan_patients(config: SyntheticConfig) -> list[SyntheticPatient]:
    """Return the patients of the cohort, sorted by id.

    Every property has its own random stream, so only ``mgmt`` and ``methylated`` change with the
    methylated fraction.

    >>> config = SyntheticConfig(subjects=10, methylated_fraction=0.4, without_scans=0)
    >>> [patient.mgmt for patient in plan_patients(config)].count("Methylated")
    4
    """
    num_more = config.indeterminate + config.not_available + config.without_scans
    numbers = stream(config.seed, "ids").permutation(config.subjects + num_more)
    ids = [f"UPENN-GBM-{1 + number:05d}_11" for number in numbers]
    patients = _labelled_patients(config, ids[: config.subjects])
    patients += _unusable_patients(config, ids[config.subjects :])
    return sorted(patients, key=lambda patient: patient.id)


def _labelled_patients(config: SyntheticConfig, ids: list[str]) -> list[SyntheticPatient]:
    methylated = _sample_ids(config, "label", config.methylated_fraction)
    without = {
        "DTI": _sample_ids(config, "groups", config.without_dti),
        "DSC": _sample_ids(config, "groups", config.without_dsc),
    }
    raw_dsc = _sample_ids(config, "raw DSC", config.raw_dsc)
    follow_ups = _sample_ids(config, "follow-ups", config.follow_ups)
    corrected = _sample_ids(config, "corrected masks", config.corrected_masks)
    return [
        SyntheticPatient(
            id=name,
            mgmt="Methylated" if i in methylated else "Unmethylated",
            methylated=i in methylated,
            groups=_groups(config) - {name for name, members in without.items() if i in members},
            follow_up=i in follow_ups,
            raw_dsc=i in raw_dsc and i not in without["DSC"],
            corrected=i in corrected,
        )
        for i, name in enumerate(ids)
    ]


def _unusable_patients(config: SyntheticConfig, ids: list[str]) -> list[SyntheticPatient]:
    """Return the patients without a usable label, or without scans."""
    random = stream(config.seed, "hidden labels")
    statuses = [
        *["Indeterminate"] * config.indeterminate,
        *["Not Available"] * config.not_available,
        *[None] * config.without_scans,
    ]
    patients = []
    for name, status in zip(ids, statuses, strict=True):
        methylated = bool(random.uniform() < config.methylated_fraction)
        label = "Methylated" if methylated else "Unmethylated"
        groups = _groups(config) if status else frozenset[str]()
        patients.append(SyntheticPatient(name, status or label, methylated, groups))
    return patients


def _groups(config: SyntheticConfig) -> frozenset[str]:
    return frozenset(modality_group(m) for m in config.modalities)


def _sample_ids(config: SyntheticConfig, purpose: str, fraction: float) -> set[int]:
    """Sample a fraction of the labelled subjects; larger fractions contain smaller ones."""
    order = stream(config.seed, purpose).permutation(config.subjects)
    return set(order[: round(fraction * config.subjects)].tolist())


def _claim_folder(config: SyntheticConfig, folder: Path) -> None:
    """Write ``planted.json``; raise MgmtError if the folder holds another cohort."""
    settings = config.model_dump(mode="json")
    planted = {name: settings[name] for name in ("signal", "subjects", "seed", "grid")}
    planted["settings"] = fingerprint(settings)
    path = folder / "planted.json"
    same = not (folder / IMAGES).exists()
    if path.is_file():
        same = json.loads(path.read_text(encoding="utf-8")) == planted
    if not same:
        raise MgmtError(
            f"{folder}: holds a cohort of other settings. "
            "Choose another folder, or delete this one."
        )
    write_json(path, planted)
