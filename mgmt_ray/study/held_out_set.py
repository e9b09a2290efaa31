"""Subjects that no member of an ensemble trained or validated on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.study.folder import StudyFolder


@dataclass(frozen=True, slots=True)
class HeldOutSet:
    """Subjects that a member did not train or validate on.

    Attributes:
        split: what they are to the study.
        folder: of the study, or of an external cohort, with their volumes and slices.
        label: by subject; these are predicted, in this order.
        cohort: whose subjects they are.
    """

    split: Literal["test", "external"]
    folder: StudyFolder
    label: Mapping[str, int]
    cohort: Cohort
