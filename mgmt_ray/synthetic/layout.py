"""The layouts in which a synthetic cohort can be written."""

from __future__ import annotations

from typing import Literal, TypeAlias

Layout: TypeAlias = Literal["upenn", "brats21", "brats21-dicom", "ucsf", "tcga", "table"]
"""Public data sets by their readers' names; ``brats21-dicom`` are the series of its second task."""
