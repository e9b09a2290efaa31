"""The section on the classification of slices, and of patients by their slices."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.figures.intensity_histogram import matching_figure
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.figures.roc_and_pr import slice_roc_figure
from mgmt_ray.preprocess.histogram_matching import StandardHistogram
from mgmt_ray.preprocess.slice_geometry import by_modality
from mgmt_ray.preprocess.slice_store import SliceStore
from mgmt_ray.report.html_table import DASH, Table, number, slug, with_interval
from mgmt_ray.report.section import Picture, Section, missing_section
from mgmt_ray.report.sections.segmentation_section import PHASE_LABELS, model_name
from mgmt_ray.report.study_results import StudyResults, slice_networks
from mgmt_ray.statistics.published_results import (
    CHEN_BEST_AUC,
    CHEN_CITATION,
    CHEN_CLASSIFICATION,
    CHEN_COUNTS,
    CHEN_FIGURES,
    CHEN_FOLDS,
)
from mgmt_ray.statistics.slice_classification import LEVELS, SLICE_METRICS, read_classified_slices
from mgmt_ray.study.folder import StudyFolder

ANCHOR, TITLE = "slices", "Slices"

MATCHING_SCANS = 12
"""Training scans of which two are drawn before and after histogram matching."""


def slices_sections(out: Path, results: StudyResults, figures: FigureFolder) -> list[Section]:
    """Return the section with table 4 and figures 5 and 6 of Chen et al. 2020.

    It is omitted if no network takes slices.

    Raises:
        MgmtError: a table of slices is damaged.
    """
    networks = slice_networks(results)
    if not networks:
        return []
    slices = read_classified_slices(out)
    if slices is None or not {"slice_classification", "slice_best"} <= set(results.tables):
        return [missing_section(ANCHOR, TITLE, "ensembles/slice_classification.csv")]
    scores, best = (results.tables[name] for name in ("slice_classification", "slice_best"))
    content = {
        "counts": counts_table(slices),
        "by_slice": classification_table(scores, "slice"),
        "by_patient": classification_table(scores, "patient"),
        "best": best_table(best),
        "masks": mask_sentences(networks),
        "undefined": undefined_sentence(scores),
        "figures": _pictures(slices, best, figures),
        "matching": _matching_pictures(out, results, figures),
        "citation": CHEN_CITATION,
    }
    return [Section(ANCHOR, TITLE, content)]


def mask_sentences(networks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say where the masks of a classifier's training slices come from; networks alike together.

    Args:
        networks: configurations by name.
    """
    alike: dict[tuple[bool, int], list[str]] = {}
    for name, network in networks.items():
        key = (network.get("cross_fitted", True), network.get("parts", 3))
        alike.setdefault(key, []).append(network_label(name))
    sentences = []
    for (cross_fitted, parts), labels in alike.items():
        subject = f"{', '.join(labels)} {'is' if len(labels) == 1 else 'are'}"
        if cross_fitted:
            sentences.append(
                f"{subject} cross-fitted: the tumour in a classifier's training slices is "
                f"predicted by the one of {parts} networks that did not train on that patient, so "
                "that the classifier learns from masks like those of new patients. Validation and "
                "test patients are segmented by the fold's own network. The paper does not do this."
            )
        else:
            sentences.append(
                f"{subject} not cross-fitted, as in the paper: the tumour in a classifier's "
                "training slices is predicted by the network that trained on the same patients. "
                "These masks are better than those of new patients, so training results are "
                "too optimistic, and those of validation and test may be worse than necessary."
            )
    return sentences


