"""All sections of the report in their order, and the files of their tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.base import write_text
from mgmt_ray.baselines.radiomic_features import BIN_WIDTH
from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report import metric_tables as tables
from mgmt_ray.report.glossary import glossary_section
from mgmt_ray.report.html_table import DASH, Table, slug, table_csv, table_latex
from mgmt_ray.report.model_card import CardPart, card_section
from mgmt_ray.report.paper_settings import covariates_sentence, settings_table, slice_settings_table
from mgmt_ray.report.section import Picture, Section, find_all
from mgmt_ray.report.sections import record_tables as records
from mgmt_ray.report.sections.audit_section import audit_section
from mgmt_ray.report.sections.calibration_sections import (
    calibration_section,
    decision_section,
    operating_section,
)
from mgmt_ray.report.sections.choices_section import choices_section
from mgmt_ray.report.sections.cohort_section import read_scans
from mgmt_ray.report.sections.comparisons_section import comparisons_section
from mgmt_ray.report.sections.curves_section import curves_section, training_pictures
from mgmt_ray.report.sections.external_section import external_cohorts
from mgmt_ray.report.sections.masks_section import masks_sections
from mgmt_ray.report.sections.record_tables import diverged_table, provenance_table, versions_table
from mgmt_ray.report.sections.routing_section import routing_section
from mgmt_ray.report.sections.saliency_section import saliency_section
from mgmt_ray.report.sections.segmentation_section import segmentation_sections
from mgmt_ray.report.sections.slices_section import slices_sections
from mgmt_ray.report.sections.subjects_section import partitions_table, patients_table
from mgmt_ray.report.sections.summary_section import calls_section, summary_sections
from mgmt_ray.report.sections.variance_sections import subgroups_section, variance_section
from mgmt_ray.report.study_results import (
    StudyResults,
    has_only_slice_networks,
    is_of_paper,
    slice_networks,
)
from mgmt_ray.report.summary import planted_sentence, planted_verdicts
from mgmt_ray.statistics.intervals import NUM_RESAMPLES
from mgmt_ray.statistics.published_results import CITATION, NUM_TEST_METHYLATED, NUM_TEST_SUBJECTS

TABLES = "tables"

CHAPTERS: dict[str, tuple[str, ...]] = {
    "Answer": ("summary",),
    "Results": (
        *("results", "planted", "external", "segmentation", "slices", "curves", "comparisons"),
    ),
    "Can it be trusted?": (
        *("cautions", "audit", "choices", "operating", "calibration", "decision", "variance"),
        *("subgroups", "masks"),
    ),
    "What the networks do": ("calls", "saliency", "routing"),
    "Data": ("subjects", "cohort"),
    "Methods and provenance": (
        *("training", "members", "openings", "card", "provenance", "files"),
    ),
    "Glossary": ("glossary",),
}
"""The page's chapters, with the anchors of the sections that each may have, in their order."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """Sections of the page under one heading, to which its navigation leads."""

    title: str
    sections: tuple[Section, ...]

    @property
    def anchor(self) -> str:
        """Id in the page."""
        return f"chapter-{slug(self.title)}"


def chapters(sections: Sequence[Section]) -> list[Chapter]:
    """Return the chapters that have any of these sections."""
    by_anchor = {section.anchor: section for section in sections}
    found = [
        Chapter(title, tuple(by_anchor[a] for a in anchors if a in by_anchor))
        for title, anchors in CHAPTERS.items()
    ]
    assert sum(len(chapter.sections) for chapter in found) == len(sections)
    return [chapter for chapter in found if chapter.sections]


def files_section(sections: Sequence[Section]) -> Section:
    """Return the section that lists the report's files."""
    rows = [
        (f"{TABLES}/{t.name}.csv", f"{TABLES}/{t.name}.tex", t.caption)
        for t in shown_tables(sections)
    ]
    rows += [
        (f"figures/{p.path.name}", _svg_cell(p.path), p.caption)
        for p in find_all(Picture, [s.content for s in sections])
    ]
    rows.append(("model_card.md", DASH, "the model card as Markdown"))
    header = ("File", "For papers", "Content")
    return Section(
        "files",
        "Files of this report",
        {
            "list": Table("files", "Tables and figures of this report", header, tuple(rows), True),
            "svg": any(row[1].endswith(".svg") for row in rows),
        },
    )


def _svg_cell(png: Path) -> str:
    return f"figures/{png.stem}.svg" if png.with_suffix(".svg").exists() else DASH


def shown_tables(sections: Sequence[Section]) -> list[Table]:
    """Return all tables of these sections in their order; two must not share a name."""
    tables = list(find_all(Table, [section.content for section in sections]))
    names = [table.name for table in tables]
    repeated = {name for name in names if names.count(name) > 1}
    assert not repeated, f"two tables are named {', '.join(sorted(repeated))}"
    return tables


def write_tables(folder: Path, tables: Sequence[Table]) -> None:
    """Write each table as ``NAME.csv`` and ``NAME.tex``; delete all other CSV and LaTeX files."""
    written = set()
    for table in tables:
        for suffix, text in ((".csv", table_csv(table)), (".tex", table_latex(table))):
            path = folder / f"{table.name}{suffix}"
            write_text(path, text)
            written.add(path)
    for path in (*folder.glob("*.csv"), *folder.glob("*.tex")):
        if path not in written:
            path.unlink()


