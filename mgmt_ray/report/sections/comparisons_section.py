"""The section on paired comparisons of models."""

from __future__ import annotations

import pandas as pd

from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report.columns import Cell, Row, columns, make_table, rounded
from mgmt_ray.report.ensemble_tables import CHOSEN, merge_copies
from mgmt_ray.report.html_table import Table, beside_paper, p_value
from mgmt_ray.report.section import Section
from mgmt_ray.report.study_results import StudyResults, is_of_paper
from mgmt_ray.report.summary import BASELINE_PREFIX, difference_sentences
from mgmt_ray.selection.best_on_validation import BEST_OVERALL
from mgmt_ray.statistics.published_results import (
    PAPER_BEST_ENSEMBLES,
    PAPER_BEST_OVERALL,
    PAPER_COMPARISONS,
    PaperComparison,
)


def comparisons_section(results: StudyResults) -> Section:
    """Return the section with Friedman's, Nemenyi's and DeLong's tests and paired differences."""
    table = results.comparisons
    with_baselines = table["comparison"].str.startswith(BASELINE_PREFIX)
    of_networks = table["comparison"].isin((*results.main_ensembles, *CHOSEN))
    tested = table[of_networks & table["friedman_p"].notna()]
    single_inputs = table[~with_baselines & ~of_networks]
    content = {
        "probabilities": beside_paper(ranks_table(tested, ""), is_of_paper(results), "table 5")
        if len(tested)
        else None,
        "errors": ranks_table(tested, "error_") if len(tested) else None,
        "differences": _optional_differences(table[of_networks], "differences"),
        "baselines": _optional_differences(table[with_baselines], "differences_against"),
        "single_inputs": _optional_differences(single_inputs, "differences_single"),
        "best_overall": best_overall_sentence() if is_of_paper(results) else "",
        "findings": difference_sentences(results),
    }
    return Section("comparisons", "Networks compared", content)


def ranks_table(comparisons: pd.DataFrame, prefix: str) -> Table:
    """Return Friedman's and Nemenyi's tests.

    Args:
        comparisons: rows of ``comparisons.csv`` between at least three networks.
        prefix: of the columns: "" for ranks of probabilities, as in the paper, "error_" for those
            of squared errors.
    """
    pair: dict[str, Cell] = {
        "Networks compared": lambda row: " – ".join(map(network_label, _pair(row)))
    }
    cells = columns(
        "comparison",
        {"Friedman χ²": rounded(f"{prefix}friedman_chi2", 2)},
        *(f"{prefix}friedman_p", f"{prefix}friedman_p_holm"),
        pair,
        f"{prefix}nemenyi_p",
    )
    if prefix:
        caption = "Squared errors of the networks on the same inputs"
        return make_table("squared_errors_compared", caption, cells, comparisons)

    def friedman(row: Row) -> str:
        published = published_comparison(row["comparison"])
        return p_value(published.friedman_p if published else None)

    def nemenyi(row: Row) -> str:
        published = published_comparison(row["comparison"])
        return p_value(published.nemenyi_p(*_pair(row)) if published else None)

    cells |= {"paper's\nFriedman p": friedman, "paper's\nNemenyi p": nemenyi}
    caption = "Probabilities of the networks on the same inputs"
    return make_table("probabilities_compared", caption, cells, comparisons)


def _pair(row: Row) -> tuple[str, str]:
    return (row["network_a"], row["network_b"])


def differences_table(comparisons: pd.DataFrame, name: str) -> Table:
    """Return paired differences with intervals, and DeLong's test.

    Args:
        comparisons: rows of ``comparisons.csv``.
        name: "differences", "differences_against" (baselines) or "differences_single" (inputs).
    """
    compared: dict[str, Cell] = {
        "Comparison": lambda row: _comparison_name(row["comparison"]),
        "Difference between": lambda row: f"{_model(row, 'a')} – {_model(row, 'b')}",
    }
    tested = (
        "family",
        "auc_difference",
        "delong_p",
        "delong_p_holm",
        "ap_difference",
        "brier_difference",
    )
    cells = columns(compared, "num_subjects", *tested)
    captions = {
        "differences": "Paired differences between networks",
        "differences_against": "Paired differences between best overall ensembles and baselines",
        "differences_single": "Paired differences, each modality alone",
    }
    distinct = merge_copies(comparisons, ("network_a", "network_b"), "comparison")
    return make_table(name, captions[name], cells, distinct)


def _optional_differences(comparisons: pd.DataFrame, name: str) -> Table | None:
    return None if comparisons.empty else differences_table(comparisons, name)


def _comparison_name(name: str) -> str:
    baseline = name.removeprefix(BASELINE_PREFIX)
    return name if baseline == name else BASELINE_PREFIX + network_label(baseline)


def _model(row: Row, side: str) -> str:
    network, ensemble = row[f"network_{side}"], row[f"ensemble_{side}"]
    is_implied = ensemble in (network, row["comparison"], BEST_OVERALL)
    return network_label(network) if is_implied else f"{network_label(network)} {ensemble}"


def published_comparison(ensemble: str) -> PaperComparison | None:
    """Return the paper's tests of the ensemble of this name; None if it has none."""
    return PAPER_BEST_OVERALL if ensemble == BEST_OVERALL else PAPER_COMPARISONS.get(ensemble)


def best_overall_sentence() -> str:
    """Explain how the paper's best ensembles were chosen, and how those of this study."""
    best = ", ".join(f"{network_label(n)} {e}" for n, e in PAPER_BEST_ENSEMBLES.items())
    return (
        f"Of “best overall” the paper compares {best}, which are best by its results on the test "
        "set. Ours are those of the highest M on validation: a choice by the test set would be "
        "optimistic. The three Nemenyi p-values that the paper prints in that row repeat those of "
        "the row above it (DSC+DTI+Struct) except for one digit (0.0768 for 0.768), and do not fit "
        "its Friedman p of 0.0636, which allows no pair a p-value below 0.049."
    )