def counts_table(slices: pd.DataFrame) -> Table:
    """Count training (all folds together) and test patients and slices, as table 1 of the paper.

    Args:
        slices: from :func:`mgmt_ray.statistics.slice_classification.read_classified_slices`.
    """
    phases = slices.assign(phase=slices["split"].replace({"validation": "train"}))
    unique = phases.drop_duplicates(
        ["network", "modality", "outer_fold", "phase", "subject", "depth"]
    )
    several = slices["outer_fold"].nunique() > 1
    rows = []
    keys = ["network", "modality", "outer_fold", "phase"]
    for (network, modality, outer, phase), group in unique.groupby(keys, sort=False):
        published = CHEN_COUNTS.get(str(modality), {}).get(str(phase))
        label = PHASE_LABELS[str(phase)]
        patients = group.drop_duplicates("subject")["label"]
        rows.append(
            (
                model_name(slices, str(network), str(modality)),
                f"{label}, split {outer}" if several else label,
                _count_cell(int(patients.sum()), int((1 - patients).sum())),
                _count_cell(*published.patients) if published else DASH,
                _count_cell(int(group["label"].sum()), int((1 - group["label"]).sum())),
                _count_cell(*published.slices) if published else DASH,
            )
        )
    header = (
        "Modality",
        "Phase",
        "Patients",
        "paper's\npatients",
        "Slices",
        "paper's\nslices",
    )
    caption = "Patients and slices (methylated/unmethylated), next to table 1 of the paper"
    return Table("slice_counts", caption, header, tuple(rows))


def classification_table(scores: pd.DataFrame, level: str, external: str = "") -> Table:
    """Return the scores by modality and phase, each above its row of table 4 of the paper.

    Args:
        scores: columns of ``slice_classification.csv``.
        level: "slice" or "patient".
        external: name of an external cohort; empty for the study's own.
    """
    rows = []
    for row in scores[scores["level"] == level].to_dict("records"):
        names = (model_name(scores, row["network"], row["modality"]), PHASE_LABELS[row["phase"]])
        counts = (str(row["num_models"]), str(row["num_rows"]))
        rows.append((*names, "this study", *counts, *(_cell(row, m) for m in SLICE_METRICS)))
        published = CHEN_CLASSIFICATION.get(row["modality"], {}).get(row["phase"])
        if published:
            cells = (str(getattr(published, metric, DASH)) for metric in SLICE_METRICS)
            rows.append((*names, "paper", str(CHEN_FOLDS), DASH, *cells))
    header = ("Modality", "Phase", "Source", "Models", f"{level.capitalize()}s")
    cohort, suffix = (f" of {external}", f"_{slug(external)}") if external else ("", "")
    caption = (
        f"Classification{cohort} by {level}: mean ± standard deviation over models, 95 % intervals "
        "over patients"
    )
    name = f"classification_by_{level}{suffix}"
    return Table(name, caption, (*header, *SLICE_METRICS.values()), tuple(rows))


def best_table(best: pd.DataFrame) -> Table:
    """Return AUCs of the best models on validation, next to figures 5 and 6 of the paper."""
    several = best["outer_fold"].nunique() > 1
    rows = []
    keys = ["network", "modality", "outer_fold", "trial"]
    for (network, modality, outer, _), group in best.groupby(keys, sort=False):
        published = CHEN_BEST_AUC.get(str(modality), {})
        for level in LEVELS:
            areas = {r["phase"]: r for r in group[group["level"] == level].to_dict("records")}
            cells = [model_name(best, str(network), str(modality))]
            cells += [str(outer)] * several
            cells += [str(next(iter(areas.values()))["fold"]), level]
            for phase in ("train", "validation", "test"):
                cells.append(with_interval(areas[phase], "auc") if phase in areas else DASH)
                cells.append(number(published.get(phase)))
            rows.append(tuple(cells))
    header = ["Modality", *(["Split"] * several), "Fold", "By"]
    for phase in ("train", "validation", "test"):
        header += [f"{PHASE_LABELS[phase]} AUC", "paper's"]
    caption = "AUC of the models that are best on validation, next to figures 5 and 6 of the paper"
    return Table("slice_best", caption, tuple(header), tuple(rows))


def undefined_sentence(scores: pd.DataFrame) -> str:
    """Count the values that are undefined and not in any mean; empty if all are defined."""
    num_undefined = {
        label: int(scores[f"{metric}_undefined"].sum()) for metric, label in SLICE_METRICS.items()
    }
    counts = ", ".join(f"{label} {count}" for label, count in num_undefined.items() if count)
    if not counts:
        return ""
    return (
        f"Values of single models that are undefined, and not in any mean: {counts}. Precision is "
        "undefined if a model calls nothing methylated, recall if nothing is methylated, AUC if "
        "there is only one class."
    )


def _count_cell(methylated: int, unmethylated: int) -> str:
    return f"{methylated + unmethylated} ({methylated}/{unmethylated})"


