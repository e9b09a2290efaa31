"""Check for shortcuts: a single voxel or scalar that predicts the label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mgmt_ray.audit.audited_study import NO_VOLUMES, AuditContext, Check, permuted_label_rows
from mgmt_ray.preprocess.scan_inspection import read_inspection
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
"""Family-wise significance level."""

SHORTCUT_AUC = 0.9
"""A voxel or scalar with this AUC (or 1 - AUC) is an artefact: no known tumour property comes near.
Lower but significant ones are a warning: location and size may truly depend on the label."""


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A voxel or scalar, and how well it alone predicts the label.

    Attributes:
        auc: on the training subjects; below 0.5 where methylated subjects have lower values.
        p: permutation p-value, corrected for all voxels or all scalars.
    """

    description: str
    auc: float
    p: float

    @property
    def is_artefact(self) -> bool:
        """Whether it predicts the label better than biology could."""
        return self.p <= LEVEL and max(self.auc, 1 - self.auc) >= SHORTCUT_AUC

    def __str__(self) -> str:
        return f"{self.description}: AUC {self.auc:.2f} (p = {self.p:.3f})"


def check_shortcuts(audit: AuditContext) -> Check:
    """Test each voxel and scalar of the training subjects for association with the label.

    Modalities of a synthetic cohort with a planted signal are skipped.
    """
    name = "shortcuts"
    expected = f"no voxel or scalar predicts the label (family-wise p > {LEVEL})"
    if audit.pipeline != "volumes":
        return Check(name, "not done", expected, NO_VOLUMES)
    modalities = [m for m in audit.study.modalities if m not in audit.planted]
    if not modalities:
        return Check(name, "not done", expected, "the cohort is synthetic, with a signal in each")
    voxels: list[tuple[str, LabelAssociation]] = []
    scalars: list[tuple[tuple[str, ...], LabelAssociation]] = []
    for modality in modalities:
        of_voxels, names, of_scalars = _associate_modality(audit, modality)
        voxels.append((modality, of_voxels))
        scalars.append((names, of_scalars))
    candidates = [*strongest_voxels(voxels), *_all_scalars(scalars)]
    candidates.sort(key=lambda shortcut: -abs(shortcut.auc - 0.5))
    artefacts = [s for s in candidates if s.is_artefact]
    significant = [s for s in candidates if s.p <= LEVEL]
    if not significant:
        strongest = min(candidates, key=lambda shortcut: shortcut.p)
        return Check(name, "passed", expected, f"the strongest is {strongest}")
    shown = artefacts or significant
    found = f"{len(shown)}: {shorten_list([str(s) for s in shown], 3)}"
    if artefacts:
        remedy = (
            "No tumour does that: compare these voxels and files between the classes (burnt-in "
            "marks, another export, site or scanner per class), and correct or exclude the cause."
        )
        return Check(name, "failed", expected, found, remedy)
    remedy = (
        "It may be a property of tumours (location, size) or of the data set: look at it and "
        "report it."
    )
    return Check(name, "warning", expected, found, remedy)


def _associate_modality(
    audit: AuditContext, modality: str
) -> tuple[LabelAssociation, tuple[str, ...], LabelAssociation]:
    """Return a modality's association of voxels, and the names and association of its scalars."""
    split = audit.splits[0]
    scanned = set(audit.subjects_with(modality))
    # drawn for all training subjects, so that the permutations are the same in all modalities
    columns = [i for i, s in enumerate(split.training) if s in scanned]
    ids = tuple(split.training[i] for i in columns)
    permuted = permuted_label_rows(audit, split.training, PERMUTATIONS)[:, columns]
    label = resolve_labels(split, audit.cohort)
    labels = np.array([label[s] for s in ids], dtype=np.int64)
    store = VolumeStore(audit.store, modality)
    volumes = store.load(ids, store.versions[:1])[:, 0]
    scalars = _scalars(audit, modality, ids, volumes)
    names = tuple(f"{modality} {name}" for name in scalars)
    matrix = np.stack(list(scalars.values()))
    return (
        associate_voxels(volumes, labels, permuted),
        names,
        associate_numbers(matrix, labels, permuted),
    )


def _scalars(
    audit: AuditContext, modality: str, ids: tuple[str, ...], volumes: np.ndarray
) -> dict[str, np.ndarray]:
    """Return scalars that a network could exploit, by name; only those that all subjects have."""
    descriptions = VolumeStore(audit.store, modality).descriptions
    table = [
        _volume_scalars(volume)
        | _file_scalars(descriptions[subject])
        | _inspection_scalars(audit, subject, modality)
        for subject, volume in zip(ids, volumes, strict=True)
    ]
    names = [name for name in table[0] if all(name in scalars for scalars in table)]
    return {name: np.array([scalars[name] for scalars in table], dtype=float) for name in names}


def _volume_scalars(volume: np.ndarray) -> dict[str, float]:
    inside = volume[volume != 0].astype(np.float64)
    box = tumour_box(volume != 0)
    scalars = {
        "smallest value": float(inside.min()),
        "largest value": float(inside.max()),
        "mean": float(inside.mean()),
        "std": float(inside.std()),
        "tumour voxels": float(inside.size),
    }
    for axis, side in zip(("depth", "height", "width"), box, strict=True):
        scalars |= {f"first {axis} of the tumour": side.start, f"last {axis}": side.stop - 1}
    return scalars


def _file_scalars(description: Mapping[str, Any]) -> dict[str, float]:
    image, mask = description["image"], description["mask"]
    return {"size of the scan's file": image["size"], "size of the mask's file": mask["size"]}


def _inspection_scalars(audit: AuditContext, subject: str, modality: str) -> dict[str, float]:
    """Return scalars of the raw scan in its own unit; empty if its inspection is lost."""
    inspection = read_inspection(audit.context.folder.inspections, subject)
    for view in inspection.views if inspection else ():
        if view.modality == modality:
            return {
                "smallest value of the scan": view.low,
                "largest value of the scan": view.high,
                "slice with most tumour": view.slice_number,
            }
    return {}


def strongest_voxels(associations: list[tuple[str, LabelAssociation]]) -> list[Shortcut]:
    """Return the strongest voxel of each modality, with p corrected for all voxels of all of them.

    Args:
        associations: by modality, all with the same permutations of the same persons.
    """
    null = np.max([association.null_distances for _, association in associations], axis=0)
    shortcuts = []
    for modality, association in associations:
        distance = np.abs(association.aucs - 0.5)
        z, y, x = np.unravel_index(int(distance.argmax()), distance.shape)
        description = f"{modality} voxel ({z}, {y}, {x})"
        p = familywise_p(float(distance[z, y, x]), null)
        shortcuts.append(Shortcut(description, float(association.aucs[z, y, x]), p))
    return shortcuts


def _all_scalars(
    associations: list[tuple[tuple[str, ...], LabelAssociation]],
) -> list[Shortcut]:
    """Return all scalars, with p corrected for all of them."""
    null = np.max([association.null_distances for _, association in associations], axis=0)
    return [
        Shortcut(name, float(auc), familywise_p(abs(float(auc) - 0.5), null))
        for names, association in associations
        for name, auc in zip(names, association.aucs, strict=True)
    ]
