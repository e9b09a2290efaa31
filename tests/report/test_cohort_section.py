from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from mgmt_ray.base import MgmtError, stream, write_text
from mgmt_ray.cluster.resources import Resources
from mgmt_ray.cohort.cohort import Cohort, Exclusion, read_cohort, write_cohort
from mgmt_ray.cohort.inclusion import Finding, write_findings
from mgmt_ray.cohort.problem import Problem
from mgmt_ray.cohort.subject import Subject
from mgmt_ray.cohort.upenn import UpennConfig, read_upenn
from mgmt_ray.data.prepare_stores import prepare_volumes
from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.preprocess.artefact_store import index_path
from mgmt_ray.preprocess.recipe import RecipeConfig
from mgmt_ray.preprocess.scan_inspection import (
    Inspection,
    inspect_subject,
)
from mgmt_ray.preprocess.scan_preview import BINS, PICTURE, View
from mgmt_ray.report.html import render_page, write_report
from mgmt_ray.report.section import Section
from mgmt_ray.report.sections.cohort_section import (
    ScanReport,
    examples,
    preview_scans,
    read_scans,
    versions_pictures,
    visible_label,
    write_cohort_figures,
)
from mgmt_ray.study.folder import StudyFolder
from mgmt_ray.synthetic.generate import SyntheticConfig, synthesize
from tests.inspections import write_inspection

MODALITIES = ("PH", "FLAIR")
RECIPE = RecipeConfig(
    window=((0, 24), (0, 24), (0, 24)), shape=(12, 12, 12), deform_sigma_voxels=1.0
)
SCRIPT = "<script>alert(1)</script>"


def scans_of(out: Path, cohort: Cohort, modalities: Sequence[str]) -> ScanReport:
    return read_scans(out, cohort, modalities, FigureFolder(out / "figures"))


def draw_versions(out: Path, cohort: Cohort, recipe: RecipeConfig) -> None:
    versions_pictures(out, cohort, MODALITIES, recipe, FigureFolder(out / "figures"))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Eight subjects with scans of 24 voxels along each side; two have no PH."""
    root = tmp_path_factory.mktemp("data")
    config = SyntheticConfig(
        subjects=8, grid=(24, 24, 24), modalities=MODALITIES, without_dti=0.0, without_dsc=0.25
    )
    synthesize(config, root)
    reading = read_upenn(UpennConfig(reader="upenn", root=root, modalities=MODALITIES))
    return Cohort(reading.subjects, reading.exclusions)


@pytest.fixture
def out(cohort: Cohort, tmp_path: Path) -> Path:
    """A study's folder after its files were inspected."""
    for subject in cohort.subjects:
        inspection = inspect_subject(subject, RECIPE, (1, 2, 4))
        assert not inspection.problems
        write_inspection(inspection, tmp_path / "out" / "inspections")
    return tmp_path / "out"


def open_test_set(out: Path) -> None:
    write_text(StudyFolder(out).test_openings, "{}\n")


def prepare(out: Path, cohort: Cohort, recipe: RecipeConfig) -> None:
    resources = Resources("in-process")
    prepare_volumes(cohort, MODALITIES, recipe, out / "volumes", resources, lambda *_: None)


def pixels(out: Path) -> dict[str, np.ndarray]:
    return {path.stem: imread(path) for path in (out / "figures").glob("cohort_versions_*.png")}


def fake_view(modality: str, scale: float) -> View:
    blank = np.zeros((PICTURE, PICTURE), np.uint8)
    counts = stream(0, modality).integers(1, 100, BINS)
    return View(modality, blank, blank > 0, 3, 1.0 * scale, 2.0 * scale, counts)


def test_the_command_draws_every_modality_before_volumes_are_prepared(
    out: Path, cohort: Cohort
) -> None:
    paths = write_cohort_figures(out, cohort, RECIPE, MODALITIES)
    assert [path.relative_to(out).as_posix() for path in paths] == [
        "figures/cohort_intensities.png",
        "figures/cohort_contact_PH.png",
        "figures/cohort_contact_FLAIR.png",
        "figures/cohort_versions_PH.png",
        "figures/cohort_versions_FLAIR.png",
    ]
    assert all(imread(path).ndim == 3 for path in paths)


