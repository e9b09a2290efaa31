from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mgmt_ray.report.sections.choices_section import (
    choices_section,
    chosen_by_network,
    chosen_table,
    ranks_table,
    steps_table,
)
from mgmt_ray.report.study_results import StudyResults, read_study_results
from mgmt_ray.selection.best_on_validation import BEST_OVERALL, FORWARD_SELECTION


@pytest.fixture(scope="module")
def results(whole_study: Path) -> StudyResults:
    return replace(read_study_results(whole_study), planted=None)


def test_what_was_chosen_is_named_beside_its_test_result(results: StudyResults) -> None:
    best = results.tables["best_ensembles"]
    chosen = best[best["chosen"] == 1].set_index("network")["ensemble"]
    rows = {(row[0], row[1]): row for row in chosen_table(results).rows}
    assert len(rows) == 6
    row = rows[BEST_OVERALL, "SpotTune"]
    assert row[2:4] == (chosen["spottune"], "DSC+DTI")
    metrics = results.metrics
    ours = metrics[(metrics["network"] == "spottune") & (metrics["ensemble"] == BEST_OVERALL)]
    assert row[4].startswith(f"{ours['auc'].iloc[0]:.3f}\n")


def test_forward_selection_names_only_what_was_kept_in_its_order(results: StudyResults) -> None:
    steps = results.tables["forward_selection"]
    kept = steps[(steps["network"] == "random") & (steps["kept"] == 1)].sort_values("step")
    words = chosen_by_network(results, FORWARD_SELECTION)
    assert words["random"] == " + ".join(kept["modality"])
    # a step that improves nothing is told, and not kept
    assert 1 <= len(kept) < (steps["network"] == "random").sum()
    assert len(steps_table(results).rows) == len(steps)


def test_outer_splits_that_choose_differently_are_told_apart(results: StudyResults) -> None:
    best = results.tables["best_ensembles"]
    rows = [
        ("spottune", 0, "DSC", 1),
        ("spottune", 0, "DTI", 0),
        ("spottune", 1, "DTI", 1),
        ("random", 0, "DTI", 1),
        ("random", 1, "DTI", 1),
    ]
    table = pd.DataFrame(rows, columns=["network", "outer_fold", "ensemble", "chosen"])
    other = replace(results, tables={"best_ensembles": table.reindex(columns=best.columns)})
    assert chosen_by_network(other, BEST_OVERALL) == {"spottune": "DSC / DTI", "random": "DTI"}


def test_modalities_are_ranked_by_their_mean_step(results: StudyResults) -> None:
    steps = results.tables["forward_selection"]
    means = steps.groupby("modality")["step"].mean()
    rows = ranks_table(results).rows
    assert [float(row[-1]) for row in rows] == sorted(means.round(1))
    assert all(float(row[-1]) == round(means[row[0]], 1) for row in rows)


def test_without_the_tables_the_command_is_named(results: StudyResults) -> None:
    section = choices_section(replace(results, tables={}))
    assert "mgmt-ray ensemble STUDY" in section.missing