def _cell(row: Mapping[Hashable, Any], metric: str) -> str:
    """Format mean ± standard deviation, the interval, and how many models have no value."""
    value, *interval = with_interval(row, metric).split("\n")
    deviation = row[f"{metric}_std"]
    std = "" if math.isnan(deviation) else f" ± {deviation:.3f}"
    undefined = int(row[f"{metric}_undefined"])
    note = [f"({undefined} undefined)"] * bool(undefined)
    return "\n".join([value + std, *interval, *note])


def _pictures(slices: pd.DataFrame, best: pd.DataFrame, figures: FigureFolder) -> list[Picture]:
    """Draw a figure of each network; delete those of networks dropped since."""
    pictures = []
    for network, rows in best.groupby("network", sort=False):
        figure = slice_roc_figure(slices[slices["network"] == network], rows)
        path = figures.save(figure, f"slice_roc_{network}")
        label = network_label(str(network))
        areas = "; ".join(
            f"{row['modality']} by {row['level']} {PHASE_LABELS[row['phase']]} {row['auc']:.3f}"
            for row in rows.to_dict("records")
        )
        published = [f"{CHEN_FIGURES[m]} ({m})" for m in CHEN_FIGURES if m in set(rows["modality"])]
        reference = f" As figure {' and '.join(published)} of the paper." if published else ""
        caption = (
            f"{label}: ROC curves of the model that is best on validation.{reference} Grey: the "
            "other models on the same test patients."
        )
        pictures.append(Picture(path, caption, f"ROC curves of {label}. Areas: {areas}."))
    figures.delete_others("slice_roc_*.png", {picture.path for picture in pictures})
    return pictures


def _matching_pictures(out: Path, results: StudyResults, figures: FigureFolder) -> list[Picture]:
    """Draw figure 1 of the paper for each modality: two training scans of one fold's standard.

    These are the two whose median intensities differ most before matching. Inputs whose slices are
    no longer stored have no figure; one of several modalities has a figure of each.
    """
    standards: dict[tuple[str, ...], StandardHistogram] = {}
    for trial in results.needed.values():
        if "standard_histogram" in trial:
            read = StandardHistogram.from_json(trial["standard_histogram"])
            standards.setdefault(tuple(trial["channels"]), read)
    pictures = []
    folder = StudyFolder(out).slices
    for channels, standard in standards.items():
        if not (folder / f"{'+'.join(channels)}.json").is_file():
            continue
        store = SliceStore(folder, "+".join(channels))
        scans = {name: store.load((name,))[0] for name in standard.learnt_from[:MATCHING_SCANS]}
        matched = {
            name: standard.apply(scan.images, scan.images != 0, name, scan.of_brain)
            for name, scan in scans.items()
        }
        for place, modality in enumerate(channels):
            before, after = {}, {}
            for name, scan in scans.items():
                image = by_modality(scan.images)[place]
                counted = (image != 0) & scan.of_brain[:, None, None]
                before[name] = image[counted].astype(np.float64)
                after[name] = by_modality(matched[name])[place][counted]
            of_input = "" if len(channels) == 1 else f" of {'+'.join(channels)}"
            pictures.append(_matching_picture(modality, of_input, before, after, figures))
    figures.delete_others("slice_matching_*.png", {picture.path for picture in pictures})
    return pictures


def _matching_picture(
    modality: str,
    of_input: str,
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
    figures: FigureFolder,
) -> Picture:
    """Draw the two scans of a modality whose medians differ most, before and after matching."""
    by_median = sorted(before, key=lambda name: float(np.median(before[name])))
    pair = [by_median[0], by_median[-1]]
    figure = matching_figure({n: before[n] for n in pair}, {n: after[n] for n in pair})
    path = figures.save(figure, f"slice_matching_{modality}{of_input.replace(' ', '_')}")
    caption = (
        f"{modality}{of_input}: densities of two training scans before and after histogram "
        f"matching, as figure 1 of the paper: of {len(before)} scans the two whose medians differ "
        "most."
    )
    medians = ", ".join(
        f"{n} {np.median(before[n]):.3g} before and {np.median(after[n]):.3g} after" for n in pair
    )
    return Picture(path, caption, f"Two densities. Medians: {medians}.")
