"""The layouts in which a synthetic cohort can be written."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from mgmt_ray.cohort.upenn import UpennConfig, read_upenn
from mgmt_ray.synthetic.brats21_copy import write_brats21_copy
from mgmt_ray.synthetic.table_layout import write_table_copy
from mgmt_ray.synthetic.tcga_copy import write_tcga_copy
from mgmt_ray.synthetic.ucsf_copy import write_ucsf_copy

Layout: TypeAlias = Literal["upenn", "brats21", "brats21-dicom", "ucsf", "tcga", "table"]
"""Public data sets by their readers' names; ``brats21-dicom`` are the series of its second task."""


def write_layout(
    layout: Layout, upenn: Path, modalities: tuple[str, ...], folder: Path, seed: int
) -> None:
    """Write a cohort in UPENN-GBM's layout once more, as a copy of another data set looks.

    Such a copy also holds what real ones do and a reader must not stumble over: cases without a
    label, follow-ups, other statuses, more files. Voxels and labels are the same, and age and sex
    where the layout has a place for them.

    Args:
        layout: any but "upenn".
        upenn: the cohort to copy; files are shared where the disk can do that.
        modalities: that it has.
        folder: to write into.
        seed: of the new ids and of what is added.

    Raises:
        MgmtError: a file cannot be written.
    """
    config = UpennConfig(reader="upenn", root=upenn, modalities=modalities)
    subjects = read_upenn(config).subjects
    match layout:
        case "brats21":
            write_brats21_copy(subjects, folder, seed)
        case "brats21-dicom":
            write_brats21_copy(subjects, folder, seed, images="dicom")
        case "ucsf":
            write_ucsf_copy(subjects, folder, seed)
        case "tcga":
            write_tcga_copy(subjects, folder, seed)
        case "table":
            write_table_copy(subjects, folder, seed)
        case "upenn":
            raise AssertionError("the copy would be the cohort itself")
