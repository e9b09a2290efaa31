"""The report of a study: one HTML file with its figures inside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mgmt_ray.base import write_text
from mgmt_ray.figures.precision_recall import precision_recall_figure
from mgmt_ray.figures.roc import roc_figure
from mgmt_ray.figures.style import (
    delete_other_figures,
    network_label,
    save_compact_figure,
    save_figure,
)
from mgmt_ray.figures.training import training_figure
from mgmt_ray.report import records, tables
from mgmt_ray.report.cohort import read_scans
from mgmt_ray.report.diverged import diverged_table
from mgmt_ray.report.external import external_cohorts
from mgmt_ray.report.gather import StudyResults, read_study_results
from mgmt_ray.report.headline import headline, verdict_on_planted
from mgmt_ray.report.picture import Picture
from mgmt_ray.statistics.intervals import NUM_RESAMPLES
from mgmt_ray.statistics.paper import CITATION, NUM_TEST_METHYLATED, NUM_TEST_SUBJECTS
from mgmt_ray.statistics.planted import PlantedVerdict, planted_verdict


@dataclass(frozen=True, slots=True)
class Planted:
    """What a synthetic cohort was given, and whether the results show it."""

    signal: str
    sentence: str
    table: tables.Table


def write_report(out: Path) -> Path:
    """Write ``report.html`` and ``figures/*.png`` of a finished study.

    Args:
        out: the study's folder.

    Returns:
        The report's path. It holds its figures and needs no network.

    Raises:
        MgmtError: a stage has not run yet; the error says which command runs it.
    """
    results = read_study_results(out)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    path = out / "report.html"
    template = environment.get_template("template.html.j2")
    read = {
        "scans": read_scans(out, results.cohort, results.cohort.modalities),
        "external": external_cohorts(out, results),
    }
    write_text(path, template.render(_content(results, out / "figures") | read))
    return path


def _content(results: StudyResults, figures: Path) -> dict[str, object]:
    """All that the template shows; saves the figures on the way."""
    return {
        "name": results.name,
        "synthetic": results.planted is not None,
        "headline": headline(results),
        "planted": _planted(results),
        "flow": records.flow_table(results),
        "missing_groups": records.missing_groups_table(results),
        "split": records.split_table(results),
        "split_notes": records.split_notes(results),
        "networks": [tables.network_table(results, network) for network in results.networks],
        "single_inputs": tables.single_input_table(results),
        "other_published": tables.other_published_table(),
        "comparisons": tables.comparison_table(results.comparisons, results.main_ensembles),
        "best_overall": tables.best_overall_sentence(),
        "curves": _curves(results, figures),
        "training": _training_curves(results, figures),
        "trainings": records.training_table(results),
        "diverged": diverged_table(results),
        "rules": tables.rules_table(results.members),
        "members": records.members_table(results),
        "openings": records.openings_table(results),
        "provenance": records.provenance_table(results),
        "versions": records.versions_table(results),
        "config_text": results.config_text,
        "citation": CITATION,
        "paper_subjects": NUM_TEST_SUBJECTS,
        "paper_methylated": NUM_TEST_METHYLATED,
        "num_resamples": NUM_RESAMPLES,
    }


def _planted(results: StudyResults) -> Planted | None:
    if results.planted is None:
        return None
    signal = {m: s for m, s in (results.planted.get("signal") or {}).items() if s != 0}
    verdicts: tuple[PlantedVerdict, ...] = planted_verdict(
        results.metrics, results.planted, results.groups
    )
    return Planted(
        signal=", ".join(f"{m} (strength {s})" for m, s in signal.items()),
        sentence=verdict_on_planted(verdicts, bool(signal)),
        table=tables.planted_table(verdicts),
    )


def _curves(results: StudyResults, figures: Path) -> list[Picture]:
    names = results.main_ensembles
    shown = ", ".join(network_label(network) for network in results.networks)
    save_figure(roc_figure(results.predictions, results.metrics, names), figures / "roc.png")
    save_figure(
        precision_recall_figure(results.predictions, results.metrics, names),
        figures / "precision_recall.png",
    )
    return [
        Picture(
            figures / "roc.png",
            "ROC curves on the test set, one panel per ensemble. Dotted: chance.",
            f"ROC curves of {shown}. Areas: {_values(results, 'auc')}.",
        ),
        Picture(
            figures / "precision_recall.png",
            "Precision-recall curves on the test set. Dotted: the share of methylated subjects, "
            "which is the precision of a guess.",
            f"Precision-recall curves of {shown}. Average precisions: {_values(results, 'ap')}.",
        ),
    ]


def _training_curves(results: StudyResults, figures: Path) -> list[Picture]:
    pictures = []
    for network, members in results.members.groupby("network", sort=False):
        path = figures / f"training_{network}.png"
        save_compact_figure(training_figure(results.epochs, results.members, str(network)), path)
        label = network_label(str(network))
        pictures.append(
            Picture(
                path,
                f"{label}: loss and AUC of every member, per modality.",
                f"Training curves of {label}: {len(members)} members, on training folds and "
                f"validation fold. {_overfit(results.epochs, members)}",
            )
        )
    delete_other_figures(figures, "training_*.png", {picture.path for picture in pictures})
    return pictures


def _values(results: StudyResults, metric: str) -> str:
    main = results.metrics[results.metrics["ensemble"].isin(results.main_ensembles)]
    return "; ".join(
        f"{network_label(row['network'])} {row['ensemble']} {row[metric]:.3f}"
        for row in main.to_dict("records")
    )


def _overfit(epochs: pd.DataFrame, members: pd.DataFrame) -> str:
    """Mean AUC at the kept epochs on both sides, in words."""
    kept = members[["trial", "epoch"]].merge(epochs, on=["trial", "epoch"])
    train, validation = kept["train_auc"].mean(), kept["validation_auc"].mean()
    return (
        f"At the kept epochs the mean AUC is {train:.2f} in training and {validation:.2f} in "
        "validation."
    )
