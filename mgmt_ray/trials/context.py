"""What the stages of a study share: its settings, files and resources; then cohort and splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.splits.split import Split
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import StudyConfig
from mgmt_ray.study.trial import Trial

STATE_SECONDS = 60.0
"""Seconds between two saved states of a training: a killed worker loses at most this much."""


@dataclass(frozen=True, slots=True)
class StudyContext:
    """A study, its folder, and the resources that its stages run on."""

    study: StudyConfig
    folder: StudyFolder
    resources: Resources
    tracking_uri: str | None = None

    def inputs(self, cohort: Cohort, splits: tuple[Split, ...]) -> TrialInputs:
        """Return what the study's trials read, with an absolute folder for Ray's workers."""
        root = StudyFolder(self.folder.root.absolute())
        return TrialInputs(
            self.study, root, self.resources, self.tracking_uri, cohort=cohort, splits=splits
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialInputs(StudyContext):
    """A study with all that its trials and members read.

    Attributes:
        cohort: subjects of the study.
        splits: indexed by a trial's number of the outer split.
        state_seconds: least time between two saved states of a training.
        pause_at: by trial's id, an epoch after which it saves its state and ends unfinished.
        shorter: by trial's id, trials that are its first epochs, which it finishes on its way.
    """

    cohort: Cohort
    splits: tuple[Split, ...]
    state_seconds: float = STATE_SECONDS
    pause_at: Mapping[str, int] = field(default_factory=dict)
    shorter: Mapping[str, tuple[Trial, ...]] = field(default_factory=dict)

    @property
    def checkpoint(self) -> Path | None:
        """MedicalNet's ``.pth`` file; None if no network needs it."""
        return self.study.checkpoint
