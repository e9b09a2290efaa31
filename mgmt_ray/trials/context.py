"""What all stages of a study share: its settings, its files, where it runs, what trials read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.splits.split import Split
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.study.study_config import StudyConfig

STATE_SECONDS = 60.0
"""How often a training's state is saved, so that a killed worker loses no more than this."""


@dataclass(frozen=True, slots=True)
class TrialInputs:
    """What every trial of a study reads besides its own description.

    Attributes:
        folder: the study's.
        cohort: its subjects.
        splits: all of them; a trial uses its own.
        checkpoint: MedicalNet's weights.
        state_seconds: least time between two saved states.
    """

    folder: StudyFolder
    cohort: Cohort
    splits: tuple[Split, ...]
    checkpoint: Path | None
    state_seconds: float = STATE_SECONDS


@dataclass(frozen=True, slots=True)
class StudyContext:
    """A study, where its files are, and where its work runs."""

    study: StudyConfig
    folder: StudyFolder
    resources: Resources
    tracking_uri: str | None = None

    def inputs(self, cohort: Cohort, splits: tuple[Split, ...]) -> TrialInputs:
        """What every trial reads."""
        root = StudyFolder(self.folder.root.absolute())
        return TrialInputs(root, cohort, splits, self.study.checkpoint)
