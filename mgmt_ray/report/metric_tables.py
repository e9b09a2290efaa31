"""The report's tables of metrics, next to the paper's where it has the same patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from mgmt_ray.cohort.subject import MODALITY_GROUPS
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report.columns import (
    METRICS,
    Cell,
    Row,
    columns,
    make_table,
    network_name,
    text,
)
from mgmt_ray.report.ensemble_tables import (
    CHOSEN,
    by_ensemble,
    chosen_note,
    leading_rows,
    merge_copies,
)
from mgmt_ray.report.html_table import (
    DASH,
    Table,
    beside_paper,
    slug,
    with_interval,
)
from mgmt_ray.report.study_results import StudyResults, is_of_paper
from mgmt_ray.statistics.planted_signal import PlantedVerdict
from mgmt_ray.statistics.published_results import (
    PAPER_DSC_THREE_CHANNELS_AUC,
    PAPER_FALLBACKS,
    PAPER_FOREST,
    PAPER_RESULTS,
    PAPER_TABLES,
    PaperResult,
)
from mgmt_ray.training.metrics import METRIC_LABELS


def auc_table(results: StudyResults) -> Table:
    """Return the AUC of each ensemble of networks, with the networks side by side."""
    names = (*results.main_ensembles, *CHOSEN)

    def cell(row: Row | None) -> str:
        return DASH if row is None else f"{with_interval(row, 'auc')} {chosen_note(row)}".strip()

    rows = tuple(
        (name, *(cell(by_network.get(network)) for network in results.networks))
        for name, by_network in by_ensemble(results.metrics, names).items()
    )
    header = ("Ensemble", *map(network_label, results.networks))
    caption = "AUC on the test set; “best” is what validation chose for the network"
    return Table("auc", caption, header, rows)


def network_table(results: StudyResults, network: str) -> Table:
    """Return metrics of one network's ensembles, next to the paper's values where it has any."""
    metrics = results.metrics
    of_network = metrics[metrics["network"] == network]
    shown = of_network[of_network["ensemble"].isin((*results.main_ensembles, *CHOSEN))]
    published = PAPER_RESULTS.get(network, {})

    def published_row(row: Row) -> PaperResult | None:
        names = str(row["ensemble"]).split("\n= ")
        return next((published[name] for name in names if name in published), None)

    cells = columns("ensemble", "num_members", _next_to_paper(published_row), "chance")
    caption = f"{network_label(network)} on the test set"
    table = make_table(f"metrics_{slug(network)}", caption, cells, merge_copies(shown))
    return beside_paper(table, is_of_paper(results), f"table {PAPER_TABLES.get(network)}")


def _next_to_paper(published: Callable[[Row], PaperResult | None]) -> dict[str, Cell]:
    """Return the columns of all metrics, each followed by what the paper has for the row."""

    def of_paper(metric: str) -> Cell:
        return lambda row: _published(published(row), metric)

    parts = ((m, {f"paper's\n{label}": of_paper(m)}) for m, label in METRIC_LABELS.items())
    return columns(*(part for pair in parts for part in pair))


def single_input_table(results: StudyResults) -> Table | None:
    """Return metrics of each modality alone; None if the main tables already show them all."""
    metrics = results.metrics
    single_inputs = [name for name in results.inputs if name not in results.main_ensembles]
    chosen = [metrics[metrics["ensemble"] == name] for name in single_inputs]
    if not any(map(len, chosen)):
        return None
    cells = columns({"Modality": text("ensemble")}, "network", "num_members", *METRICS, "chance")
    return make_table("single_modalities", "Each modality alone", cells, pd.concat(chosen))


def baselines_table(results: StudyResults) -> Table | None:
    """Return metrics of the baselines; None if the study has none."""
    metrics = results.metrics
    chosen = metrics[metrics["network"].isin(results.baselines)]
    if chosen.empty:
        return None

    def published(row: Row) -> PaperResult | None:
        return PAPER_FOREST if row["network"] == "radiomics_forest" else None

    cells = columns({"Model": network_name}, "num_members", _next_to_paper(published), "chance")
    caption = "Baselines, on the same test subjects as the networks"
    table = make_table("baselines", caption, cells, chosen)
    return beside_paper(table, is_of_paper(results))


BASELINE_DESCRIPTIONS = {
    "radiomics_forest": "a random forest on six radiomic features",
    "first_order": "logistic regression on mean, standard deviation, skewness and log "
    "volume of the masked scan, in the modalities that validation chose",
    "age_sex": "logistic regression on age and sex",
    "tumour_volume": "logistic regression on the logarithm of the tumour’s volume",
    "prevalence": "the share of methylated training subjects, the same for a split’s subjects",
}
"""What each baseline is, in the report's words."""


