"""The section on choices by validation: best ensembles, and forward selection of modalities."""

from __future__ import annotations

import pandas as pd

from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report.columns import METRICS, Cell, Row, columns, make_table
from mgmt_ray.report.ensemble_tables import CHOSEN, chosen_rows
from mgmt_ray.report.html_table import DASH, Table, beside_paper, number
from mgmt_ray.report.section import Section, missing_section
from mgmt_ray.report.study_results import StudyResults, is_of_paper
from mgmt_ray.selection.best_on_validation import BEST_OVERALL
from mgmt_ray.statistics.published_results import PAPER_BEST_ENSEMBLES

_SCORES = ("validation_m", "validation_sen", "validation_spe", "validation_auc", "num_subjects")
ANCHOR, TITLE = "choices", "Ensembles and modalities chosen on validation"


def choices_section(results: StudyResults) -> Section:
    """Return the section on what was chosen on validation, and its results on the test set."""
    if not {"best_ensembles", "forward_selection"} <= set(results.tables):
        return missing_section(
            ANCHOR, TITLE, "ensembles/best_ensembles.csv or forward_selection.csv"
        )
    content = {
        "chosen": chosen_table(results),
        "best": best_ensembles_table(results),
        "steps": steps_table(results),
        "ranks": ranks_table(results),
        "nested": len(results.splits) > 1,
    }
    return Section(ANCHOR, TITLE, content)


def chosen_by_network(results: StudyResults, ensemble: str) -> dict[str, str]:
    """Return the inputs of each network's chosen ensemble, such as "PH + T1 / PH".

    Different choices of several outer splits are separated by " / ".

    Args:
        ensemble: "best overall" or "forward selection".
    """
    name = "best_ensembles" if ensemble == BEST_OVERALL else "forward_selection"
    if name not in results.tables:
        return {}
    inputs = {}
    for network, chosen in chosen_rows(results.tables, name).groupby("network", sort=False):
        by_split = [_chosen_inputs(rows, ensemble) for _, rows in chosen.groupby("outer_fold")]
        inputs[str(network)] = " / ".join(dict.fromkeys(by_split))
    return inputs


def _chosen_inputs(rows: pd.DataFrame, ensemble: str) -> str:
    if ensemble == BEST_OVERALL:
        return str(rows["ensemble"].iloc[0])
    return " + ".join(rows.sort_values("step")["modality"])


def chosen_table(results: StudyResults) -> Table:
    """Return the test results of each chosen ensemble."""
    inputs = {name: chosen_by_network(results, name) for name in CHOSEN}

    def published(row: Row) -> str:
        is_best = row["ensemble"] == BEST_OVERALL
        return PAPER_BEST_ENSEMBLES.get(row["network"], DASH) if is_best else DASH

    chosen: dict[str, Cell] = {
        "Chosen as": lambda row: str(row["ensemble"]),
        "Network": lambda row: network_label(row["network"]),
        "Models of": lambda row: inputs[row["ensemble"]].get(row["network"], DASH),
        "paper's best": published,
    }
    cells = columns(chosen, *METRICS, "chance")
    metrics = results.metrics
    rows = pd.concat([metrics[metrics["ensemble"] == name] for name in CHOSEN])
    table = make_table("chosen", "Test results of what was chosen on validation", cells, rows)
    return beside_paper(table, is_of_paper(results))


def best_ensembles_table(results: StudyResults) -> Table:
    """Return validation scores of all group ensembles, and which was chosen."""
    chosen: dict[str, Cell] = {"Best overall": lambda row: "chosen" * int(row["chosen"])}
    cells = columns("ensemble", "network", "outer_fold", *_SCORES, chosen)
    caption = "Group ensembles on validation (out of fold)"
    return make_table("best_ensembles", caption, cells, results.tables["best_ensembles"])


def steps_table(results: StudyResults) -> Table:
    """Return each step of the forward selection, with the score of the ensemble so far."""
    added: dict[str, Cell] = {"Modality added": lambda row: f"+ {row['modality']}"}
    kept: dict[str, Cell] = {"Kept": lambda row: "kept" * int(row["kept"])}
    cells = columns("step", added, "network", "outer_fold", *_SCORES, kept)
    caption = "Forward selection: the ensemble of all modalities up to each step, on validation"
    return make_table("forward_selection", caption, cells, results.tables["forward_selection"])


def ranks_table(results: StudyResults) -> Table:
    """Return the mean step at which each network's forward selection added each modality."""
    steps = results.tables["forward_selection"]
    networks = list(dict.fromkeys(steps["network"]))
    mean = steps.groupby(["modality", "network"])["step"].mean().unstack()[networks]
    ordered = mean.assign(all=mean.mean(axis=1)).sort_values("all", kind="stable")
    digits = 1 if steps["outer_fold"].nunique() > 1 else 0
    rows = tuple(
        (str(modality), *(number(row[n], digits) for n in networks), number(row["all"], 1))
        for modality, row in ordered.iterrows()
    )
    header = ("Modality", *(network_label(n) for n in networks), "mean")
    caption = "The step at which each modality was added (1: first), mean over splits"
    return Table("modality_ranks", caption, header, rows)
