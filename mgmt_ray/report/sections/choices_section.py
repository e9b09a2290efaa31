"""The section on choices by validation: best ensembles, and forward selection of modalities."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report.ensemble_tables import CHOSEN, chosen_rows
from mgmt_ray.report.html_table import DASH, Table, drop_empty_paper_columns, number, with_interval
from mgmt_ray.report.section import Section, missing_section
from mgmt_ray.report.study_results import StudyResults, has_only_slice_networks
from mgmt_ray.report.summary import chance_cell
from mgmt_ray.selection.best_on_validation import BEST_OVERALL
from mgmt_ray.statistics.published_results import PAPER_BEST_ENSEMBLES
from mgmt_ray.training.metrics import METRIC_LABELS

ANCHOR, TITLE = "choices", "Ensembles and modalities chosen on validation"
_SCORES = ("Validation M", "SEN", "SPE", "AUC", "Subjects")


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
    metrics = results.metrics
    rows = []
    for name in CHOSEN:
        inputs = chosen_by_network(results, name)
        for row in metrics[metrics["ensemble"] == name].to_dict("records"):
            network = row["network"]
            paper = PAPER_BEST_ENSEMBLES.get(network, DASH) if name == BEST_OVERALL else DASH
            rows.append(
                (
                    name,
                    network_label(network),
                    inputs.get(network, DASH),
                    paper,
                    *(with_interval(row, metric) for metric in METRIC_LABELS),
                    chance_cell(row),
                )
            )
    header = ("Chosen as", "Network", "Models of", "paper's best", *METRIC_LABELS.values())
    caption = "Test results of what was chosen on validation"
    table = Table("chosen", caption, (*header, "AUC against\nchance"), tuple(rows))
    return drop_empty_paper_columns(table) if has_only_slice_networks(results) else table


def best_ensembles_table(results: StudyResults) -> Table:
    """Return validation scores of all group ensembles, and which was chosen."""
    rows = tuple(
        (
            row["ensemble"],
            network_label(row["network"]),
            str(row["outer_fold"]),
            *_scores(row),
            "chosen" if row["chosen"] == 1 else "",
        )
        for row in results.tables["best_ensembles"].to_dict("records")
    )
    header = ("Ensemble", "Network", "Split", *_SCORES, "Best overall")
    return Table("best_ensembles", "Group ensembles on validation (out of fold)", header, rows)


def steps_table(results: StudyResults) -> Table:
    """Return each step of the forward selection, with the score of the ensemble so far."""
    rows = tuple(
        (
            str(row["step"]),
            f"+ {row['modality']}",
            network_label(row["network"]),
            str(row["outer_fold"]),
            *_scores(row),
            "kept" if row["kept"] == 1 else "",
        )
        for row in results.tables["forward_selection"].to_dict("records")
    )
    header = ("Step", "Modality added", "Network", "Split", *_SCORES, "Kept")
    caption = "Forward selection: the ensemble of all modalities up to each step, on validation"
    return Table("forward_selection", caption, header, rows)


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


def _scores(row: Mapping[Hashable, Any]) -> tuple[str, ...]:
    scores = (f"validation_{metric}" for metric in ("m", "sen", "spe", "auc"))
    return (*(number(row[score]) for score in scores), str(row["num_subjects"]))