def baselines_sentence(results: StudyResults) -> str:
    """Say what the study's baselines are; empty if it has none."""
    described = [BASELINE_DESCRIPTIONS[name] for name in results.baselines]
    return f"Baselines: {'; '.join(described)}." if described else ""


def prevalence_note(results: StudyResults) -> str:
    """Explain why prevalence's AUC is below 0.5 over several splits; empty for one split."""
    if len(results.splits) == 1 or "prevalence" not in results.baselines:
        return ""
    return (
        "Over several splits its AUC falls below 0.5 by construction: a split that tests more "
        "methylated subjects trains on fewer, so those get the lower constant. This is no "
        "finding."
    )


def chance_table(results: StudyResults) -> Table:
    """Return each AUC with the permutation test, and the Brier score."""
    metrics = results.metrics
    is_main = metrics["ensemble"].isin(results.main_ensembles)
    shown = metrics[is_main | leading_rows(metrics, results.baselines, results.main_ensembles)]
    cells = columns("model", "network", "subjects", "auc", "family", "auc_p", "auc_p_holm", "brier")
    caption = "AUC against chance, and Brier score"
    return make_table("auc_against_chance", caption, cells, merge_copies(shown))


def external_table(results: StudyResults, name: str) -> Table:
    """Return metrics of each network and ensemble that an external cohort has the scans for."""
    models = ("ensemble", "network", "num_members", "num_subjects", "num_methylated")
    cells = columns(*models, *METRICS, "chance")
    caption = f"External cohort {name}, predicted only"
    return make_table(f"external_{slug(name)}", caption, cells, results.external[name].metrics)


def other_published_table() -> Table:
    """Return what the paper reports outside its tables 2 to 4."""
    second_round = PAPER_RESULTS["transfer-2"]["Struct"]
    rows = (
        ("Transfer, last two residual blocks trained too (Struct)", *_all_published(second_round)),
        (
            "Random forest, six radiomic features (54 of the 57 subjects)",
            *_all_published(PAPER_FOREST),
        ),
        (
            "Three DSC derivatives as channels of one network",
            f"{PAPER_DSC_THREE_CHANNELS_AUC:.4f}",
            DASH,
            DASH,
            DASH,
        ),
    )
    header = ("Model", *METRIC_LABELS.values())
    return Table("other_published", "Other results of the paper", header, rows)


def rules_table(members: pd.DataFrame, is_of_paper: bool) -> Table | None:
    """Count how often each rule chose the epoch, by network and modality group.

    Args:
        members: columns network, modality and rule.
        is_of_paper: whether the paper's numbers may stand beside them.

    Returns:
        None if all members take slices, for which there is only one rule.
    """
    members = members[members["rule"] != "best_accuracy"]
    if members.empty:
        return None
    group_by_modality = {
        m: group for group, modalities in MODALITY_GROUPS.items() for m in modalities
    }
    grouped = members.assign(group=members["modality"].map(lambda m: group_by_modality.get(m, m)))
    rows = []
    for (network, group), chosen in grouped.groupby(["network", "group"], sort=False):
        fallbacks = int((chosen["rule"] == "last_epoch").sum())
        published = PAPER_FALLBACKS.get(str(network), {}).get(str(group))
        rows.append(
            (
                network_label(str(network)),
                str(group),
                str(len(chosen)),
                str(len(chosen) - fallbacks),
                str(fallbacks),
                DASH if published is None else str(published),
            )
        )
    header = ("Network", "Group", "Models", "best M", "last epoch", "paper's last epoch")
    table = Table("rules", "Rule by which the epoch was chosen", header, tuple(rows))
    return beside_paper(table, is_of_paper)


def planted_table(verdicts: Sequence[PlantedVerdict]) -> Table:
    """Return each ensemble's AUC and whether it agrees with the planted signal."""
    rows = tuple(
        (
            v.ensemble,
            network_label(v.network),
            ", ".join(v.carriers) or "none",
            str(v.auc),
            v.sentence,
        )
        for v in verdicts
    )
    header = ("Ensemble", "Network", "Modalities with the signal", "AUC", "Verdict")
    return Table("planted", "Planted signal, and what was found", header, rows)


def _all_published(published: PaperResult) -> tuple[str, ...]:
    return tuple(_published(published, metric) for metric in METRIC_LABELS)


def _published(published: PaperResult | None, metric: str) -> str:
    return DASH if published is None else f"{getattr(published, metric):.4f}"
