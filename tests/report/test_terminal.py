from __future__ import annotations

from pathlib import Path

import pandas as pd

from mgmt_ray.report.terminal import summary
from mgmt_ray.selection.predictions import read_table
from mgmt_ray.statistics.result_tables import METRIC_COLUMNS


def metrics(**changes: object) -> pd.DataFrame:
    row = {
        "network": "spottune",
        "ensemble": "DSC+DTI+Struct",
        "num_members": 55,
        "num_subjects": 57,
        "num_methylated": 24,
    }
    row |= {"copy_of": "", "family": "secondary"}
    row |= {name: 0.6639 for name in METRIC_COLUMNS if name not in row}
    return pd.DataFrame([row | changes])


def test_a_line_holds_each_value_with_its_interval() -> None:
    text = summary(metrics(auc_low=0.5151, auc_high=0.8049))
    assert "SpotTune: 57 test subjects, 24 methylated" in text
    (line,) = [line for line in text.splitlines() if line.startswith("DSC+DTI+Struct")]
    assert line.startswith("DSC+DTI+Struct      55  .664 [.52, .80]*  ")


def test_only_an_interval_above_one_half_earns_a_star() -> None:
    assert "]*" in summary(metrics(auc_low=0.501))
    assert "]*" not in summary(metrics(auc_low=0.5))


def test_the_last_line_counts_the_stars_that_holms_correction_leaves() -> None:
    table = pd.concat([metrics(auc_p_holm=p) for p in (0.049, 0.05, float("nan"))])
    last = summary(table).splitlines()[-1]
    assert "1 of 3 distinct stars remain after Holm's correction (p < 0.05)" in last
    assert "0 of 0 distinct stars" in summary(metrics(auc_low=0.4))
    copied = pd.concat([table, metrics(copy_of="best overall")])
    assert "1 of 3 distinct stars" in summary(copied).splitlines()[-1]


def test_the_widest_lines_fit_in_a_hundred_columns(study: Path) -> None:
    widest = {name: 1.0 for name in METRIC_COLUMNS[5:] if name not in ("copy_of", "family")}
    long = metrics(ensemble="ap-rCBV+PH+PSR+AD+FA", num_members=1000, **widest)
    for table in (long, read_table(study / "ensembles" / "metrics.csv", "")):
        assert max(map(len, summary(table).splitlines())) <= 100
    lines = summary(long).splitlines()
    after = lines[lines.index("ap-rCBV+PH+PSR+AD+FA") + 1]
    assert after.startswith(f"{'':17} 1000  1.000 [1.00, 1.00]* 1.000 [1.00, 1.00]")
