"""Time of statistics and report at the paper's size: ``python -m benchmarks.statistics``."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.device import median_s, timed
from mgmt_ray.cohort.subject import MODALITIES
from mgmt_ray.report.html import write_report
from mgmt_ray.selection.predictions import read_table
from mgmt_ray.statistics.result_tables import evaluate_ensembles


@dataclass(frozen=True)
class Options:
    """Time the statistics and the report of 165 members.

    Attributes:
        rounds: how often each is timed
        report: whether the report is timed too
        modalities: of the study; all eleven make 165 members
        epochs: of each training, for its curves
    """

    rounds: int = 3
    report: bool = True
    modalities: tuple[str, ...] = MODALITIES
    epochs: int = 90


def main(options: Options) -> None:
    print(json.dumps(measure(options)))


def measure(options: Options) -> dict[str, object]:
    """Time both on a synthetic study folder with random predictions."""
    # imported here because it needs pytest
    from tests.report.conftest import write_study

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        write_study(
            out,
            None,
            options.modalities,
            num_subjects=238,
            num_epochs=options.epochs,
            is_whole=True,
        )
        tables, reports = [], []
        for _ in range(options.rounds):
            tables.append(timed(lambda: evaluate_ensembles(out), "cpu")[1])
            if options.report:
                reports.append(timed(lambda: write_report(out), "cpu")[1])
        metrics = read_table(out / "ensembles" / "metrics.csv", "")
        members = read_table(out / "ensembles" / "members.csv", "")
    statistics_s, report_s = median_s(tables), median_s(reports) if reports else 0.0
    process_s = sum(timings.process_s for timings in [*tables, *reports]) / options.rounds
    return {
        "name": "statistics",
        "seconds": round(statistics_s + report_s, 2),
        "statistics_seconds": round(statistics_s, 2),
        "report_seconds": round(report_s, 2) if reports else None,
        "process_seconds": round(process_s, 2),
        "num_members": len(members),
        "num_subjects": int(metrics["num_subjects"].max()),
        "num_models": len(metrics),
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
