"""The section on SpotTune's routing: which blocks the agent tunes, and how stably over folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.figures.policy_plots import (
    policy_classes_figure,
    policy_heatmap_figure,
    policy_stability_figure,
)
from mgmt_ray.report.columns import Cell, columns, make_table, rounded, subjects, text
from mgmt_ray.report.html_table import Table, number
from mgmt_ray.report.section import Picture, Section, missing_section
from mgmt_ray.report.study_results import StudyResults
from mgmt_ray.statistics.policy_summary import class_means, policy_stability


def routing_section(results: StudyResults, figures: FigureFolder) -> Section:
    """Return the section on the blocks the agent tunes, by subject, class and fold."""
    anchor, title = "routing", "Routing by the agent"
    policies = results.tables.get("policies")
    if has_no_agent(results) or (policies is not None and policies.empty):
        return Section(anchor, title, missing="No network of this study has an agent.")
    if policies is None:
        return missing_section(anchor, title, "ensembles/policies.csv")
    table = routing_table(policies)
    values = "; ".join(f"{r[0]} {r[1]} mean {r[3]}, between folds {r[6]}" for r in table.rows)
    figure_texts = {
        "policy_heatmap": (
            policy_heatmap_figure,
            "Tuned probability of each residual block for each test subject.",
            f"Heat map of {policies['subject'].nunique()} subjects: mean tuned probabilities "
            f"and correlations {values}.",
        ),
        "policy_classes": (
            policy_classes_figure,
            "Mean tuned probability of each block by class, with 95 % intervals over subjects.",
            f"Mean tuned probability of methylated and unmethylated subjects: {values}.",
        ),
        "policy_stability": (
            policy_stability_figure,
            "Agreement of agents that were trained on different folds.",
            f"Stability over folds: {values}.",
        ),
    }
    pictures = []
    for name, (draw, caption, alt) in figure_texts.items():
        path = figures.save(draw(policies), name, compact=True)
        pictures.append(Picture(path, caption, alt))
    routing = results.tables.get("routing")
    content = {
        "agreement": table,
        "figures": pictures,
        "policies": None if routing is None else policies_table(routing),
    }
    return Section(anchor, title, content)


def policies_table(routing: pd.DataFrame) -> Table:
    """Return rows of ``routing.csv``: the same weights under the agent's and other policies."""
    cells = columns(
        *("network", "ensemble", "policy"),
        {"Subjects": subjects},
        *("auc", "routing_difference", "routing_p"),
    )
    caption = "AUC under the agent's policies and under others, the same weights and subjects"
    return make_table("routing", caption, cells, routing)


def has_no_agent(results: StudyResults) -> bool:
    """Return whether the configuration names its networks' kinds, and none has an agent."""
    networks: Mapping[str, Any] = results.config.get("networks") or {}
    kinds = [(network or {}).get("kind") for network in networks.values()]
    return bool(kinds) and not {"spottune", None} & {*kinds}


def routing_table(policies: pd.DataFrame) -> Table:
    """Return tuned probabilities by class, and their agreement over folds, per model.

    Args:
        policies: columns as in ``policies.csv``.
    """
    means = class_means(policies).groupby(["network", "modality", "label"])["tuned"].mean()

    def tuned(label: int) -> Cell:
        nan = float("nan")
        return lambda row: number(means.get((row["network"], row["modality"], label), nan))

    by_class = {"methylated": tuned(1), "unmethylated": tuned(0)}
    agreement = {
        "Correlation\nof folds": rounded("correlation"),
        "Correlation without\nblocks' means": rounded("subject_correlation"),
        "Standard deviation\nover folds": rounded("fold_std"),
        "Certain": rounded("certain"),
    }
    folds = {"Folds": text("num_folds"), "Tuned": rounded("tuned")}
    cells = columns("network", "modality", folds, by_class, agreement)
    caption = "Mean tuned probability over subjects and blocks, and agreement of folds"
    return make_table("agent", caption, cells, policy_stability(policies))
