"""The sections on sources of variance and on subgroups."""

from __future__ import annotations

import pandas as pd

from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.figures.interval_plots import subgroups_figure, variance_figure
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report.columns import columns, make_table
from mgmt_ray.report.ensemble_tables import leading_rows
from mgmt_ray.report.html_table import DASH, Table, number
from mgmt_ray.report.section import Picture, Section, missing_section
from mgmt_ray.report.study_results import StudyResults


def variance_section(results: StudyResults, figures: FigureFolder) -> Section:
    """Return the section on the AUC's standard deviation by draws, folds, seeds and subjects."""
    anchor, title = "variance", "Sources of variance"
    table = results.tables.get("variance")
    if table is None or table.empty:
        return missing_section(anchor, title, "ensembles/variance.csv")
    path = figures.save(variance_figure(table), "variance")
    shown = variance_table(table)
    alt = "; ".join(f"{row[1]} {row[0]}: {', '.join(row[2:])}" for row in shown.rows)
    caption = "Standard deviation of the AUC on the test set by source."
    picture = Picture(path, caption, f"Draws, folds, seeds, subjects. {alt}.")
    return Section(anchor, title, {"deviations": shown, "figures": [picture]})


def variance_table(variance: pd.DataFrame) -> Table:
    """Return the AUC's standard deviations, with a row per model and a column per source.

    Args:
        variance: columns of ``variance.csv``.
    """
    sources = list(dict.fromkeys(variance["source"]))
    rows = []
    for (network, ensemble), group in variance.groupby(["network", "ensemble"], sort=False):
        by_source = {row["source"]: row for row in group.to_dict("records")}
        cells = (
            f"{number(by_source[s]['auc_std'], 4)} ({by_source[s]['num']})"
            if s in by_source
            else DASH
            for s in sources
        )
        rows.append((str(ensemble), network_label(str(network)), *cells))
    header = ("Ensemble", "Network", *sources)
    caption = (
        "Standard deviation of the AUC by source (in parentheses the number of draws, folds, …)"
    )
    return Table("variance", caption, header, tuple(rows))


def subgroups_section(results: StudyResults, figures: FigureFolder) -> Section:
    """Return the section with results by sex, age band and IDH."""
    anchor, title = "subgroups", "Subgroups"
    table = results.tables.get("subgroups")
    if table is None:
        return missing_section(anchor, title, "ensembles/subgroups.csv")
    if table.empty:
        reason = (
            "The cohort's table has no sex, age or IDH, or no ensemble was chosen on validation."
        )
        return Section(anchor, title, missing=reason)
    shown = table[leading_rows(table, results.baselines, results.main_ensembles)]
    path = figures.save(subgroups_figure(shown), "subgroups")
    subgroups = subgroups_table(shown)
    aucs = "; ".join(f"{r[0]} {r[1]} {r[3]} {' '.join(r[5].split())}" for r in subgroups.rows)
    picture = Picture(path, "AUC by subgroup.", f"AUC by subgroup and model: {aucs}.")
    return Section(anchor, title, {"subgroups": subgroups, "figures": [picture]})


def subgroups_table(subgroups: pd.DataFrame) -> Table:
    """Return the rows of ``subgroups.csv``."""
    groups = ("attribute", "level", "model", "network", "subjects")
    cells = columns(*groups, "auc", "sen", "spe", "brier")
    return make_table("subgroups", "Results on the test set by subgroup", cells, subgroups)
