"""Held-out subjects: the test set, or an external cohort."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.study.folder import StudyFolder


@dataclass(frozen=True, slots=True)
class HeldOutSet:
    """Subjects that no member of an ensemble trained or validated on.

    Attributes:
        folder: the study's or the external cohort's, with their volumes and slices.
        label: by id, in the order of prediction.
    """

    split: Literal["test", "external"]
    folder: StudyFolder
    label: Mapping[str, int]
    cohort: Cohort

    def having(self, channels: tuple[str, ...]) -> HeldOutSet:
        """Return the subjects that have these modalities; those of a shared test set have all."""
        complete = {s.id for s in self.cohort.subjects if s.has_all(channels)}
        return replace(self, label={s: y for s, y in self.label.items() if s in complete})
