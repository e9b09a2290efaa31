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


def test_a_line_holds_the_networks_side_by_side() -> None:
    both = [metrics(auc_low=0.5151, auc_high=0.8049), metrics(network="random", auc_low=0.4)]
    lines = summary(pd.concat(both)).splitlines()
    assert lines[0].endswith("test subjects: 57, 24 of them methylated")
    assert lines[1].split("  ")[0] == "ensemble"
    assert lines[1].index("SpotTune") == lines[2].index(".664 [.52, .80]*")
    assert lines[1].index("From scratch") == lines[2].index(".664 [.40, .66]")


def test_a_model_of_several_names_is_one_line() -> None:
    names = {"best overall": "", "DSC+DTI+Struct": "best overall", "DTI": ""}
    table = pd.concat([metrics(ensemble=name, copy_of=of) for name, of in names.items()][::-1])
    lines = [line.split("  ")[0] for line in summary(table).splitlines()[2:-2]]
    assert lines == ["DTI", "DSC+DTI+Struct"]
    assert summary(table).splitlines()[3].endswith(" best")


def test_answers_come_before_the_table() -> None:
    assert summary(metrics(), ["Not shown."]).splitlines()[:2] == ["Not shown.", ""]


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
    networks = ("spottune", "random", "transfer", "other")
    named = {"ensemble": "ap-rCBV+PH+PSR+AD+FA"}
    long = pd.concat([metrics(network=name, **named, **widest) for name in networks])
    for table in (long, read_table(study / "ensembles" / "metrics.csv", "")):
        assert max(map(len, summary(table).splitlines())) <= 100
    lines = summary(metrics(ensemble="ap-rCBV+PH+PSR+AD+FA+TR")).splitlines()
    after = lines[lines.index("ap-rCBV+PH+PSR+AD+FA+TR") + 1]
    assert after.startswith(f"{'':20} .664 [.66, .66]*")
