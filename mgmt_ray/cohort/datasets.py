"""The readers of all data sets behind one configuration."""

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
"""Configuration of one data set; its key ``reader`` selects the layout."""


def read_data_set(config: CohortConfig) -> ReaderResult:
    r"""Read a data set's subjects with labels and scans, its exclusions, and its problems.

    Raises:
        MgmtError: the folder does not have the reader's layout, or its table cannot be used.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder, "cohort.csv")
    ...     _ = table.write_text("subject,label,mask,FLAIR\nP1,unknown,m.nii.gz,f.nii.gz\n")
    ...     config = TableConfig(reader="table", root=folder, modalities=("FLAIR",))
    ...     read_data_set(config).exclusions
    (Exclusion(subject='P1', scope='cohort', reason='MGMT unknown'),)
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
