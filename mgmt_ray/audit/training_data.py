"""What the audit's trainings read: the study's own volumes or slices, or changed copies."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import numpy as np

from mgmt_ray.audit.audited import Audited
from mgmt_ray.audit.changed_slices import (
    darkened,
    noise_and_mirrored,
    write_changed_slices,
)
from mgmt_ray.audit.changed_volumes import noise_like, with_slabs, write_changed_copy
from mgmt_ray.preprocess.axial_slices import SubjectSlices
from mgmt_ray.study.folder import StudyFolder


def share_store(audited: Audited, name: str) -> None:
    """Let a sub-study read the audited study's own volumes, or slices, without a copy."""
    folder = StudyFolder(audited.work / name)
    folder.root.mkdir(parents=True, exist_ok=True)
    below = folder.slices if audited.trains_on_slices else folder.volumes
    above = Path(os.path.relpath(audited.job.folder.root / below.name, folder.root))
    with suppress(FileExistsError):
        below.symlink_to(above, target_is_directory=True)


def plant_signal(audited: Audited, name: str, modality: str, methylated: Collection[str]) -> None:
    """A sub-study's copy of a modality, with a pattern in the tumours of those who have it."""
    folder, own = StudyFolder(audited.work / name), audited.job.folder
    if audited.trains_on_slices:

        def darken(slices: SubjectSlices) -> SubjectSlices:
            return darkened(slices) if slices.id in methylated else slices

        write_changed_slices(own.slices, modality, folder.slices, darken)
        return

    def plant(subject: str, volumes: np.ndarray) -> np.ndarray:
        return with_slabs(volumes) if subject in methylated else volumes

    write_changed_copy(own.volumes, modality, folder.volumes, plant)


def replace_by_noise(audited: Audited, name: str, modality: str, tested: Collection[str]) -> None:
    """A sub-study's copy of a modality, with noise in place of the test subjects' scans."""
    folder, own = StudyFolder(audited.work / name), audited.job.folder
    if audited.trains_on_slices:

        def exchange(slices: SubjectSlices) -> SubjectSlices:
            if slices.id not in tested:
                return slices
            return noise_and_mirrored(slices, audited.draws("noise", slices.id))

        write_changed_slices(own.slices, modality, folder.slices, exchange)
        return

    def drown(subject: str, volumes: np.ndarray) -> np.ndarray:
        if subject not in tested:
            return volumes
        return noise_like(volumes, audited.draws("noise", subject))

    write_changed_copy(own.volumes, modality, folder.volumes, drown)
