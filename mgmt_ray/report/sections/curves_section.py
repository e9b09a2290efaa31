"""The section on ROC and precision-recall curves, and the pictures of training curves."""

from __future__ import annotations

import pandas as pd

from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.figures.roc_and_pr import precision_recall_figure, roc_figure
from mgmt_ray.figures.training_curves import training_figure
from mgmt_ray.report.ensemble_tables import BASELINE_PANEL, CHOSEN, merge_baselines
from mgmt_ray.report.section import Picture, Section
from mgmt_ray.report.sections.choices_section import chosen_by_network
from mgmt_ray.report.study_results import StudyResults, is_of_paper


def curves_section(results: StudyResults, figures: FigureFolder) -> Section:
    """Return the section with the curves of all ensembles."""
    predictions, metrics = results.predictions, results.metrics
    is_network = metrics["network"].isin(results.networks)
    pictures = _roc_and_pr(predictions, metrics[is_network], results.main_ensembles, figures, "")
    predictions, metrics = _chosen(results)
    if len(metrics):
        panels = tuple(dict.fromkeys(metrics["ensemble"]))
        pictures += _roc_and_pr(
            predictions, metrics, panels, figures, "_chosen", _chosen_inputs(results)
        )
    content = {
        "figures": pictures,
        "of_paper": is_of_paper(results),
        "best": {
            network_label(network): inputs
            for network, inputs in chosen_by_network(results, CHOSEN[0]).items()
        },
    }
    return Section("curves", "ROC and precision-recall curves", content)


def _chosen(results: StudyResults) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return predictions and metrics of ensembles chosen on validation and of baselines."""
    parts = []
    for table in (results.predictions, results.metrics):
        merged = merge_baselines(table, results.baselines)
        panels = [merged[merged["ensemble"] == name] for name in (*CHOSEN, BASELINE_PANEL)]
        parts.append(pd.concat(panels, ignore_index=True))
    return parts[0], parts[1]


def _chosen_inputs(results: StudyResults) -> dict[tuple[str, str], str]:
    return {
        (network, name): inputs
        for name in CHOSEN
        for network, inputs in chosen_by_network(results, name).items()
    }


def _roc_and_pr(
    predictions: pd.DataFrame,
    metrics: pd.DataFrame,
    names: tuple[str, ...],
    figures: FigureFolder,
    suffix: str,
    details: dict[tuple[str, str], str] | None = None,
) -> list[Picture]:
    roc, recall = (
        figures.save(draw(predictions, metrics, names, details), f"{name}{suffix}")
        for name, draw in (("roc", roc_figure), ("precision_recall", precision_recall_figure))
    )
    models = "of ensembles chosen on validation and of baselines, " if suffix else ""
    networks = ", ".join(network_label(str(n)) for n in dict.fromkeys(metrics["network"]))
    return [
        Picture(
            roc,
            f"ROC curves {models}on the test set. Dotted: chance.",
            f"ROC curves of {networks}. Areas: {_values(metrics, names, 'auc')}.",
        ),
        Picture(
            recall,
            f"Precision-recall curves {models}on the test set. Dotted: the share of methylated "
            "subjects, which is the precision of guessing.",
            f"Precision-recall curves of {networks}. Average precisions: "
            f"{_values(metrics, names, 'ap')}.",
        ),
    ]


def _values(metrics: pd.DataFrame, names: tuple[str, ...], metric: str) -> str:
    return "; ".join(
        f"{network_label(row['network'])} {row['ensemble']} {row[metric]:.3f}"
        for row in metrics[metrics["ensemble"].isin(names)].to_dict("records")
    )


def training_pictures(results: StudyResults, figures: FigureFolder) -> list[Picture]:
    """Draw training curves of each network; delete those of networks dropped since."""
    pictures = []
    for network, members in results.members.groupby("network", sort=False):
        figure = training_figure(results.epochs, results.members, str(network))
        path = figures.save(figure, f"training_{network}", compact=True)
        label = network_label(str(network))
        pictures.append(
            Picture(
                path,
                f"{label}: loss and AUC of every member, by modality.",
                f"Training curves of {label}: {len(members)} members, on training folds and "
                f"validation fold. {_overfitting_note(results.epochs, members)}",
            )
        )
    figures.delete_others("training_*.png", {picture.path for picture in pictures})
    return pictures


def _overfitting_note(epochs: pd.DataFrame, members: pd.DataFrame) -> str:
    """Compare the mean AUC at the chosen epochs in training and validation."""
    kept = members[["trial", "epoch"]].merge(epochs, on=["trial", "epoch"])
    train, validation = kept["train_auc"].mean(), kept["validation_auc"].mean()
    return (
        f"At the chosen epochs the mean AUC is {train:.2f} in training and {validation:.2f} in "
        "validation."
    )
