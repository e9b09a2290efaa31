"""All sections of the report in their order, and the files of their tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mgmt_ray.base import write_text
from mgmt_ray.baselines.radiomic_features import BIN_WIDTH
from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report import metric_tables as tables
from mgmt_ray.report.cautions import pooled_splits
from mgmt_ray.report.html_table import DASH, Table, table_csv, table_latex
from mgmt_ray.report.model_card import CardPart, card_section
from mgmt_ray.report.paper_settings import covariates_sentence, settings_table, slice_settings_table
from mgmt_ray.report.section import Picture, Section, find_all
from mgmt_ray.report.sections import record_tables as records
from mgmt_ray.report.sections.audit_section import audit_section, audit_sentence
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
from mgmt_ray.report.sections.variance_sections import subgroups_section, variance_section
from mgmt_ray.report.study_results import StudyResults, has_only_slice_networks, slice_networks
from mgmt_ray.report.summary import planted_sentence, summary_sentences
from mgmt_ray.statistics.intervals import NUM_RESAMPLES
from mgmt_ray.statistics.planted_signal import planted_verdict
from mgmt_ray.statistics.published_results import CITATION, NUM_TEST_METHYLATED, NUM_TEST_SUBJECTS

TABLES = "tables"


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
    sections = [
        Section(
            "summary",
            "Summary",
            {"sentences": [*summary_sentences(results), audit_sentence(results)]},
        ),
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
        _training_section(results, figures),
        *_record_sections(results),
        card_section(card),
        _provenance_section(results),
    ]
    return [*sections, files_section(sections)]


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
        saliency_section(results, figures),
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
    metrics = results.metrics[
        results.metrics["ensemble"].isin((*results.main_ensembles, *results.inputs))
    ]
    verdicts = planted_verdict(metrics, results.planted, results.groups)
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
        "citation": "" if has_only_slice_networks(results) else CITATION,
    }
    return Section("subjects", "Subjects", content)


def _results_section(results: StudyResults) -> Section:
    content = {
        "networks": [tables.network_table(results, network) for network in results.networks],
        "single_inputs": tables.single_input_table(results),
        "baselines": tables.baselines_table(results),
        "baselines_sentence": tables.baselines_sentence(results),
        "has_forest": "radiomics_forest" in results.baselines,
        "prevalence": tables.prevalence_note(results),
        "chance": tables.chance_table(results),
        "other_published": (
            None if has_only_slice_networks(results) else tables.other_published_table()
        ),
        "synthetic": results.planted is not None,
        "citation": CITATION,
        "paper_subjects": NUM_TEST_SUBJECTS,
        "paper_methylated": NUM_TEST_METHYLATED,
        "num_resamples": NUM_RESAMPLES,
        "pooled": pooled_splits(results),
        "bin_width": f"{BIN_WIDTH:g}",
        "shown": ", ".join(network_label(network) for network in results.networks),
    }
    return Section("results", "Results on the test set", content)


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
        "rules": tables.rules_table(results.members),
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