def all_sections(
    out: Path,
    results: StudyResults,
    card: tuple[CardPart, ...],
    figures: FigureFolder,
) -> list[Section]:
    """Return all sections of a study's report, and save their figures.

    Raises:
        MgmtError: a file of the study is damaged; the error names the command that rewrites it.
    """
    saliency = saliency_section(results, figures)
    sections = [
        *summary_sections(results, figures),
        audit_section(results),
        *planted_sections(results),
        _subjects_section(results),
        _cohort_section(out, results, figures),
        _results_section(results),
        *segmentation_sections(out, results, figures),
        *slices_sections(out, results, figures),
        *masks_sections(out, results),
        *_external_sections(out, results),
        *_prediction_sections(results, figures),
        saliency,
        calls_section(results, saliency.content.get("by_subject", {})),
        _training_section(results, figures),
        *_record_sections(results),
        card_section(card),
        _provenance_section(results),
    ]
    sections.append(files_section(sections))
    return [*sections, glossary_section(results, sections)]


def _cohort_section(out: Path, results: StudyResults, figures: FigureFolder) -> Section:
    scans = read_scans(out, results.cohort, results.cohort.modalities, figures)
    return Section("cohort", "Scans", {"scans": scans})


def _prediction_sections(results: StudyResults, figures: FigureFolder) -> list[Section]:
    """Return the sections on the test predictions, beyond the metrics."""
    return [
        choices_section(results),
        comparisons_section(results),
        curves_section(results, figures),
        operating_section(results),
        calibration_section(results, figures),
        decision_section(results, figures),
        variance_section(results, figures),
        subgroups_section(results, figures),
        routing_section(results, figures),
    ]


def _record_sections(results: StudyResults) -> list[Section]:
    members, openings = records.members_table(results), records.openings_table(results)
    return [
        Section("members", "Members", {"members": members}),
        Section(
            "openings",
            "Test-set access log",
            {"openings": openings, "protocol": records.protocol_table(results)},
        ),
    ]


def planted_sections(results: StudyResults) -> list[Section]:
    """Return the section on planted signals of a synthetic cohort; empty for real subjects."""
    if results.planted is None:
        return []
    signal = {m: s for m, s in (results.planted.get("signal") or {}).items() if s != 0}
    verdicts, _ = planted_verdicts(results)
    content = {
        "signal": ", ".join(f"{m} (strength {s})" for m, s in signal.items()),
        "sentence": planted_sentence(verdicts, bool(signal)),
        "verdicts": tables.planted_table(verdicts),
    }
    return [Section("planted", "Planted signal", content)]


def _subjects_section(results: StudyResults) -> Section:
    content = {
        "patients": patients_table(results),
        "partitions": partitions_table(results),
        "nested": len(results.splits) > 1,
        "flow": records.flow_table(results),
        "missing_groups": records.missing_groups_table(results),
        "split": records.split_table(results),
        "split_notes": records.split_notes(results),
        "citation": CITATION if is_of_paper(results) else "",
    }
    return Section("subjects", "Subjects", content, is_open=True)


def _results_section(results: StudyResults) -> Section:
    content = {
        "auc": tables.auc_table(results),
        "networks": [tables.network_table(results, network) for network in results.networks],
        "single_inputs": tables.single_input_table(results),
        "baselines": tables.baselines_table(results),
        "baselines_sentence": tables.baselines_sentence(results),
        "has_forest": "radiomics_forest" in results.baselines,
        "prevalence": tables.prevalence_note(results),
        "chance": tables.chance_table(results),
        "other_published": tables.other_published_table() if is_of_paper(results) else None,
        "slices": slice_networks(results),
        "citation": CITATION,
        "paper_subjects": NUM_TEST_SUBJECTS,
        "paper_methylated": NUM_TEST_METHYLATED,
        "num_resamples": NUM_RESAMPLES,
        "bin_width": f"{BIN_WIDTH:g}",
    }
    return Section("results", "Results on the test set", content, is_open=True)


def _external_sections(out: Path, results: StudyResults) -> list[Section]:
    if not results.external:
        return []
    content = {
        "cohorts": external_cohorts(out, results),
        "predicted_masks": bool(results.config.get("mask_source")),
    }
    return [Section("external", "External cohorts", content)]


def _training_section(results: StudyResults, figures: FigureFolder) -> Section:
    content = {
        "settings": settings_table(results),
        "covariates": covariates_sentence(results),
        "slice_settings": slice_settings_table(results),
        "has_volume_networks": not has_only_slice_networks(results),
        "slice_networks": list(map(network_label, slice_networks(results))),
        "rules": tables.rules_table(results.members, is_of_paper(results)),
        "trainings": records.training_table(results),
        "diverged": diverged_table(results),
        "figures": training_pictures(results, figures),
    }
    return Section("training", "Training", content)


def _provenance_section(results: StudyResults) -> Section:
    content = {
        "provenance": provenance_table(results),
        "versions": versions_table(results),
        "config_text": results.config_text,
    }
    return Section("provenance", "Provenance", content)
