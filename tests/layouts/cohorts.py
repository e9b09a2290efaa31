"""Writing a synthetic cohort in the layout of any reader."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal, TypeAlias

from mgmt_ray.cohort.upenn import UpennConfig, read_upenn
from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize
from mgmt_ray.synthetic.table_layout import synthesize_as_table
from tests.layouts.brats21 import write_brats21_copy
from tests.layouts.tcga import write_tcga_copy
from tests.layouts.ucsf import write_ucsf_copy

Layout: TypeAlias = Literal["upenn", "brats21", "brats21-dicom", "ucsf", "tcga", "table"]
"""Data sets by their readers' names; ``brats21-dicom`` has the DICOM series of its second task."""


def write_cohort(layout: Layout, config: SyntheticConfig, folder: Path) -> None:
    """Write a synthetic cohort in the layout of a data set, with its irregularities.

    These are cases without a label, follow-ups, other statuses and further files. Voxels and labels
    are the same in every layout, and age and sex in those that have them.

    Args:
        layout: all but "upenn" and "table" need exactly the structural modalities.
        config: of the subjects.
        folder: created if needed; also gets ``planted.json``.
    """
    if layout == "upenn":
        synthesize(config, folder)
        return
    if layout == "table":
        synthesize_as_table(config, folder)
        return
    first = folder / ".upenn"
    synthesize(config, first)
    source = UpennConfig(reader="upenn", root=first, modalities=config.modalities)
    subjects = read_upenn(source).subjects
    match layout:
        case "brats21":
            write_brats21_copy(subjects, folder, config.seed)
        case "brats21-dicom":
            write_brats21_copy(subjects, folder, config.seed, images="dicom")
        case "ucsf":
            write_ucsf_copy(subjects, folder, config.seed)
        case "tcga":
            write_tcga_copy(subjects, folder, config.seed)
    shutil.move(first / "planted.json", folder / "planted.json")
    shutil.rmtree(first)
