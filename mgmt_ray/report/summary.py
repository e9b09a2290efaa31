"""The report's summary: a study's findings in sentences that say how certain they are."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report.cautions import cautions
from mgmt_ray.report.study_results import StudyResults
from mgmt_ray.selection.best_on_validation import BEST_OVERALL
from mgmt_ray.statistics.intervals import read_interval
from mgmt_ray.statistics.planted_signal import CHANCE_AUC, PlantedVerdict

LEVEL = 0.05
"""P-values below it, after Holm's correction within their family, are called findings."""
BASELINE_PREFIX = "against "
"""Prefix of the name of a comparison of each network's best ensemble with a baseline."""


def summary_sentences(results: StudyResults) -> list[str]:
    """Return the summary's sentences, one per point."""
    metrics = results.metrics
    main = metrics[metrics["ensemble"].isin(results.main_ensembles)]
    tested = _with_originals_p(metrics).loc[main.index]
    first = metrics.iloc[0]
    sentences = [
        f"{len(results.members)} trained models were evaluated on {first['num_subjects']} "
        f"held-out subjects, {first['num_methylated']} of them methylated"
        f"{_in_splits(len(results.splits))}. Brackets hold 95\u00a0% intervals."
    ]
    sentences += _best_overall(results)
    sentences += [
        chance_sentence(network_label(network), tested[tested["network"] == network])
        for network in results.networks
        if network in set(main["network"])
    ]
    sentences += difference_sentences(results)
    sentences.append(
        f"{len(main)} AUC intervals are given here, and about one 95\u00a0% interval in twenty "
        "misses the true value by chance: the best row of many is not a finding by itself."
    )
    sentences += segmentation_sentences(results)
    sentences += [external_sentence(results, name) for name in results.external]
    return sentences + cautions(results)


def _with_originals_p(metrics: pd.DataFrame) -> pd.DataFrame:
    """Give each copy the corrected p-value of the ensemble that it is a copy of."""
    p = metrics.set_index(["network", "ensemble"])["auc_p_holm"]
    original = metrics["copy_of"].mask(metrics["copy_of"] == "", metrics["ensemble"])
    keys = zip(metrics["network"], original, strict=True)
    return metrics.assign(auc_p_holm=[p[key] for key in keys])


def p_text(p: float) -> str:
    """Format a p-value in a sentence.

    >>> p_text(0.0312), p_text(0.0003), p_text(float("nan"))
    ('0.031', '0.0003', 'not tested')
    """
    if math.isnan(p):
        return "not tested"
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1g}"


def _best_overall(results: StudyResults) -> list[str]:
    """Report each network's ensemble that was chosen on validation: one AUC per network."""
    rows = results.metrics[results.metrics["ensemble"] == BEST_OVERALL].to_dict("records")
    if not rows:
        return []
    aucs = "; ".join(
        f"{network_label(r['network'])} {read_interval(r, 'auc')} (p = {p_text(r['auc_p_holm'])})"
        for r in rows
    )
    return [
        "Primary results, AUC of each network's best ensemble by validation (permutation test "
        f"against 0.5, Holm's correction over these {len(rows)}): {aucs}."
    ]


def difference_sentences(results: StudyResults) -> list[str]:
    """Report the comparisons between networks and with baselines, after Holm's correction."""
    table = results.comparisons
    main = table[table["comparison"].isin(results.main_ensembles)]
    tested = main[main["friedman_p"].notna()].drop_duplicates("comparison")
    sentences = []
    if len(tested):
        num_ranks, num_errors = (
            int((tested[f"{prefix}friedman_p_holm"] < LEVEL).sum()) for prefix in ("", "error_")
        )
        sentences.append(
            "By Friedman's test (p < 0.05 after Holm's correction) the networks' probabilities "
            f"differ in {num_ranks} of {len(tested)} ensembles, which does not say which network "
            f"is more often right, and their squared errors in {num_errors}."
        )
    against = table[table["comparison"].str.startswith(BASELINE_PREFIX)]
    for rows, kind in ((main, "pairs of networks"), (against, "comparisons with baselines")):
        compared = rows[rows["delong_p_holm"].notna()]
        if len(compared):
            num_different = int((compared["delong_p_holm"] < LEVEL).sum())
            sentences.append(
                f"AUC differs (DeLong, p < 0.05 after Holm's correction) in {num_different} of "
                f"{len(compared)} {kind}."
            )
    return sentences


def segmentation_sentences(results: StudyResults) -> list[str]:
    """Report the Dice of test patients' tumours; empty for a study that segments none."""
    overlap = results.tables.get("slice_overlap")
    if overlap is None:
        return []
    rows = overlap[(overlap["phase"] == "test") & (overlap["measure"] == "dice_volume")]
    values = "; ".join(
        f"{network_label(row['network'])} {row['modality']} {read_interval(row, 'value')}"
        for row in rows.to_dict("records")
    )
    return [f"3-D Dice of a fold's segmentation of test patients: {values}."] if values else []


