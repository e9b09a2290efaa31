"""The report's tables of metrics, each value next to the paper's."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mgmt_ray.cohort.subject import MODALITY_GROUPS
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report.ensemble_tables import leading_rows
from mgmt_ray.report.html_table import (
    DASH,
    Table,
    drop_empty_paper_columns,
    number,
    p_value,
    slug,
    with_interval,
)
from mgmt_ray.report.study_results import StudyResults, has_only_slice_networks, slice_networks
from mgmt_ray.report.summary import chance_cell
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


def network_table(results: StudyResults, network: str) -> Table:
    """Return metrics of one network's main ensembles, each next to the paper's value."""
    header = ["Ensemble", "Models"]
    for label in METRIC_LABELS.values():
        header += [label, f"paper's\n{label}"]
    rows = []
    metrics = results.metrics
    chosen = metrics[
        (metrics["network"] == network) & metrics["ensemble"].isin(results.main_ensembles)
    ]
    for row in chosen.to_dict("records"):
        published = PAPER_RESULTS.get(network, {}).get(row["ensemble"])
        cells = [row["ensemble"], str(row["num_members"])]
        for metric in METRIC_LABELS:
            cells += [with_interval(row, metric), _published(published, metric)]
        rows.append((*cells, chance_cell(row)))
    source = (
        f"next to table {PAPER_TABLES[network]} of the paper" if network in PAPER_TABLES else ""
    )
    caption = f"{network_label(network)} on the test set {source}".strip()
    name = f"metrics_{slug(network)}"
    table = Table(name, caption, (*header, "AUC against\nchance"), tuple(rows))
    return drop_empty_paper_columns(table) if network in slice_networks(results) else table


def single_input_table(results: StudyResults) -> Table | None:
    """Return metrics of each modality alone; None if the main tables already show them all."""
    metrics = results.metrics
    single_inputs = set(results.inputs) - set(results.main_ensembles)
    chosen = metrics[metrics["ensemble"].isin(single_inputs)]
    if chosen.empty:
        return None
    rows = tuple(
        (
            row["ensemble"],
            network_label(row["network"]),
            str(row["num_members"]),
            *(with_interval(row, metric) for metric in METRIC_LABELS),
            chance_cell(row),
        )
        for name in results.inputs
        for row in chosen[chosen["ensemble"] == name].to_dict("records")
    )
    header = ("Modality", "Network", "Models", *METRIC_LABELS.values(), "AUC against\nchance")
    caption = "Each modality alone"
    if not has_only_slice_networks(results):
        caption += " (Schmitz et al. do not report these)"
    return Table("single_modalities", caption, header, rows)


def baselines_table(results: StudyResults) -> Table | None:
    """Return metrics of the baselines; None if the study has none."""
    metrics = results.metrics
    chosen = metrics[metrics["network"].isin(results.baselines)]
    if chosen.empty:
        return None
    rows = []
    for row in chosen.to_dict("records"):
        is_published = row["network"] == "radiomics_forest" and not has_only_slice_networks(results)
        published = PAPER_FOREST if is_published else None
        cells = [network_label(row["network"]), str(row["num_members"])]
        for metric in METRIC_LABELS:
            cells += [with_interval(row, metric), _published(published, metric)]
        rows.append((*cells, chance_cell(row)))
    header = ["Model", "Models"]
    for label in METRIC_LABELS.values():
        header += [label, f"paper's\n{label}"]
    caption = "Baselines, on the same test subjects as the networks"
    table = Table("baselines", caption, (*header, "AUC against\nchance"), tuple(rows))
    compared = "radiomics_forest" in results.baselines and not has_only_slice_networks(results)
    return table if compared else drop_empty_paper_columns(table)


BASELINE_DESCRIPTIONS = {
    "radiomics_forest": "a random forest on six radiomic features",
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
    """Return each AUC with both intervals and the permutation test, and the Brier score."""
    metrics = results.metrics
    is_main = metrics["ensemble"].isin(results.main_ensembles)
    shown = metrics[is_main | leading_rows(metrics, results.baselines, results.main_ensembles)]
    rows = tuple(
        (
            row["ensemble"] if row["network"] != row["ensemble"] else DASH,
            network_label(row["network"]),
            f"{row['num_subjects']} ({row['num_methylated']})",
            with_interval(row, "auc"),
            f"[{number(row['auc_delong_low'])}, {number(row['auc_delong_high'])}]",
            p_value(row["auc_p"]),
            p_value(row["auc_p_holm"]),
            with_interval(row, "brier"),
        )
        for row in shown.to_dict("records")
    )
    header = (
        "Ensemble",
        "Network",
        "Subjects\n(methylated)",
        "AUC, bootstrap\ninterval",
        "DeLong's\ninterval",
        "Permutation\np",
        "the same,\nHolm",
        "Brier",
    )
    return Table("auc_against_chance", "AUC against chance, and Brier score", header, rows)


def external_table(results: StudyResults, name: str) -> Table:
    """Return metrics of each network and ensemble that an external cohort has the scans for."""
    rows = tuple(
        (
            row["ensemble"],
            network_label(row["network"]),
            str(row["num_members"]),
            str(row["num_subjects"]),
            str(row["num_methylated"]),
            *(with_interval(row, metric) for metric in METRIC_LABELS),
            chance_cell(row),
        )
        for row in results.external[name].metrics.to_dict("records")
    )
    header = ("Ensemble", "Network", "Models", "Subjects", "Methylated", *METRIC_LABELS.values())
    caption = f"External cohort {name}, predicted only"
    return Table(f"external_{slug(name)}", caption, (*header, "AUC against\nchance"), rows)


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


def rules_table(members: pd.DataFrame) -> Table | None:
    """Count how often each rule chose the epoch, by network and modality group.

    Args:
        members: columns network, modality and rule.

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
    return Table("rules", "Rule by which the epoch was chosen", header, tuple(rows))


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
