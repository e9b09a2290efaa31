"""Subjects, and the field's names for what was scanned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MODALITY_GROUPS: dict[str, tuple[str, ...]] = {
    "DSC": ("ap-rCBV", "PH", "PSR"),
    "DTI": ("AD", "FA", "RD", "TR"),
    "Struct": ("T2", "FLAIR", "T1", "T1GD"),
}
"""The eleven single-channel modalities of Schmitz et al. 2024 by group, in the paper's order."""

MODALITIES: tuple[str, ...] = tuple(m for group in MODALITY_GROUPS.values() for m in group)


def group_of(modality: str) -> str:
    """The group ("DSC", "DTI" or "Struct") that a modality belongs to."""
    return next(group for group, members in MODALITY_GROUPS.items() if modality in members)


@dataclass(frozen=True, slots=True)
class Subject:
    """One person's baseline scans and what is known of them.

    Attributes:
        id: unique in its cohort, without white space.
        label: 1 for a methylated MGMT promoter, 0 for an unmethylated one.
        scans: image file by modality; all on the grid of the mask.
        mask: tumour labels (0 background, 1 necrosis, 2 edema, 4 enhancing tumour).
        covariates: what else the cohort's table says (age in years, sex, IDH1, ...), as text.
    """

    id: str
    label: int
    scans: Mapping[str, Path]
    mask: Path
    covariates: Mapping[str, str] = field(default_factory=dict)

    def has_group(self, group: str, modalities: tuple[str, ...] = MODALITIES) -> bool:
        """Whether every wanted modality of a group is there."""
        wanted = [m for m in MODALITY_GROUPS[group] if m in modalities]
        return all(m in self.scans for m in wanted)
