"""The page's first screen, its list of cautions, and the table of test patients."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.figures.interval_plots import auc_figure
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report.cautions import cautions, first_caution
from mgmt_ray.report.html_table import DASH, Table, number, slug
from mgmt_ray.report.section import Picture, Section
from mgmt_ray.report.sections.audit_section import audit_sentence
from mgmt_ray.report.study_results import StudyResults, is_of_paper
from mgmt_ray.report.summary import answers, inputs_of, plain, primary_rows
from mgmt_ray.selection.best_on_validation import BEST_OVERALL
from mgmt_ray.statistics.intervals import read_interval
from mgmt_ray.statistics.published_results import PAPER_BEST_ENSEMBLES, PAPER_RESULTS
from mgmt_ray.training.metrics import THRESHOLD


def summary_sections(results: StudyResults, figures: FigureFolder) -> list[Section]:
    """Return the answers with their forest plot, and the reasons to be careful with them."""
    listed = cautions(results)
    content = {
        "answers": answers(results),
        "caution": first_caution(results.metrics, results.planted is not None),
        "audit": audit_sentence(results),
        "num_cautions": len(listed),
        "figures": [auc_picture(results, figures)],
    }
    return [
        Section("summary", "", content),
        Section("cautions", "Reasons for caution", {"sentences": listed}, is_open=True)
        if listed
        else Section("cautions", "Reasons for caution", missing="None was found."),
    ]


def auc_picture(results: StudyResults, figures: FigureFolder) -> Picture:
    """Draw the AUC of the networks' primary ensembles and of baselines, beside the paper's."""
    metrics = results.metrics
    baselines = metrics[metrics["network"].isin(results.baselines)]
    rows = [
        {**row, "label": _label(str(row["network"]), inputs_of(row, metrics))}
        for row in primary_rows(metrics).to_dict("records")
    ] + [{**row, "label": network_label(row["network"])} for row in baselines.to_dict("records")]
    published = {
        y: PAPER_RESULTS[row["network"]][PAPER_BEST_ENSEMBLES[row["network"]]].auc
        for y, row in enumerate(rows)
        if row["ensemble"] == BEST_OVERALL and row["network"] in PAPER_BEST_ENSEMBLES
    }
    shown = published if is_of_paper(results) else {}
    path = figures.save(auc_figure(rows, shown), "auc")
    caption = "AUC of each network’s best ensemble by validation"
    caption += " and of simple baselines" * (len(baselines) > 0)
    if shown:
        caption += "; diamonds: the paper’s best, chosen on its own test set"
    values = "; ".join(f"{row['label']} {plain(read_interval(row, 'auc'))}" for row in rows)
    return Picture(path, f"{caption}.", f"AUC with 95 % interval: {values}.")


def _label(network: str, inputs: str) -> str:
    return f"{network_label(network)}, {inputs}" if inputs else network_label(network)


def calls_section(results: StudyResults, pictured: Mapping[str, object]) -> Section:
    """Return the section with each test patient's label and probabilities.

    Args:
        pictured: the subjects who have saliency maps, to which their rows lead.
    """
    columns = {
        _heading(row["network"], row["ensemble"]): _probabilities(
            results.predictions, row["network"], row["ensemble"]
        )
        for row in primary_rows(results.metrics).to_dict("records")
    }
    labels = results.predictions.drop_duplicates("subject").set_index("subject")["label"]
    rows = tuple(
        (
            str(subject),
            "methylated" if label else "unmethylated",
            *(_call(of.get(str(subject)), label) for of in columns.values()),
        )
        for subject, label in labels.sort_index().items()
    )
    caption = "Test patients: label, and probability of methylation by each network"
    links = {subject: f"#saliency-{slug(subject)}" for subject in pictured}
    header = ("Patient", "Label", *columns)
    table = Table("calls", caption, header, rows, links=links)
    return Section("calls", "Test patients, right and wrong calls", {"calls": table})


def _heading(network: str, ensemble: str) -> str:
    label = network_label(network)
    return label if ensemble == BEST_OVERALL else f"{label}\n{ensemble}"


def _probabilities(predictions: pd.DataFrame, network: str, ensemble: str) -> dict[str, float]:
    is_model = (predictions["network"] == network) & (predictions["ensemble"] == ensemble)
    of_model = predictions[is_model]
    return dict(zip(of_model["subject"], of_model["probability"], strict=True))


def _call(probability: float | None, label: int) -> str:
    if probability is None:
        return DASH
    is_right = (probability >= THRESHOLD) == bool(label)
    return f"{number(probability, 2)} {'right' if is_right else 'wrong'}"
