"""The check of shortcuts: one voxel, or one plain number of a subject, that tells the label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgmt_ray.audit.audited_study import NO_VOLUMES, AuditContext, Check, permuted_label_rows
from mgmt_ray.preprocess.scan_inspection import read_inspection
from mgmt_ray.preprocess.volume_index import Row, read_index
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.selection.predictions import shorten_list
from mgmt_ray.splits.split import resolve_labels
from mgmt_ray.statistics.leak_detection import (
    LabelAssociation,
    associate_numbers,
    associate_voxels,
    familywise_p,
    tumour_box,
)

PERMUTATIONS = 200
LEVEL = 0.05

SHORTCUT_AUC = 0.9
"""AUC (or 1 - AUC) of one number from which on it is no biology: nothing known of a tumour comes
near. Between chance and this it is named: a tumour's place and size may truly go with its label."""


@dataclass(frozen=True, slots=True)
class Shortcut:
    """One number, and how well it tells the label alone.

    Attributes:
        description: in words, with the modality.
        auc: of the training subjects; below 0.5 where small values are methylated.
        p: corrected for all numbers of its kind.
    """

    description: str
    auc: float
    p: float

    @property
    def is_significant(self) -> bool:
        """Whether the label can be read off."""
        return self.p <= LEVEL and max(self.auc, 1 - self.auc) >= SHORTCUT_AUC

    def __str__(self) -> str:
        return f"{self.description}: AUC {self.auc:.2f} (p = {self.p:.3f})"


def check_shortcuts(audit: AuditContext) -> Check:
    """Rank every voxel and every plain number of the training subjects by label.

    A modality of a synthetic cohort with a planted signal is left aside: it does tell.
    """
    name = "shortcuts"
    expected = f"no voxel and no plain number tells more than chance (family-wise p > {LEVEL})"
    if audit.trains_on_slices:
        return Check(name, "not done", expected, NO_VOLUMES)
    judged = [m for m in audit.study.modalities if m not in audit.planted]
    if not judged:
        return Check(name, "not done", expected, "the cohort is synthetic, with a signal in each")
    voxels: list[tuple[str, LabelAssociation]] = []
    numbers: list[tuple[tuple[str, ...], LabelAssociation]] = []
    for modality in judged:
        of_voxels, names, of_numbers = _scan_modality(audit, modality)
        voxels.append((modality, of_voxels))
        numbers.append((names, of_numbers))
    found = [*strongest_voxels(voxels), *_significant_numbers(numbers)]
    found.sort(key=lambda shortcut: -abs(shortcut.auc - 0.5))
    telling = [s for s in found if s.is_significant]
    above = [s for s in found if s.p <= LEVEL]
    if not above:
        strongest = next(s for s in found if s.p == min(x.p for x in found))
        return Check(name, "passed", expected, f"the strongest is {strongest}")
    shown = telling or above
    said = f"{len(shown)}: {shorten_list([str(s) for s in shown], 3)}"
    if telling:
        remedy = (
            "No tumour does that: look at these voxels and files of both classes (burnt-in marks, "
            "another export, site or scanner per class) and mend or leave out what made them."
        )
        return Check(name, "failed", expected, said, remedy)
    remedy = "It may be true of tumours (place, size) or of the data set; look at it and say so."
    return Check(name, "warning", expected, said, remedy)


def _scan_modality(
    audit: AuditContext, modality: str
) -> tuple[LabelAssociation, tuple[str, ...], LabelAssociation]:
    """Of a modality: what voxels tell, the names of its numbers, and what these tell."""
    split = audit.splits[0]
    having = set(audit.subjects_with(modality))
    # drawn for all training subjects, so that a permutation is the same one in every modality
    columns = [i for i, s in enumerate(split.training) if s in having]
    ids = tuple(split.training[i] for i in columns)
    permuted = permuted_label_rows(audit, split.training, PERMUTATIONS)[:, columns]
    label = resolve_labels(split, audit.cohort)
    labels = np.array([label[s] for s in ids], dtype=np.int64)
    store = VolumeStore(audit.volumes, modality)
    volumes = store.load(ids, store.versions[:1])[:, 0]
    plain = _candidate_numbers(audit, modality, ids, volumes)
    names = tuple(f"{modality} {name}" for name in plain)
    matrix = np.stack([plain[name] for name in plain])
    return (
        associate_voxels(volumes, labels, permuted),
        names,
        associate_numbers(matrix, labels, permuted),
    )


def _candidate_numbers(
    audit: AuditContext, modality: str, ids: tuple[str, ...], volumes: np.ndarray
) -> dict[str, np.ndarray]:
    """What a network might read instead of a tumour, by name; only what all subjects have."""
    index = read_index(audit.volumes, modality)
    assert index is not None
    rows = {row.id: row for row in index.rows}
    table = [
        _volume_numbers(volume)
        | _file_numbers(rows[subject])
        | _inspection_numbers(audit, subject, modality)
        for subject, volume in zip(ids, volumes, strict=True)
    ]
    names = [name for name in table[0] if all(name in numbers for numbers in table)]
    return {name: np.array([numbers[name] for numbers in table], dtype=float) for name in names}


def _volume_numbers(volume: np.ndarray) -> dict[str, float]:
    inside = volume[volume != 0].astype(np.float64)
    box = tumour_box(volume != 0)
    numbers = {
        "smallest value": float(inside.min()),
        "largest value": float(inside.max()),
        "mean": float(inside.mean()),
        "std": float(inside.std()),
        "tumour voxels": float(inside.size),
    }
    for axis, side in zip(("depth", "height", "width"), box, strict=True):
        numbers |= {f"first {axis} of the tumour": side.start, f"last {axis}": side.stop - 1}
    return numbers


def _file_numbers(row: Row) -> dict[str, float]:
    return {"size of the scan's file": row.image.size, "size of the mask's file": row.mask.size}


def _inspection_numbers(audit: AuditContext, subject: str, modality: str) -> dict[str, float]:
    """What was seen of the scan in its own unit, where that is still there."""
    seen = read_inspection(audit.context.folder.inspections, subject)
    for view in seen.views if seen else ():
        if view.modality == modality:
            return {
                "smallest value of the scan": view.low,
                "largest value of the scan": view.high,
                "slice with most tumour": view.slice_number,
            }
    return {}


def strongest_voxels(associations: list[tuple[str, LabelAssociation]]) -> list[Shortcut]:
    """The strongest voxel of each modality; its p-value is corrected for those of all of them.

    Args:
        associations: by modality, made with the same permutations of the same persons.
    """
    chance = np.max([telling.null_distances for _, telling in associations], axis=0)
    found = []
    for modality, telling in associations:
        distance = np.abs(telling.aucs - 0.5)
        z, y, x = np.unravel_index(int(distance.argmax()), distance.shape)
        what = f"{modality} voxel ({z}, {y}, {x})"
        p = familywise_p(float(distance[z, y, x]), chance)
        found.append(Shortcut(what, float(telling.aucs[z, y, x]), p))
    return found


def _significant_numbers(
    associations: list[tuple[tuple[str, ...], LabelAssociation]],
) -> list[Shortcut]:
    chance = np.max([telling.null_distances for _, telling in associations], axis=0)
    return [
        Shortcut(name, float(auc), familywise_p(abs(float(auc) - 0.5), chance))
        for names, telling in associations
        for name, auc in zip(names, telling.aucs, strict=True)
    ]