def test_prepared_volumes_are_shown_if_they_are_of_this_recipe(out: Path, cohort: Cohort) -> None:
    draw_versions(out, cohort, RECIPE)
    made = pixels(out)
    prepare(out, cohort, RECIPE)
    away = [replace(s, scans=dict.fromkeys(s.scans, Path("gone"))) for s in cohort.subjects]
    moved = Cohort(tuple(away), cohort.exclusions)
    draw_versions(out, moved, RECIPE)
    stored = pixels(out)
    assert made.keys() == stored.keys() == {"cohort_versions_PH", "cohort_versions_FLAIR"}
    for name, picture in made.items():
        np.testing.assert_array_equal(picture, stored[name])
    other = RECIPE.model_copy(update={"seed": 1})
    with pytest.raises(MgmtError, match="gone"):
        draw_versions(out, moved, other)
    draw_versions(out, cohort, other)
    assert (pixels(out)["cohort_versions_PH"] != made["cohort_versions_PH"]).any()


def test_a_report_shows_prepared_volumes_and_never_reads_a_scan(out: Path, cohort: Cohort) -> None:
    assert [f.path.stem for f in scans_of(out, cohort, MODALITIES).figures] == [
        "cohort_intensities",
        "cohort_contact_PH",
        "cohort_contact_FLAIR",
    ]
    prepare(out, cohort, RECIPE)
    scans = scans_of(out, cohort, MODALITIES)
    versions = scans.figures[-1]
    assert versions.path.stem == "cohort_versions_FLAIR"
    assert "original, flip, rotate, noise, deform" in versions.alt
    # an array that was deleted to save space is no reason to have no report
    for modality in MODALITIES:
        index_path(out / "volumes", modality).unlink()
    assert len(scans_of(out, cohort, MODALITIES).figures) == 3


def test_external_volumes_without_augmentations_are_shown_alone(out: Path, cohort: Cohort) -> None:
    plain = RECIPE.model_copy(update={"rounds": 0})
    prepare(out, cohort, plain)
    assert "Versions original of" in scans_of(out, cohort, MODALITIES).figures[-1].alt
    twice = RECIPE.model_copy(update={"rounds": 2})
    prepare(out, cohort, twice)
    assert "noise, deform of" in scans_of(out, cohort, MODALITIES).figures[-1].alt


def test_a_contact_sheet_names_missing_scans_and_why(out: Path) -> None:
    subjects = tuple(
        Subject(name, label, {m: Path("x") for m in have}, Path("mask"))
        for name, label, have in (("A", 1, "PT"), ("B", 0, "P"), ("C", 1, "PT"), ("D", 0, "P"))
    )
    cohort = Cohort(subjects, (Exclusion("E", "cohort", "empty mask"),))
    bad_t = Problem("B", "other_grid", "b", "x", "y", "T")
    bad_mask = Problem("E", "empty_mask", "e", "x", "y")
    folder = out / "inspections"
    for inspection in (
        Inspection("A", (), {"P": "1", "T": "2"}, (fake_view("P", 1), fake_view("T", 1))),
        Inspection("B", (bad_t,), {"P": "3"}, (fake_view("P", 1),)),
        Inspection("E", (bad_mask,), {"P": "4"}, ()),
        Inspection("Z", (), {"P": "5"}, (fake_view("P", 1),)),
    ):
        write_inspection(inspection, folder)
    path = write_inspection(Inspection("C", (), {"P": "6"}, (fake_view("P", 1),)), folder)
    path.write_bytes(b"damaged")
    open_test_set(out)
    previews = preview_scans(out, cohort, ("P", "T", "V"))
    shown = {
        modality: [(s.subject, s.label, s.view is not None, s.fault) for s in scans]
        for modality, scans in previews.items()
    }
    # Z is of an earlier study, C cannot be read, D was never inspected, no subject has V
    assert shown == {
        "P": [("A", 1, True, ""), ("B", 0, True, ""), ("E", None, False, "empty mask")],
        "T": [("A", 1, True, ""), ("B", 0, False, "other grid")],
    }
    missing = Problem("D", "missing_modality", "d", "x", "y", "T")
    stranger = Problem("Z", "missing_modality", "z", "x", "y", "T")
    write_findings([Finding(missing, ""), Finding(stranger, "")], out / "problems.csv")
    previews = preview_scans(out, cohort, ("P", "T", "V"))
    assert [s.fault for s in previews["T"]] == ["", "other grid", "missing modality"]
    assert [s.subject for s in previews["P"]] == ["A", "B", "E"]
    sheets = [f for f in scans_of(out, cohort, ("P", "T", "V")).figures if f.is_contact_sheet]
    assert "Without a picture: E (empty mask)." in sheets[0].alt
    assert "Without a picture: B (other grid), D (missing modality)." in sheets[1].alt


