"""Subjects, and the field's names for what was scanned."""

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
"""Whether a person (or another program) outlined a tumour, or a network of a slices study."""

STRUCTURAL = MODALITY_GROUPS["Struct"]
"""What every public glioma data set has; T1GD is T1 after contrast agent."""


def modality_group(modality: str) -> str:
    """The group ("DSC", "DTI" or "Struct") of a modality; any other modality is its own group."""
    for group, members in MODALITY_GROUPS.items():
        if modality in members:
            return group
    return modality


def group_modalities(modalities: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Modalities by group: the paper's groups in its order, then the others as they come."""
    asked = list(dict.fromkeys(modalities))
    names = [g for g in MODALITY_GROUPS if any(modality_group(m) == g for m in asked)]
    names += [m for m in asked if modality_group(m) == m]
    return {name: tuple(m for m in asked if modality_group(m) == name) for name in names}


@dataclass(frozen=True, slots=True)
class Subject:
    """One person's baseline scans and what is known of them.

    Attributes:
        id: unique in its cohort; letters, digits, ``.``, ``_`` and ``-``.
        label: 1 for a methylated MGMT promoter, 0 for an unmethylated one; without a meaning where
            there is a ``score``, from which each split fits its own.
        scans: by modality an image file, or the folder of a DICOM series.
        mask: tumour labels (0 background, 1 necrosis, 2 edema, 4 enhancing tumour; 1 all of a
            predicted tumour); None where there is none.
        covariates: what else the cohort's table says (age in years, sex, IDH1, ...), as text.
        person: equal for all subjects that are one human being, in any cohort; the id if not given.
        score: measured methylation from which the label follows by a cut-off that is fitted on
            training subjects (see ``splits.resolve_labels``); None where the label is given.
        mask_kind: of ``mask``.
        given_mask: where ``mask`` is a predicted one, or to be one, the given one that is not used.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "person", self.person or self.id)

    @property
    def required_mask(self) -> Path:
        """The mask, where nothing can be done without one."""
        assert self.mask is not None, f"{self.id} has no mask"
        return self.mask

    def has_all(self, modalities: Iterable[str]) -> bool:
        """Whether every one of these modalities is there."""
        return set(modalities) <= set(self.scans)
