from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.report.html import write_report
from mgmt_ray.report.sections.external_section import external_cohorts
from mgmt_ray.report.sections.slices_section import (
    best_table,
    classification_table,
    counts_table,
    mask_sentences,
    slices_sections,
    undefined_sentence,
)
from mgmt_ray.report.study_results import StudyResults, read_study_results
from mgmt_ray.splits.draw import SplitConfig
from mgmt_ray.statistics.slice_classification import read_classified_slices
from tests.report.sliced import NUM_SLICES, write_sliced_study


def test_each_row_of_table_4_has_the_papers_below(sliced_results: StudyResults) -> None:
    scores = sliced_results.tables["slice_classification"]
    table = classification_table(scores, "slice")
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert [row["Source"] for row in rows] == ["this study", "paper"] * 6
    ours, papers = rows[4:6]
    assert (ours["Modality"], ours["Phase"], papers["Phase"]) == ("FLAIR", "test", "test")
    row = scores[(scores["phase"] == "test") & (scores["level"] == "slice")].iloc[0]
    assert ours["Recall"] == (
        f"{row['recall']:.3f} ± {row['recall_std']:.3f}\n"
        f"[{row['recall_low']:.3f}, {row['recall_high']:.3f}]"
    )
    assert (papers["F1"], papers["AUC"]) == ("0.836 ± 0.072", "–")


def test_values_that_are_not_defined_are_counted(sliced_results: StudyResults) -> None:
    scores = sliced_results.tables["slice_classification"]
    assert undefined_sentence(scores) == ""
    undefined = scores.assign(precision_undefined=[1] + [0] * (len(scores) - 1))
    assert "Precision 1." in undefined_sentence(undefined)
    assert "(1 undefined)" in classification_table(undefined, str(undefined["level"][0])).rows[0][7]


def test_patients_and_slices_stand_beside_table_1(sliced_study: Path) -> None:
    slices = read_classified_slices(sliced_study)
    assert slices is not None
    rows = counts_table(slices).rows
    assert [row[:2] for row in rows[:2]] == [("FLAIR", "training"), ("FLAIR", "test")]
    tested = slices[slices["split"] == "test"].drop_duplicates("subject")["label"]
    number = f"{len(tested)} ({tested.sum()}/{(1 - tested).sum()})"
    assert rows[1][2:4] == (number, "15 (7/8)")
    assert rows[1][4].startswith(f"{len(tested) * NUM_SLICES} ")


def test_the_best_models_stand_beside_figures_5_and_6(sliced_results: StudyResults) -> None:
    table = best_table(sliced_results.tables["slice_best"])
    assert "Split" not in table.header
    assert [row[0] for row in table.rows] == ["FLAIR", "FLAIR", "T1GD", "T1GD"]
    assert [row[-1] for row in table.rows] == ["0.905", "0.905", "0.887", "0.887"]
    assert all("[" in row[-2] for row in table.rows)


@pytest.mark.parametrize("cross_fitted", [True, False])
def test_the_source_of_training_masks_is_described(*, cross_fitted: bool) -> None:
    (sentence,) = mask_sentences({"chen": {"cross_fitted": cross_fitted, "parts": 4}})
    assert ("is not cross-fitted, as in the paper" in sentence) is not cross_fitted
    same = {"cross_fitted": cross_fitted, "parts": 4}
    both, other = mask_sentences({"three": same, "four": same, "two": {"parts": 2}})
    assert both == sentence.replace("chen is", "three, four are") and "of 2 networks" in other
    assert ("one of 4 networks that did not train on that patient" in sentence) is cross_fitted


def test_a_study_without_slices_has_no_such_section(
    sliced_results: StudyResults, small_study: Path, tmp_path: Path, figures: FigureFolder
) -> None:
    (section,) = slices_sections(tmp_path, replace(sliced_results, tables={}), figures)
    assert section.missing.startswith("No ensembles/slice_classification.csv yet")
    assert slices_sections(small_study, read_study_results(small_study), figures) == []


def test_a_report_of_slices_alone_says_nothing_that_holds_of_volumes_only(
    sliced_study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(sliced_study, out)
    text = " ".join(write_report(out).read_text(encoding="utf-8").split())
    for anchor in ("segmentation", "slices"):
        assert f'<section id="{anchor}"' in text
    wrong = (
        "3-D MRI",
        "UPENN",
        "Schmitz, Guo",
        "figures 2 and 4 of the paper",
        "policy draws, folds, seeds and modalities",
        "The epoch with the highest M",
        "Training volumes",
        "pruned in training folds",
        "binary cross-entropy",
        "its own minimum and maximum",
        "nothing is fitted over subjects",
        "mgmt-ray explain STUDY",
        "paper's best",
        "best M",
    )
    assert [phrase for phrase in wrong if phrase in text] == []
    right = (
        "Deep learning on 2-D slices of MRI (chen)",
        "networks.chen.cross_fitted",
        "chen, segmentations",
        "slices&#39; checksums",
        "whole patients",
        "not picked by hand",
        "does not say by which score",
        "has no other use",
    )
    assert [phrase for phrase in right if phrase not in text] == []


def test_several_splits_seeds_and_external_cohorts_are_reported(tmp_path: Path) -> None:
    out = write_sliced_study(
        tmp_path / "out",
        modalities=("FLAIR",),
        num_subjects=40,
        split_config=SplitConfig(outer_folds=2, folds=2),
        num_seeds=2,
        external=("elsewhere",),
        cross_fitted=False,
    )
    results = read_study_results(out)
    best = best_table(results.tables["slice_best"])
    assert [row[1] for row in best.rows] == ["0", "0", "1", "1"]
    (cohort,) = external_cohorts(out, results)
    named = [table.name for table in cohort["slices"]]
    assert named == [
        "segmentation_elsewhere",
        "classification_by_slice_elsewhere",
        "classification_by_patient_elsewhere",
    ]
    assert not any("paper" in cell for table in cohort["slices"] for cell in table.header)
    text = write_report(out).read_text(encoding="utf-8")
    assert "is not cross-fitted, as in the paper" in text
    assert 'id="table-classification_by_slice_elsewhere"' in text