def test_a_scan_of_another_scale_is_in_the_table_of_unusual_ones(out: Path) -> None:
    subjects = [Subject(f"S{i}", i % 2, {"P": Path("x")}, Path("mask")) for i in range(10)]
    for i, subject in enumerate(subjects):
        view = fake_view("P", 100.0 if i == 4 else 1.0)
        write_inspection(Inspection(subject.id, (), {"P": "1"}, (view,)), out / "inspections")
    scans = scans_of(out, Cohort(tuple(subjects)), ("P",))
    assert scans.outliers is not None
    (row,) = scans.outliers.rows
    assert row[:2] == ("S4", "P")
    assert float(row[2]) == pytest.approx(100 * float(row[3]), rel=1e-3)  # four digits are printed
    assert "Unusual: S4 P." in scans.figures[0].alt


def test_figures_of_a_modality_dropped_since_are_deleted(out: Path, cohort: Cohort) -> None:
    write_cohort_figures(out, cohort, RECIPE, MODALITIES)
    (out / "figures" / "roc.png").write_bytes(b"another's")
    paths = write_cohort_figures(out, cohort, RECIPE, ("FLAIR",))
    assert {*(out / "figures").iterdir()} == {*paths, out / "figures" / "roc.png"}
    assert not any("PH" in path.name for path in paths)
    prepare(out, cohort, RECIPE)
    scans_of(out, cohort, MODALITIES)
    shown = scans_of(out, cohort, ("PH",)).figures
    names = {path.stem for path in (out / "figures").glob("cohort_*")}
    assert names == {figure.path.stem for figure in shown}


def test_no_picture_shows_a_label_that_a_split_has_yet_to_fit(out: Path, cohort: Cohort) -> None:
    scored = [replace(s, score=0.1 + s.label / 2) for s in cohort.subjects]
    mixed = Cohort((replace(scored[0], score=None), *scored[1:]))
    open_test_set(out)
    labels = {scan.subject: scan.label for scan in preview_scans(out, mixed, ("FLAIR",))["FLAIR"]}
    first, *others = [s.id for s in mixed.subjects]
    assert labels == {first: mixed.subjects[0].label} | dict.fromkeys(others, "fitted")
    prepare(out, cohort, RECIPE)
    alt = scans_of(out, Cohort(tuple(scored)), MODALITIES).figures[-1].alt
    assert alt.count("(labelled by each split)") == 3
    assert "methylated" not in alt


def test_no_label_is_shown_before_the_test_set_is_accessed(out: Path, cohort: Cohort) -> None:
    def drawn(of: Cohort) -> dict[str, bytes]:
        paths = write_cohort_figures(out, of, RECIPE, ("FLAIR",))
        return {path.name: path.read_bytes() for path in paths}

    alternate = Cohort(
        tuple(replace(s, label=1 - s.label) for s in cohort.subjects), cohort.exclusions
    )
    assert drawn(cohort) == drawn(alternate)
    assert {s.label for s in preview_scans(out, cohort, ("FLAIR",))["FLAIR"]} <= {"hidden", None}
    texts = [text for f in scans_of(out, cohort, ("FLAIR",)).figures for text in (f.caption, f.alt)]
    assert not any("methylated" in text for text in texts)
    assert "labels are hidden until the test set has been opened" in texts[0]
    open_test_set(out)
    opened = drawn(cohort)
    assert {s.label for s in preview_scans(out, cohort, ("FLAIR",))["FLAIR"]} == {0, 1}
    assert all(picture != opened[name] for name, picture in drawn(alternate).items())
    assert "the mean of each label" in scans_of(out, cohort, ("FLAIR",)).figures[0].caption


@pytest.fixture
def reported(small_study: Path, tmp_path: Path) -> Path:
    """A copy of a study with its report."""
    shutil.copytree(small_study, tmp_path / "study")
    return tmp_path / "study"


def scans_page(out: Path) -> str:
    """A page of the section alone."""
    scans = scans_of(out, read_cohort(out), ("T1",))
    return render_page("x", [Section("cohort", "Scans", {"scans": scans})])


def test_a_study_without_inspections_says_so(reported: Path) -> None:
    report = (reported / "report.html").read_text(encoding="utf-8")
    section = report[report.index('id="cohort"') :].partition("</section>")[0]
    assert "Problems with files and tables were not recorded for this study." in section
    assert "No previews of the scans were kept." in section
    assert "<img" not in section and "<table" not in section
    write_findings([], reported / "problems.csv")
    assert "No problem was found in any file or table." in scans_page(reported)


