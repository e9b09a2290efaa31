"""Where the table of new patients may be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.prediction.patient_table import PATIENT_COLUMNS, refuse_other_file


def test_a_table_is_written_anew_and_nothing_else_is_written_over(tmp_path: Path) -> None:
    table = tmp_path / "predictions.csv"
    refuse_other_file(table)
    table.write_text(",".join(PATIENT_COLUMNS) + "\nP1,random,Struct,.5\n")
    refuse_other_file(table)
    table.write_text("subject,label\nP1,0\n")
    with pytest.raises(MgmtError, match="not written over"):
        refuse_other_file(table)


@pytest.mark.parametrize(
    ("name", "told"),
    [("README.md", "ends with .csv"), ("nobody/predictions.csv", "there is no folder")],
)
def test_a_place_that_cannot_be_meant_is_refused(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(MgmtError, match=told):
        refuse_other_file(tmp_path / name)
