"""Check for shortcuts: a single voxel that predicts the label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgmt_ray.audit.audited_study import (
    LEVELS,
    NO_VOLUMES,
    AuditContext,
    Check,
    permuted_label_rows,
)
from mgmt_ray.preprocess.volume_store import VolumeStore
from mgmt_ray.selection.predictions import shorten_list
from mgmt_ray.splits.split import resolve_labels
from mgmt_ray.statistics.leak_detection import LabelAssociation, associate_voxels, familywise_p

PERMUTATIONS = 200
LEVEL = LEVELS["shortcuts"]

SHORTCUT_AUC = 0.9
"""A voxel with this AUC (or 1 - AUC) is an artefact: no known tumour property comes near. Lower but
significant ones are a warning: location and size may truly depend on the label."""


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A voxel, and how well it alone predicts the label.

    Attributes:
        auc: on the training subjects; below 0.5 where methylated subjects have lower values.
        p: permutation p-value, corrected for all voxels of all modalities.
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
    """Test each voxel of the training subjects for association with the label.

    Modalities of a synthetic cohort with a planted signal are skipped.
    """
    name = "shortcuts"
    expected = f"no voxel predicts the label (family-wise p > {LEVEL})"
    if audit.pipeline != "volumes":
        return Check(name, "not done", expected, NO_VOLUMES)
    modalities = [m for m in audit.study.modalities if m not in audit.planted]
    if not modalities:
        return Check(name, "not done", expected, "the cohort is synthetic, with a signal in each")
    candidates = strongest_voxels([(m, _associate_modality(audit, m)) for m in modalities])
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
            "No tumour does that: compare these voxels between the classes (burnt-in marks, "
            "another export, site or scanner per class), and correct or exclude the cause."
        )
        return Check(name, "failed", expected, found, remedy)
    remedy = (
        "It may be a property of tumours (location, size) or of the data set: look at it and "
        "report it."
    )
    return Check(name, "warning", expected, found, remedy)


def _associate_modality(audit: AuditContext, modality: str) -> LabelAssociation:
    split = audit.splits[0]
    scanned = set(audit.subjects_with(modality))
    # drawn for all training subjects, so that the permutations are the same in all modalities
    columns = [i for i, s in enumerate(split.training) if s in scanned]
    ids = tuple(split.training[i] for i in columns)
    permuted = permuted_label_rows(audit, split.training, PERMUTATIONS)[:, columns]
    label = resolve_labels(split, audit.cohort)
    labels = np.array([label[s] for s in ids], dtype=np.int64)
    store = VolumeStore(audit.store, modality)
    return associate_voxels(store.load(ids, store.versions[:1])[:, 0], labels, permuted)


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