def test_the_report_holds_problems_and_pictures_and_escapes_what_files_say(
    reported: Path,
) -> None:
    cohort = read_cohort(reported)
    first = replace(cohort.subjects[0], covariates={SCRIPT: SCRIPT})
    excluded = Exclusion(SCRIPT, "cohort", SCRIPT)
    write_cohort(Cohort((first, *cohort.subjects[1:]), (*cohort.exclusions, excluded)), reported)
    findings = [
        Finding(Problem(SCRIPT, "other_grid", SCRIPT, SCRIPT, SCRIPT, "T1"), SCRIPT),
        Finding(Problem("X", "no_mask", "x", "y", "z"), "cohort.exclude"),
    ]
    write_findings(findings, reported / "problems.csv")
    for i, subject in enumerate(cohort.subjects):
        view = fake_view("T1", 1000.0 if i == 2 else 1.0)
        write_inspection(Inspection(subject.id, (), {"T1": "1"}, (view,)), reported / "inspections")
    report = write_report(reported).read_text(encoding="utf-8")
    assert report.count("<script") == 1  # its own, that sorts
    section = report[report.index('id="cohort"') :].partition("</section>")[0]
    # counted under its cover, listed with subject, finding, place and cover, and on the sheet
    assert section.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 6
    assert "Problems found: 2, with files or rows of 2 subjects." in section
    assert cohort.subjects[2].id in section
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', section)
    saved = [
        (reported / "figures" / f"cohort_{name}.png").read_bytes()
        for name in ("intensities", "contact_T1")
    ]
    assert [base64.b64decode(picture) for picture in pictures] == saved
    assert section.count('<img class="sheet"') == 1


def test_a_subject_whose_id_is_markup_is_escaped_in_captions_and_tables(
    reported: Path,
) -> None:
    shutil.rmtree(reported / "inspections", ignore_errors=True)
    # a slash cannot be in a file's name, so this is the worst id that an inspection can have
    name = "<img src=x onerror=alert(1)>"
    cohort = read_cohort(reported)
    write_cohort(Cohort(cohort.subjects, (Exclusion(name, "cohort", "why"),)), reported)
    problem = Problem(name, "truncated", "x", "y", "z", "T1")
    write_inspection(Inspection(name, (problem,), {}, ()), reported / "inspections")
    for i, subject in enumerate(cohort.subjects[:10]):
        inspection = Inspection(subject.id, (), {}, (fake_view("T1", 1.0 + i / 100),))
        write_inspection(inspection, reported / "inspections")
    odd = Inspection(name, (), {}, (fake_view("T1", 1e6),))
    for inspection in (Inspection(name, (problem,), {}, ()), odd):
        write_inspection(inspection, reported / "inspections")
        report = scans_page(reported)
        assert "<img src=x" not in report
        assert "&lt;img src=x onerror=alert(1)&gt;" in report


@pytest.mark.parametrize(
    ("labels", "chosen"),
    [
        ("0101010", "A D G"),
        ("1111100", "C F G"),
        ("0000000", "A B G"),
        ("1111111", "A B D"),
        ("01", "A B"),
        ("1", "A"),
        ("", ""),
    ],
)
def test_examples_are_of_both_labels(labels: str, chosen: str) -> None:
    subjects = [
        Subject("ABCDEFG"[i], int(label), {}, Path("mask")) for i, label in enumerate(labels)
    ]
    assert [s.id for s in examples(subjects, is_opened=True)] == chosen.split()


def test_examples_do_not_follow_labels_that_a_split_has_yet_to_fit() -> None:
    subjects = [Subject(name, 0, {}, Path("mask"), score=0.5) for name in "ABCDEFG"]
    other = [replace(s, label=int(s.id in "BDF")) for s in subjects]
    assert examples(other, is_opened=True) == [s for s in other if s.id in "ABC"]
    assert {visible_label(s, is_opened=True) for s in other} == {"fitted"}


def test_examples_do_not_follow_labels_before_the_test_set_was_opened() -> None:
    for labels in ("0101010", "1111100", "0000001"):
        subjects = [
            Subject("ABCDEFG"[i], int(label), {}, Path("mask")) for i, label in enumerate(labels)
        ]
        assert [s.id for s in examples(subjects, is_opened=False)] == ["A", "B", "C"]
        assert {visible_label(s, is_opened=False) for s in subjects} == {"hidden"}
