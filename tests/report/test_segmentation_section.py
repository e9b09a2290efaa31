from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.report.sections.segmentation_section import (
    empty_prediction_sentence,
    examples_picture,
    overlap_table,
    seconds_table,
    segmentation_sections,
    shown_patients,
)
from mgmt_ray.report.study_results import StudyResults, read_study_results
from mgmt_ray.statistics.slice_classification import read_segmentations
from mgmt_ray.statistics.slice_overlap import patient_overlap


def test_dice_is_next_to_the_papers_with_standard_deviation_and_interval(
    sliced_results: StudyResults,
) -> None:
    overlap = sliced_results.tables["slice_overlap"]
    table = overlap_table(overlap)
    rows = {row[:2]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    assert list(rows) == [
        (modality, phase)
        for modality in ("FLAIR", "T1GD")
        for phase in ("training", "validation", "test")
    ]
    test = rows["FLAIR", "test"]
    rows_of_test = overlap[(overlap["modality"] == "FLAIR") & (overlap["phase"] == "test")]
    (row,) = rows_of_test[rows_of_test["measure"] == "dice_volume"].to_dict("records")
    assert test["3-D Dice"] == (
        f"{row['value']:.3f}\n± {row['std']:.3f}\n[{row['value_low']:.3f}, {row['value_high']:.3f}]"
    )
    assert test["paper's\nDice"] == "0.897\n± 0.007"
    assert test["Empty"] == "3"  # one patient, three folds
    assert "[" not in rows["FLAIR", "validation"]["3-D Dice"]


def test_empty_segmentations_are_counted_in_words(sliced_results: StudyResults) -> None:
    overlap = sliced_results.tables["slice_overlap"]
    assert empty_prediction_sentence(overlap).startswith(
        "6 segmentations of test patients are empty"
    )
    without = overlap.assign(num_empty=0)
    assert empty_prediction_sentence(without) == "No segmentation of a test patient is empty."


def test_seconds_name_the_device_beside_the_papers(sliced_results: StudyResults) -> None:
    table = seconds_table(sliced_results.tables["slice_seconds"])
    assert [row[:2] for row in table.rows] == [
        ("FLAIR", "an invented GPU"),
        ("T1GD", "an invented GPU"),
    ]
    assert [row[-2:] for row in table.rows] == [("0.07", "60"), ("0.11", "50")]


def test_worst_median_and_best_are_found_by_dice_alone() -> None:
    dice = {"A": 0.5, "B": 0.9, "C": 0.1, "D": 0.7}
    patients = pd.DataFrame(
        {"modality": "FLAIR", "subject": list(dice), "dice_volume": list(dice.values())}
    )
    shown = shown_patients(patients)
    assert shown[["place", "subject"]].to_numpy().tolist() == [
        ["worst", "C"],
        ["median", "A"],
        ["best", "B"],
    ]


def test_the_section_shows_every_test_patient_and_three_of_each_modality(
    sliced_study: Path, sliced_results: StudyResults, tmp_path: Path, figures: FigureFolder
) -> None:
    out = tmp_path / "out"
    shutil.copytree(sliced_study, out)
    (section,) = segmentation_sections(out, sliced_results, figures)
    pictures = {picture.path.name: picture for picture in section.content["figures"]}
    assert {*pictures} == {
        "dice_chen.png",
        "segmented_chen.png",
        "segmentation_training_chen.png",
    }
    assert all(picture.path.stat().st_size > 5000 for picture in pictures.values())
    segmentations = read_segmentations(out)
    assert segmentations is not None
    for row in shown_patients(patient_overlap(segmentations)).to_dict("records"):
        words = f"{row['modality']}: {row['place']}: {row['subject']}, slice 42 3-D Dice"
        assert words in pictures["segmented_chen.png"].alt


def test_a_patient_without_a_kept_slice_is_an_error(
    sliced_study: Path, tmp_path: Path, figures: FigureFolder
) -> None:
    path = tmp_path / "ensembles" / "segmentation_examples.npz"
    path.parent.mkdir()
    with np.load(sliced_study / "ensembles" / path.name) as kept:
        few = {name: kept[name][:1] for name in kept}
    segmentations = read_segmentations(sliced_study)
    assert segmentations is not None
    patients = patient_overlap(segmentations)
    assert examples_picture(tmp_path, "chen", patients, figures) == []
    np.savez(path, **few)
    with pytest.raises(MgmtError, match="no FLAIR slice of"):
        examples_picture(tmp_path, "chen", patients, figures)
    path.write_bytes(b"nothing")
    with pytest.raises(MgmtError, match="not readable"):
        examples_picture(tmp_path, "chen", patients, figures)


def test_a_study_that_was_not_segmented_says_what_makes_it_and_others_have_no_section(
    sliced_results: StudyResults, small_study: Path, tmp_path: Path, figures: FigureFolder
) -> None:
    (section,) = segmentation_sections(tmp_path, replace(sliced_results, tables={}), figures)
    assert section.missing.startswith("No ensembles/segmentations.csv yet")
    assert segmentation_sections(small_study, read_study_results(small_study), figures) == []


def test_a_segmentation_of_another_split_is_refused(sliced_study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(sliced_study, out)
    path = next(out.glob("trials/chen-segmentation*/trial.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"split_hash": "another"}))
    with pytest.raises(MgmtError, match="trained with another split"):
        read_study_results(out)
