"""What a study found, in plain words that say how sure it is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from mgmt_ray.figures.style import network_label
from mgmt_ray.report.cautions import cautions
from mgmt_ray.report.gather import StudyResults
from mgmt_ray.selection.best_on_validation import BEST_OVERALL
from mgmt_ray.statistics.intervals import read_interval
from mgmt_ray.statistics.planted_signal import CHANCE_AUC, PlantedVerdict

LEVEL = 0.05
"""P-values below it are called findings, after Holm's correction."""
BASELINE_PREFIX = "against "
"""Begins the name of a comparison of every network's best ensemble with a comparison model."""


def summary_sentences(results: StudyResults) -> list[str]:
    """The summary's sentences, one per line of thought."""
    metrics = results.metrics
    main = metrics[metrics["ensemble"].isin(results.main_ensembles)]
    first = metrics.iloc[0]
    sentences = [
        f"{len(results.members)} trained models were evaluated on {first['num_subjects']} "
        f"held-out subjects, {first['num_methylated']} of them methylated"
        f"{_in_splits(len(results.splits))}. Brackets hold 95\u00a0% intervals."
    ]
    sentences += _best_overall(results)
    sentences += [
        chance_sentence(network_label(network), main[main["network"] == network])
        for network in results.networks
        if network in set(main["network"])
    ]
    sentences += difference_sentences(results)
    sentences.append(
        f"{len(main)} AUC intervals stand here, and about one 95\u00a0% interval in twenty misses "
        "the true value by chance: the best row of many is not a finding by itself."
    )
    sentences += segmentation_sentences(results)
    sentences += [external_sentence(results, name) for name in results.external]
    return sentences + cautions(results)


def _best_overall(results: StudyResults) -> list[str]:
    """One number per network that nothing was chosen for on the test set."""
    rows = results.metrics[results.metrics["ensemble"] == BEST_OVERALL].to_dict("records")
    if not rows:
        return []
    named = "; ".join(f"{network_label(r['network'])} {read_interval(r, 'auc')}" for r in rows)
    return [f"AUC of the ensemble that each network was best with on validation: {named}."]


def difference_sentences(results: StudyResults) -> list[str]:
    """What the comparisons between networks and with comparison models show, after Holm."""
    table = results.comparisons
    main = table[table["comparison"].isin(results.main_ensembles)]
    tested = main[main["friedman_p"].notna()].drop_duplicates("comparison")
    words = []
    if len(tested):
        ranks, errors = (
            int((tested[f"{of}friedman_p_holm"] < LEVEL).sum()) for of in ("", "error_")
        )
        words.append(
            f"Friedman's test (p < 0.05 after Holm's correction) tells the networks' probabilities "
            f"apart in {ranks} of {len(tested)} ensembles, which does not say which network is "
            f"more often right, and their squared errors in {errors}."
        )
    against = table[table["comparison"].str.startswith(BASELINE_PREFIX)]
    for rows, what in ((main, "pairs of networks"), (against, "comparisons with simple models")):
        known = rows[rows["delong_p_holm"].notna()]
        if len(known):
            found = int((known["delong_p_holm"] < LEVEL).sum())
            words.append(
                f"AUC differs (DeLong, p < 0.05 after Holm's correction) in {found} of "
                f"{len(known)} {what}."
            )
    return words


def segmentation_sentences(results: StudyResults) -> list[str]:
    """How well tumours of test patients were found; nothing where none was looked for."""
    overlap = results.tables.get("slice_overlap")
    if overlap is None:
        return []
    rows = overlap[(overlap["phase"] == "test") & (overlap["measure"] == "dice_volume")]
    named = "; ".join(
        f"{network_label(row['network'])} {row['modality']} {read_interval(row, 'value')}"
        for row in rows.to_dict("records")
    )
    return [f"3-D Dice of a fold's segmentation of test patients: {named}."] if named else []


def external_sentence(results: StudyResults, name: str) -> str:
    """How the finished models did on a cohort that had no part in making them."""
    metrics = results.external[name].metrics
    most = max(metrics.to_dict("records"), key=lambda row: int(row["num_subjects"]))
    main = metrics[metrics["ensemble"].isin(results.main_ensembles)]
    shown = main if len(main) else metrics
    above = shown[shown["auc_low"] > CHANCE_AUC]
    named = [
        f"{network_label(row['network'])} {row['ensemble']} {read_interval(row, 'auc')}"
        for row in above.to_dict("records")
    ]
    nothing = ": none, so better than chance is not shown there"
    found = f"{_holm_note(above)}: {'; '.join(named)}" if named else nothing
    return (
        f"External cohort {name} (up to {most['num_subjects']} subjects, {most['num_methylated']} "
        f"methylated; nothing was chosen or fitted on it): {len(above)} of {len(shown)} AUC "
        f"intervals lie above 0.5{found}."
    )


def chance_sentence(network: str, rows: pd.DataFrame) -> str:
    """How many of a network's ensembles are above chance, which, and what is not shown.

    Args:
        network: its name for readers.
        rows: of its ensembles, of a metrics table.
    """
    above = rows[rows["auc_low"] > CHANCE_AUC]
    below = rows[rows["auc_high"] < CHANCE_AUC]
    open_ = len(rows) - len(above) - len(below)
    if open_ == len(rows):
        return (
            f"{network}: the AUC interval of every ensemble ({open_}) contains 0.5, so better than "
            "chance is not shown."
        )
    parts = [
        f"{len(found)} of {len(rows)} ensembles {side} chance{_holm_note(found)}: "
        + "; ".join(f"{r['ensemble']} {read_interval(r, 'auc')}" for r in found.to_dict("records"))
        for side, found in (("above", above), ("below", below))
        if len(found)
    ]
    if open_:
        parts.append(
            f"for the other {open_} the AUC interval contains 0.5: better than chance is not shown"
        )
    return f"{network}: " + ". ".join(part[0].upper() + part[1:] for part in parts) + "."


def _holm_note(rows: pd.DataFrame) -> str:
    """How many of these rows, whose intervals exclude chance, stay after the correction."""
    number = int((rows["auc_p_holm"] < LEVEL).sum())
    return f", {number} of them after Holm’s correction (p < {LEVEL})"


def _in_splits(number: int) -> str:
    if number == 1:
        return ""
    return f", in {number} splits, each subject by models that were trained without it"


def planted_sentence(verdicts: Sequence[PlantedVerdict], signal: bool) -> str:
    """One sentence over all verdicts on what was planted."""
    wrong = [v for v in verdicts if not v.matches_planted]
    total = len(verdicts)
    if signal:
        if not wrong:
            return f"All {total} ensembles judged are as planted."
        named = ", ".join(v.ensemble for v in wrong)
        return f"{len(wrong)} of {total} ensembles judged are NOT as planted: {named}."
    expected = total * 0.05
    return (
        f"No signal was planted: {total - len(wrong)} of {total} AUC intervals contain 0.5. "
        f"About {expected:.1f} of {total} would exclude it by chance alone."
    )


def chance_cell(row: Mapping[Hashable, Any]) -> str:
    """Where an AUC's interval lies, and whether Holm's correction leaves that, for a cell.

    Args:
        row: of a metrics table.
    """
    auc = read_interval(row, "auc")
    if not auc.excludes(CHANCE_AUC):
        return "contains 0.5"
    side = "above 0.5" if auc.low > CHANCE_AUC else "below 0.5"
    return f"{side},\n{'also' if row['auc_p_holm'] < LEVEL else 'not'} after Holm"
