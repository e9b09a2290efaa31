"""The section that compares models on the same subjects, beside table 5 of the paper."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from mgmt_ray.figures.style import network_label
from mgmt_ray.report.cautions import pooled_splits
from mgmt_ray.report.gather import StudyResults
from mgmt_ray.report.html_table import Table, number, p_value, with_interval
from mgmt_ray.report.science_tables import CHOSEN
from mgmt_ray.report.section import Section
from mgmt_ray.report.summary import BASELINE_PREFIX
from mgmt_ray.selection.best_on_validation import BEST_OVERALL
from mgmt_ray.statistics.published_results import (
    PAPER_BEST_ENSEMBLES,
    PAPER_BEST_OVERALL,
    PAPER_COMPARISONS,
    PaperComparison,
)


def comparisons_section(results: StudyResults) -> Section:
    """Friedman, Nemenyi, DeLong and paired differences of the study's models."""
    table = results.comparisons
    against = table["comparison"].str.startswith(BASELINE_PREFIX)
    lead = table["comparison"].isin((*results.main_ensembles, *CHOSEN))
    tested = table[lead & table["friedman_p"].notna()]
    alone = table[~against & ~lead]
    content = {
        "probabilities": ranks_table(tested, "") if len(tested) else None,
        "errors": ranks_table(tested, "error_") if len(tested) else None,
        "differences": differences_table(table[lead], "differences") if lead.any() else None,
        "against": differences_table(table[against], "differences_against")
        if len(table[against])
        else None,
        "alone": differences_table(alone, "differences_single") if len(alone) else None,
        "best_overall": best_overall_sentence(),
        "pooled": pooled_splits(results),
    }
    return Section("comparisons", "Networks compared", content)


def ranks_table(comparisons: pd.DataFrame, of: str) -> Table:
    """Friedman's and Nemenyi's tests.

    Args:
        comparisons: rows of comparisons of at least three networks.
        of: "" for ranks of probabilities, as in the paper, "error_" for those of squared errors.
    """
    rows = tuple(_ranks(row, of) for row in comparisons.to_dict("records"))
    header = ("Ensemble", "Friedman χ²", "Friedman p", "Holm p", "Networks compared", "Nemenyi p")
    if of:
        return Table(
            "squared_errors_compared",
            "Squared errors of the networks on the same inputs",
            header,
            rows,
        )
    published = ("paper's\nFriedman p", "paper's\nNemenyi p")
    caption = "Probabilities of the networks on the same inputs, beside table 5 of the paper"
    return Table("probabilities_compared", caption, (*header, *published), rows)


def _ranks(row: Mapping[Hashable, Any], of: str) -> tuple[str, ...]:
    pair = (row["network_a"], row["network_b"])
    cells = (
        row["comparison"],
        number(row[f"{of}friedman_chi2"], 2),
        p_value(row[f"{of}friedman_p"]),
        p_value(row[f"{of}friedman_p_holm"]),
        " – ".join(network_label(network) for network in pair),
        p_value(row[f"{of}nemenyi_p"]),
    )
    if of:
        return cells
    published = published_comparison(row["comparison"])
    friedman = published.friedman_p if published else None
    nemenyi = published.nemenyi_p(*pair) if published else None
    return (*cells, p_value(friedman), p_value(nemenyi))


def differences_table(comparisons: pd.DataFrame, name: str) -> Table:
    """Paired differences with intervals, and DeLong's test.

    Args:
        comparisons: rows of the comparisons table.
        name: of the table's files.
    """
    rows = tuple(
        (
            _comparison_name(row["comparison"]),
            f"{_model(row, 'a')} – {_model(row, 'b')}",
            str(row["num_subjects"]),
            with_interval(row, "auc_difference"),
            p_value(row["delong_p"]),
            p_value(row["delong_p_holm"]),
            with_interval(row, "ap_difference"),
            with_interval(row, "brier_difference"),
        )
        for row in comparisons.to_dict("records")
    )
    header = (
        "Comparison",
        "Difference between",
        "Subjects",
        "Δ AUC",
        "DeLong p",
        "Holm p",
        "Δ AP",
        "Δ Brier",
    )
    captions = {
        "differences": "Paired differences between networks",
        "differences_against": "Paired differences between best overall ensembles and "
        "comparison models",
        "differences_single": "Paired differences, each modality alone",
    }
    return Table(name, captions[name], header, rows)


def _comparison_name(name: str) -> str:
    model = name.removeprefix(BASELINE_PREFIX)
    return name if model == name else BASELINE_PREFIX + network_label(model)


def _model(row: Mapping[Hashable, Any], side: str) -> str:
    network, ensemble = row[f"network_{side}"], row[f"ensemble_{side}"]
    plain = ensemble in (network, row["comparison"], BEST_OVERALL)
    return network_label(network) if plain else f"{network_label(network)} {ensemble}"


def published_comparison(ensemble: str) -> PaperComparison | None:
    """The paper's tests of an ensemble of this name; None where it has none."""
    return PAPER_BEST_OVERALL if ensemble == BEST_OVERALL else PAPER_COMPARISONS.get(ensemble)


def best_overall_sentence() -> str:
    """How the best ensembles of the paper's last row were chosen, and how ours."""
    best = ", ".join(f"{network_label(n)} {e}" for n, e in PAPER_BEST_ENSEMBLES.items())
    return (
        f"Of “best overall” the paper compares {best}, which are best by its results on the test "
        "set. Ours are those of the highest M on validation: choosing by the test set would be "
        "choosing by the answer. The three Nemenyi p-values that the paper prints in that row "
        "repeat those of the row above it (DSC+DTI+Struct) but for one digit (0.0768 for 0.768), "
        "and do not fit its Friedman p of 0.0636, which allows no pair a p-value below 0.049."
    )
