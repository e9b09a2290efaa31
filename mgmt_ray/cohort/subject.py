"""A subject, and the modalities and groups of modalities that it is scanned with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

MODALITY_GROUPS: dict[str, tuple[str, ...]] = {
    "DSC": ("ap-rCBV", "PH", "PSR"),
    "DTI": ("AD", "FA", "RD", "TR"),
    "Struct": ("T2", "FLAIR", "T1", "T1GD"),
}
"""The eleven single-channel modalities of Schmitz et al. 2024 by group, in the paper's order."""

MODALITIES: tuple[str, ...] = tuple(m for group in MODALITY_GROUPS.values() for m in group)

MaskKind: TypeAlias = Literal["given", "predicted"]
"""Whether a mask came with the data set, or a network of a slices study predicted it."""

Form: TypeAlias = Literal["sform", "qform"]
"""The two ways in which a NIfTI header places its voxels (nifti1.h, methods 3 and 2)."""

STRUCTURAL = MODALITY_GROUPS["Struct"]
"""Modalities of every public glioma data set; T1GD is T1 after contrast agent."""


def modality_group(modality: str) -> str:
    """Return a modality's group: "DSC", "DTI" or "Struct"; any other modality is its own group.

    >>> modality_group("FA"), modality_group("SWI")
    ('DTI', 'SWI')
    """
    for group, members in MODALITY_GROUPS.items():
        if modality in members:
            return group
    return modality


def group_modalities(modalities: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return modalities by group: the paper's groups in its order, then the others as given.

    >>> group_modalities(["SWI", "FLAIR", "FA", "T1"])
    {'DTI': ('FA',), 'Struct': ('FLAIR', 'T1'), 'SWI': ('SWI',)}
    """
    unique = list(dict.fromkeys(modalities))
    groups = [g for g in MODALITY_GROUPS if any(modality_group(m) == g for m in unique)]
    groups += [m for m in unique if modality_group(m) == m]
    return {group: tuple(m for m in unique if modality_group(m) == group) for group in groups}


@dataclass(frozen=True, slots=True)
class ScanConventions:
    """What a data set's files do not say clearly themselves.

    Attributes:
        trust_form: which form of a NIfTI header holds where the two disagree, or where none is
            declared; None makes such a file a problem.
        background: the scans' value where there is no tissue, which is read as 0.
    """

    trust_form: Form | None = None
    background: float = 0.0


AS_STORED = ScanConventions()


@dataclass(frozen=True, slots=True)
class Subject:
    """The baseline scans, label and covariates of one person.

    Attributes:
        id: unique in its cohort; letters, digits, ``.``, ``_`` and ``-``.
        label: 1 for a methylated MGMT promoter, 0 for an unmethylated one; meaningless where there
            is a ``score``, from which each split derives its own.
        scans: NIfTI file or folder of a DICOM series, by modality.
        mask: tumour labels (0 background, 1 necrosis, 2 edema, 4 enhancing tumour; 1 all of a
            predicted tumour); None where there is none.
        covariates: other columns of the cohort's table (age in years, sex, IDH1, ...), as text.
        person: equal for all subjects that are one human being, in any cohort; the id if not given.
        score: measured methylation from which the label follows by a cut-off that is fitted on
            training subjects (see :func:`~mgmt_ray.splits.split.resolve_labels`); None where the
            label is given.
        given_mask: the data set's own mask where a predicted one is used instead.
        conventions: how the data set's files are to be read.

    >>> subject = Subject("P1", 1, {"FLAIR": Path("flair.nii.gz")}, Path("mask.nii.gz"))
    >>> subject.has_all(["FLAIR", "T1"])
    False
    """

    id: str
    label: int
    scans: Mapping[str, Path]
    mask: Path | None
    covariates: Mapping[str, str] = field(default_factory=dict)
    person: str = ""
    score: float | None = None
    mask_kind: MaskKind = "given"
    given_mask: Path | None = None
    conventions: ScanConventions = AS_STORED

    def __post_init__(self) -> None:
        object.__setattr__(self, "person", self.person or self.id)

    @property
    def required_mask(self) -> Path:
        """The mask of a subject that is known to have one."""
        assert self.mask is not None, f"{self.id} has no mask"
        return self.mask

    def has_all(self, modalities: Iterable[str]) -> bool:
        """Whether the subject has a scan of each of these modalities."""
        return set(modalities) <= set(self.scans)
