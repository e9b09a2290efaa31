"""What all stages of a study share: its settings, files, resources, and the inputs of trials."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.splits.split import Split
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import StudyConfig

STATE_SECONDS = 60.0
"""Seconds between two saved states of a training: a killed worker loses at most this much."""


@dataclass(frozen=True, slots=True)
class TrialInputs:
    """What all trials of a study read besides their settings.

    Attributes:
        folder: of the study.
        cohort: subjects of the study.
        splits: indexed by a trial's number of the outer split.
        checkpoint: MedicalNet's ``.pth`` file; None if no network needs it.
        state_seconds: least time between two saved states of a training.
    """

    folder: StudyFolder
    cohort: Cohort
    splits: tuple[Split, ...]
    checkpoint: Path | None
    state_seconds: float = STATE_SECONDS


@dataclass(frozen=True, slots=True)
class StudyContext:
    """A study, its folder, and the resources that its stages run on."""

    study: StudyConfig
    folder: StudyFolder
    resources: Resources
    tracking_uri: str | None = None

    def inputs(self, cohort: Cohort, splits: tuple[Split, ...]) -> TrialInputs:
        """Return the inputs of the study's trials, with an absolute folder for Ray's workers."""
        root = StudyFolder(self.folder.root.absolute())
        return TrialInputs(root, cohort, splits, self.study.checkpoint)
