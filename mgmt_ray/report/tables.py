"""The report's tables of results, as text cells beside the paper's numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mgmt_ray.cohort.subject import MODALITY_GROUPS
from mgmt_ray.figures.style import network_label
from mgmt_ray.report.gather import StudyResults
from mgmt_ray.report.headline import chance_words
from mgmt_ray.statistics.intervals import interval_of
from mgmt_ray.statistics.paper import (
    PAPER_BEST_OVERALL,
    PAPER_COMPARISONS,
    PAPER_DSC_THREE_CHANNELS_AUC,
    PAPER_FALLBACKS,
    PAPER_FOREST,
    PAPER_RESULTS,
    PAPER_TABLES,
    PaperResult,
)
from mgmt_ray.statistics.planted import PlantedVerdict
from mgmt_ray.training.metrics import METRIC_LABELS

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text cells; the first cell of a row names it."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def network_table(results: StudyResults, network: str) -> Table:
    """Metrics of one network's main ensembles, each beside the paper's value."""
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
            # Two lines, so that eleven columns fit on a page.
            interval = str(interval_of(row, metric)).replace(" [", "\n[")
            cells += [interval, _published(published, metric)]
        rows.append((*cells, chance_words(interval_of(row, "auc"))))
    source = f"beside table {PAPER_TABLES[network]} of the paper" if network in PAPER_TABLES else ""
    caption = f"{network_label(network)} on the test set {source}".strip()
    return Table(caption, (*header, "AUC against\nchance"), tuple(rows))


def single_input_table(results: StudyResults) -> Table | None:
    """Metrics of each modality alone; None where the main tables already show them all."""
    metrics = results.metrics
    chosen = metrics[~metrics["ensemble"].isin(results.main_ensembles)]
    if chosen.empty:
        return None
    rows = tuple(
        (
            row["ensemble"],
            network_label(row["network"]),
            str(row["num_members"]),
            *(str(interval_of(row, metric)) for metric in METRIC_LABELS),
            chance_words(interval_of(row, "auc")),
        )
        for name in results.inputs
        for row in chosen[chosen["ensemble"] == name].to_dict("records")
    )
    header = ("Modality", "Network", "Models", *METRIC_LABELS.values(), "AUC against\nchance")
    return Table("Each modality alone (the paper does not report these)", header, rows)


def external_table(results: StudyResults, name: str) -> Table:
    """Metrics on an external cohort, of every network and ensemble that it has the scans for."""
    rows = tuple(
        (
            row["ensemble"],
            network_label(row["network"]),
            str(row["num_members"]),
            str(row["num_subjects"]),
            str(row["num_methylated"]),
            # two lines, so that ten columns fit on a page
            *(str(interval_of(row, metric)).replace(" [", "\n[") for metric in METRIC_LABELS),
            chance_words(interval_of(row, "auc")),
        )
        for row in results.external[name].metrics.to_dict("records")
    )
    header = ("Ensemble", "Network", "Models", "Subjects", "Methylated", *METRIC_LABELS.values())
    caption = f"External cohort {name}, predicted only"
    return Table(caption, (*header, "AUC against\nchance"), rows)


def other_published_table() -> Table:
    """What the paper reports outside its tables 2 to 4."""
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
            NOTHING,
            NOTHING,
            NOTHING,
        ),
    )
    return Table("Other results of the paper", ("Model", *METRIC_LABELS.values()), rows)


def comparison_table(comparisons: pd.DataFrame, ensembles: Sequence[str]) -> Table:
    """Friedman and Nemenyi of the main ensembles beside table 5 of the paper."""
    rows = []
    for row in comparisons[comparisons["ensemble"].isin(ensembles)].to_dict("records"):
        published = PAPER_COMPARISONS.get(row["ensemble"])
        pair = (row["network_a"], row["network_b"])
        rows.append(
            (
                row["ensemble"],
                f"{row['friedman_chi2']:.2f}" if not math.isnan(row["friedman_chi2"]) else NOTHING,
                _p_value(row["friedman_p"]),
                _p_value(published.friedman_p if published else None),
                " – ".join(network_label(network) for network in pair),
                _p_value(row["nemenyi_p"]),
                _p_value(published.nemenyi_p(*pair) if published else None),
            )
        )
    header = (
        "Ensemble",
        "Friedman χ²",
        "Friedman p",
        "paper's p",
        "Networks compared",
        "Nemenyi p",
        "paper's p",
    )
    return Table("Networks on the same inputs, beside table 5 of the paper", header, tuple(rows))


def best_overall_sentence() -> str:
    """The last row of the paper's table 5, which compares different inputs."""
    best = PAPER_BEST_OVERALL
    return (
        "The paper also compares its best ensemble of each network on different inputs (DSC+DTI, "
        f"Struct and DTI): Friedman p {_p_value(best.friedman_p)}; Nemenyi p "
        f"{_p_value(best.spottune_random)} (SpotTune – Random), {_p_value(best.random_transfer)} "
        f"(Random – Transfer), {_p_value(best.spottune_transfer)} (SpotTune – Transfer). "
        "Choosing the best by the test set would be choosing by the answer; that is not done here."
    )


def rules_table(members: pd.DataFrame) -> Table:
    """How often each rule chose the epoch, by network and group."""
    group_by_modality = {m: group for group, all_ in MODALITY_GROUPS.items() for m in all_}
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
                NOTHING if published is None else str(published),
            )
        )
    header = ("Network", "Group", "Models", "best M", "last epoch", "paper's last epoch")
    return Table("Which rule kept the epoch", header, tuple(rows))


def planted_table(verdicts: Sequence[PlantedVerdict]) -> Table:
    """Each ensemble's AUC against what was planted."""
    rows = tuple(
        (
            v.ensemble,
            network_label(v.network),
            ", ".join(v.carriers) or "none",
            str(v.auc),
            v.words,
        )
        for v in verdicts
    )
    header = ("Ensemble", "Network", "Modalities with the signal", "AUC", "Verdict")
    return Table("What was planted, and what was found", header, rows)


def _all_published(published: PaperResult) -> tuple[str, ...]:
    return tuple(_published(published, metric) for metric in METRIC_LABELS)


def _published(published: PaperResult | None, metric: str) -> str:
    return NOTHING if published is None else f"{getattr(published, metric):.4f}"


def _p_value(p: float | None) -> str:
    if p is None or math.isnan(p):
        return NOTHING
    return "< 0.0001" if p < 0.0001 else f"{p:.3g}" if p < 0.1 else f"{p:.3f}"