def external_sentence(results: StudyResults, name: str) -> str:
    """Report the AUCs of the finished models on an external cohort."""
    metrics = results.external[name].metrics
    largest = max(metrics.to_dict("records"), key=lambda row: int(row["num_subjects"]))
    main = metrics[metrics["ensemble"].isin(results.main_ensembles)]
    shown = _with_originals_p(metrics).loc[(main if len(main) else metrics).index]
    above = shown[shown["auc_low"] > CHANCE_AUC]
    values = [
        f"{network_label(row['network'])} {row['ensemble']} {read_interval(row, 'auc')}"
        for row in above.to_dict("records")
    ]
    if values:
        finding = f"{_holm_note(above)}: {'; '.join(values)}"
    else:
        finding = ", so better than chance is not shown there"
    return (
        f"External cohort {name} (up to {largest['num_subjects']} subjects, "
        f"{largest['num_methylated']} methylated; nothing was chosen or fitted on it): "
        f"{len(above)} of {len(shown)} AUC intervals lie above 0.5{finding}."
    )


def chance_sentence(network: str, rows: pd.DataFrame) -> str:
    """Report which of a network's ensembles are above or below chance, and for how many neither.

    Args:
        network: label for readers.
        rows: of the network in a metrics table, with columns ensemble, auc, auc_low, auc_high and
            auc_p_holm.

    >>> columns = ["ensemble", "auc", "auc_low", "auc_high", "auc_p_holm"]
    >>> rows = pd.DataFrame([("DSC", 0.6, 0.45, 0.7, 0.4)], columns=columns)
    >>> chance_sentence("Transfer", rows).removesuffix(", so better than chance is not shown.")
    'Transfer: the AUC interval of every ensemble (1) contains 0.5'
    """
    above = rows[rows["auc_low"] > CHANCE_AUC]
    below = rows[rows["auc_high"] < CHANCE_AUC]
    num_open = len(rows) - len(above) - len(below)
    if num_open == len(rows):
        return (
            f"{network}: the AUC interval of every ensemble ({num_open}) contains 0.5, so better "
            "than chance is not shown."
        )
    parts = [
        f"{len(group)} of {len(rows)} ensembles {side} chance{_holm_note(group)}: "
        + "; ".join(f"{r['ensemble']} {read_interval(r, 'auc')}" for r in group.to_dict("records"))
        for side, group in (("above", above), ("below", below))
        if len(group)
    ]
    if num_open:
        parts.append(
            f"for the other {num_open} the AUC interval contains 0.5: better than chance is not "
            "shown"
        )
    return f"{network}: " + ". ".join(part[0].upper() + part[1:] for part in parts) + "."


def _holm_note(rows: pd.DataFrame) -> str:
    """Count the rows, whose intervals exclude chance, that Holm's correction leaves."""
    num_findings = int((rows["auc_p_holm"] < LEVEL).sum())
    return f", {num_findings} of them after Holm’s correction (p < {LEVEL})"


def _in_splits(num_splits: int) -> str:
    if num_splits == 1:
        return ""
    return f", in {num_splits} splits, each subject by models that were trained without it"


def planted_sentence(verdicts: Sequence[PlantedVerdict], signal: bool) -> str:
    """Say how many ensembles agree with the planted signals.

    Args:
        verdicts: of the ensembles, at least one.
        signal: whether any signal was planted.
    """
    wrong = [v for v in verdicts if not v.matches_planted]
    total = len(verdicts)
    if signal:
        if not wrong:
            return f"All {total} ensembles tested agree with the planted signal."
        names = ", ".join(v.ensemble for v in wrong)
        return f"{len(wrong)} of {total} ensembles tested do NOT agree with it: {names}."
    expected = total * 0.05
    return (
        f"No signal was planted: {total - len(wrong)} of {total} AUC intervals contain 0.5. "
        f"About {expected:.1f} of {total} would exclude it by chance alone."
    )


def chance_cell(row: Mapping[Hashable, Any]) -> str:
    r"""Say where an AUC's interval lies, and whether it is a finding after Holm's correction.

    >>> row = {"auc": 0.7, "auc_low": 0.6, "auc_high": 0.8, "copy_of": "", "auc_p_holm": 0.01}
    >>> chance_cell(row)
    'above 0.5,\nalso after Holm'
    >>> chance_cell(row | {"copy_of": "best overall"})
    'above 0.5,\nas best overall'
    """
    auc = read_interval(row, "auc")
    if not auc.excludes(CHANCE_AUC):
        return "contains 0.5"
    side = "above 0.5" if auc.low > CHANCE_AUC else "below 0.5"
    if row["copy_of"]:
        return f"{side},\nas {row['copy_of']}"
    return f"{side},\n{'also' if row['auc_p_holm'] < LEVEL else 'not'} after Holm"
