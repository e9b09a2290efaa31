"""Which data set a study reads, and reading it."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from mgmt_ray.cohort.brats21 import Brats21Config, read_brats21
from mgmt_ray.cohort.plain_table import TableConfig, read_table_cohort
from mgmt_ray.cohort.reader import ReaderResult
from mgmt_ray.cohort.tcga import TcgaConfig, read_tcga
from mgmt_ray.cohort.ucsf import UcsfConfig, read_ucsf
from mgmt_ray.cohort.upenn import UpennConfig, read_upenn

CohortConfig: TypeAlias = Annotated[
    UpennConfig | Brats21Config | UcsfConfig | TcgaConfig | TableConfig,
    Field(discriminator="reader"),
]
"""One data set; ``reader`` says in which layout."""


def read_data_set(config: CohortConfig) -> ReaderResult:
    """Find a data set's subjects, their labels and scans, and say who is out and why.

    Raises:
        MgmtError: the folder has no such layout, or its table is no table.
    """
    match config:
        case UpennConfig():
            return read_upenn(config)
        case Brats21Config():
            return read_brats21(config)
        case UcsfConfig():
            return read_ucsf(config)
        case TcgaConfig():
            return read_tcga(config)
        case TableConfig():
            return read_table_cohort(config)
