from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.report.html import render_page
from mgmt_ray.report.sections.saliency_section import saliency_section
from mgmt_ray.report.study_results import StudyResults, read_study_results


@pytest.fixture(scope="module")
def results(whole_study: Path) -> StudyResults:
    return read_study_results(whole_study)


@pytest.fixture
def figures(tmp_path: Path) -> FigureFolder:
    for name in ("explain_S_1_PH", "explain_S_1_T1", "explain_B_T1", "explain_B_T1GD", "roc"):
        Image.new("RGB", (900, 300)).save(tmp_path / f"{name}.png")
    return FigureFolder(tmp_path)


def test_pictures_are_shown_by_subject_with_what_they_are_of(
    results: StudyResults, figures: FigureFolder
) -> None:
    section = saliency_section(results, figures)
    shown = {s: [p.path.stem for p in maps] for s, maps in section.content["by_subject"].items()}
    # the study has no T1GD
    assert shown == {"B": ["explain_B_T1"], "S_1": ["explain_S_1_PH", "explain_S_1_T1"]}
    page = render_page("x", [section])
    assert page.count("<img") == 3
    assert "S_1, PH: slices through the tumour" in page
    assert "older than the results" not in page


def test_pictures_older_than_the_results_are_a_warning(
    results: StudyResults, figures: FigureFolder
) -> None:
    explained = {"purpose": "explain", "time": "2024-11-21T08:59:00+00:00"}
    old = replace(results, openings=(explained, *results.openings))
    assert "older than the results" in render_page("x", [saliency_section(old, figures)])
    new = replace(old, openings=(*old.openings, {**explained, "time": "2024-11-21T09:01:00+00:00"}))
    assert not saliency_section(new, figures).content["old"]


def test_without_pictures_the_command_is_named(results: StudyResults, tmp_path: Path) -> None:
    assert "`mgmt-ray explain STUDY`" in saliency_section(results, FigureFolder(tmp_path)).missing
